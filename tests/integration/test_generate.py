"""Pictures with an adapter: any pipeline that takes embeddings, same seeds, same pictures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
)
from PIL import Image
from support_diffusion import MARKS, SIDE, make_pipeline
from support_docs import blocks

from surd import adapter as adapters
from surd.adapter.encoding import encode, generate, prompt_inputs
from surd.adapter.module import Adapter, AdapterConfig
from surd.errors import ModelError
from surd.files.contact_sheet import LINE_PX

Surd = Callable[..., Any]
CALL = {"num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np"}

pytestmark = MARKS


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return make_pipeline()


def make_adapter(width: int = 32, learnt: bool = True, **settings: Any) -> Adapter:
    torch.manual_seed(1)
    config = AdapterConfig(width=width, heads=4, feed_forward=32, **settings)
    adapter = Adapter(config)
    if learnt:
        torch.nn.init.normal_(adapter.out.weight, std=2.0)
    return adapter.train()  # generating must switch dropout off


def test_an_adapter_that_has_learnt_nothing_changes_nothing(pipeline: Any) -> None:
    prompts, seeds = ["two red circles", "one blue star"], [3, 4]
    plain = pipeline(
        prompts, generator=[torch.Generator().manual_seed(seed) for seed in seeds], **CALL
    ).images
    base = generate(pipeline, None, prompts, seeds, **CALL)
    fresh = make_adapter(learnt=False, blend="residual", network="encoder")
    np.testing.assert_array_equal(np.stack(base), plain)
    np.testing.assert_array_equal(
        np.stack(generate(pipeline, fresh, prompts, seeds, **CALL)), plain
    )
    learnt = generate(pipeline, make_adapter(), prompts, seeds, **CALL)
    assert np.abs(np.stack(learnt) - plain).max() > 1e-3


BASES: dict[str, Callable[[], Any]] = {
    "Stable Diffusion 1": make_pipeline,
    "Stable Diffusion 2": lambda: make_pipeline("v_prediction"),
    "SDXL": lambda: make_pipeline(xl=True, force_zeros_for_empty_prompt=True),
    "SDXL without zeros": lambda: make_pipeline(xl=True, force_zeros_for_empty_prompt=False),
}


@pytest.mark.parametrize("base", BASES)
def test_the_base_models_picture_is_the_one_its_own_pipeline_draws(base: str) -> None:
    pipeline, prompts, seeds = BASES[base](), ["two red circles", "one blue star"], [3, 4]

    def drawn(**negative: Any) -> Any:
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        return pipeline(prompts, generator=noise, **negative, **CALL).images

    unwanted = ["blurry", "three hearts"]
    plain, steered = drawn(), drawn(negative_prompt=unwanted)
    assert np.abs(plain - steered).max() > 1e-3
    told = generate(pipeline, None, prompts, seeds, **CALL)
    np.testing.assert_array_equal(np.stack(told), plain)
    told = generate(pipeline, None, prompts, seeds, negative_prompts=["", ""], **CALL)
    np.testing.assert_array_equal(np.stack(told), plain)
    told = generate(pipeline, None, prompts, seeds, negative_prompts=unwanted, **CALL)
    np.testing.assert_array_equal(np.stack(told), steered)
    told = generate(pipeline, None, prompts, seeds, negative_prompts=["", "three hearts"], **CALL)
    np.testing.assert_allclose(told[0], plain[0], atol=1e-5)
    np.testing.assert_allclose(told[1], steered[1], atol=1e-5)


def test_the_published_pipelines_embeddings_are_reproduced_one_prompt_at_a_time(
    pipeline: Any,
) -> None:
    adapter = make_adapter(attend="batch")
    prompts, unwanted = ["two red circles", "one blue star"], ["blurry", ""]
    inputs = prompt_inputs(pipeline, adapter, prompts, unwanted, adapt_negative=True)
    for row, texts in enumerate(zip(unwanted, prompts, strict=True)):
        # as published: negative and positive below each other, through the adapter in one call
        both = torch.cat([encode(pipeline, [text]).states for text in texts])
        with torch.no_grad():
            negative, positive = adapter.eval()(both).embeddings
            apart = adapter(both[1:]).embeddings[0]
        torch.testing.assert_close(inputs["negative_prompt_embeds"][row], negative)
        torch.testing.assert_close(inputs["prompt_embeds"][row], positive)
        assert (apart - positive).abs().max() > 1e-3, "they look at each other"


@pytest.mark.parametrize("attend", ["tokens", "batch"])
def test_a_picture_does_not_depend_on_those_beside_it_nor_on_dropout(
    pipeline: Any, attend: Any
) -> None:
    adapter = make_adapter(dropout=0.5, attend=attend)
    prompts = ["two red circles", "one blue star", "three hearts"]
    together = generate(pipeline, adapter, prompts, [1, 2, 3], **CALL)
    alone = generate(pipeline, adapter, prompts[1:2], [2], **CALL)
    np.testing.assert_allclose(together[1], alone[0], atol=1e-4)


def test_the_negative_prompt_is_left_alone_unless_asked(pipeline: Any) -> None:
    adapter, prompts = make_adapter(), ["two red circles"]
    inputs = prompt_inputs(pipeline, adapter, prompts, ["blurry"])
    torch.testing.assert_close(
        inputs["negative_prompt_embeds"], encode(pipeline, ["blurry"]).states
    )
    adapted = prompt_inputs(pipeline, adapter, prompts, ["blurry"], adapt_negative=True)
    assert not torch.equal(adapted["negative_prompt_embeds"], inputs["negative_prompt_embeds"])
    torch.testing.assert_close(adapted["prompt_embeds"], inputs["prompt_embeds"])


def test_image_to_image_and_controlnet_take_the_same_embeddings(pipeline: Any) -> None:
    adapter, prompt, seed = make_adapter(), ["two red circles"], [5]
    shown = Image.fromarray(np.full((SIDE, SIDE, 3), 90, np.uint8))
    control = ControlNetModel.from_unet(
        pipeline.unet, conditioning_channels=3, conditioning_embedding_out_channels=(8, 16)
    )
    torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight)
    parts = {**pipeline.components, "requires_safety_checker": False}
    kinds: dict[str, tuple[Any, dict[str, Any]]] = {
        "img2img": (StableDiffusionImg2ImgPipeline(**parts), {"strength": 0.9}),
        "controlnet": (StableDiffusionControlNetPipeline(**parts, controlnet=control), {}),
    }
    for name, (other, more) in kinds.items():
        other.set_progress_bar_config(disable=True)
        with_it = generate(other, adapter, prompt, seed, image=shown, **CALL, **more)
        without = generate(other, None, prompt, seed, image=shown, **CALL, **more)
        assert np.abs(with_it[0] - without[0]).max() > 1e-4, name


def test_sdxl_keeps_its_pooled_embedding(tmp_path: Path) -> None:
    pipeline = make_pipeline(xl=True)
    prompts = ["two red circles"]
    plain = encode(pipeline, prompts)
    inputs = prompt_inputs(pipeline, make_adapter(width=64), prompts)
    assert plain.pooled is not None
    torch.testing.assert_close(inputs["pooled_prompt_embeds"], plain.pooled)
    assert not inputs["negative_pooled_prompt_embeds"].any(), "as SDXL is made by default"
    assert inputs["prompt_embeds"].shape == plain.states.shape == (1, 40, 64)
    (picture,) = generate(pipeline, make_adapter(width=64), prompts, [0], **CALL)
    assert picture.shape == (SIDE, SIDE, 3)


def test_an_adapter_of_another_width_is_one_line(pipeline: Any) -> None:
    with pytest.raises(
        ModelError, match=r"width 64, but those of this diffusion model have width 32"
    ):
        generate(pipeline, make_adapter(width=64), ["a"], [0], **CALL)


def test_a_pipeline_without_a_unet_is_one_line() -> None:
    parts = ("transformer", "scheduler", "vae", *(f"text_encoder{n}" for n in ("", "_2", "_3")))
    tokenizers = (f"tokenizer{n}" for n in ("", "_2", "_3"))
    pipeline = StableDiffusion3Pipeline(**dict.fromkeys((*parts, *tokenizers)))
    with pytest.raises(ModelError, match="a StableDiffusion3Pipeline has no UNet; use a text-to"):
        prompt_inputs(pipeline, make_adapter(), ["a"])


def test_the_command_writes_the_same_picture_every_time(
    surd: Surd, pipeline: Any, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "sd")
    about = {"training": {"diffusion": str(tmp_path / "sd")}}
    adapters.save(make_adapter(), tmp_path / "run", about=about)
    told = ("generate", "Two red cups!", "a cat", "--adapter", tmp_path / "run", "--steps", 2)
    ran = surd(*told, "--count", 2, "--compare", "-o", tmp_path / "a")
    assert ran.code == 0, ran.err
    cups = "two-red-cups.5fbaefdb"  # of words that are not the whole prompt, a hash too
    names = ["a-cat-0.png", "a-cat-1.png", f"{cups}-0.png", f"{cups}-1.png"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert all(str(tmp_path / "a" / name) in ran.out for name in names)
    sheet = Image.open(tmp_path / "a" / names[0])
    assert sheet.size == (2 * SIDE, LINE_PX + SIDE)
    line = np.asarray(sheet)[:LINE_PX]  # which says which side is which
    assert line[:, :SIDE].min() < 128 and line[:, SIDE:].min() < 128
    surd(*told, "--seed", 1, "-o", tmp_path / "b")
    alone = np.asarray(Image.open(tmp_path / "b" / "a-cat-1.png"))
    right = np.asarray(Image.open(tmp_path / "a" / "a-cat-1.png"))[LINE_PX:, SIDE:]
    assert np.abs(alone.astype(int) - right).max() <= 1, (
        "in another batch, and so rounded otherwise"
    )
    (tmp_path / "b" / f"{cups}-1.png").write_bytes(b"mine")
    Image.new("RGB", (8, 8)).save(tmp_path / "b" / "a-cat-1.png")
    for name in (f"{cups}-1.png", "a-cat-1.png"):
        there = (tmp_path / "b" / name).read_bytes()
        ran = surd(*told, "--seed", 1, "-o", tmp_path / "b")
        assert ran.code == 2 and f"{name}: already exists" in ran.err
        assert (tmp_path / "b" / name).read_bytes() == there
        (tmp_path / "b" / name).unlink()
    assert surd(*told, "--seed", 1, "-o", tmp_path / "b").code == 0
    assert surd(*told, "--seed", 1, "-o", tmp_path / "b").code == 0, "its own are drawn anew"


def test_surd_reads_how_its_own_pictures_were_drawn(
    surd: Surd, pipeline: Any, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "sd")
    run = tmp_path / "secret" / "cups"
    adapters.save(make_adapter(), run, about={"training": {"diffusion": str(tmp_path / "sd")}})
    prompt, out = "zwei rote Tassen, 漆", tmp_path / "out"
    told = ("--adapter", run, "--seed", 5, "--steps", 2, "--guidance", 3.5)
    negative = ("--negative", "blurry")
    assert surd("generate", prompt, *told, *negative, "-o", out).code == 0
    (path,) = out.iterdir()
    generation = json.loads(surd("inspect", path, "--json").out)
    assert generation["prompt"] == prompt and generation["negative_prompt"] == "blurry"
    assert (generation["generator"], generation["model"]) == ("surd", "sd")
    settings = generation["settings"]
    drawn = {"steps": 2, "cfg_scale": 3.5, "seed": 5, "Adapter": "cups", "sampler": "DDIM"}
    assert settings | drawn == settings and len(settings["Adapter hash"]) == 10
    assert b"secret" not in path.read_bytes()
    assert surd("generate", prompt, *told, "--compare", "-o", out / "sheets").code == 0
    (path,) = (out / "sheets").iterdir()
    written = Image.open(path).info["parameters"]
    assert "Left: without adapter, Right: with adapter" in written and "Negative" not in written


def test_a_prompt_that_is_cut_is_told_so(
    surd: Surd, pipeline: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline.save_pretrained(tmp_path / "sd")
    adapters.save(make_adapter(), tmp_path / "run")
    told = ("generate", "--adapter", tmp_path / "run", "--diffusion", tmp_path / "sd", "--steps", 1)
    assert surd(*told, "a cat", "-o", tmp_path / "a").code == 0
    assert caplog.messages == []
    assert surd(*told, "red " * 38, "red " * 39, "-o", tmp_path / "b").code == 0
    (message,) = caplog.messages
    assert message == f"{('red ' * 39)[:40]}…: too long; the text encoder reads the first 40 tokens"


def test_bad_input_is_one_line(surd: Surd, tmp_path: Path) -> None:
    ran = surd("generate", "a cat", "--adapter", tmp_path)
    assert ran.code == 2 and "no adapter here" in ran.err
    adapters.save(make_adapter(), tmp_path / "run")
    ran = surd("generate", "a cat", "--adapter", tmp_path / "run")
    assert ran.code == 2 and "pass --diffusion" in ran.err
    ran = surd("generate", "a cat", "--adapter", tmp_path / "run" / "adapter_config.json")
    assert ran.code == 2 and "is a file; name the folder of the adapter" in ran.err
    ran = surd("generate", "caf\udce9", "--adapter", tmp_path / "run")
    assert ran.code == 2 and "prompt 'caf\\udce9': not valid Unicode" in ran.err
    ran = surd("generate", "a cat", "--adapter", tmp_path / "run", "--guidance", "1e30")
    assert ran.code == 2 and "less than or equal to 1000" in ran.err
    ran = surd("generate", "a cat", "--adapter", tmp_path / "run", "--diffusion", "./no")
    assert ran.code == 2 and "./no: no such folder" in ran.err
    for seed in (2**64 - 1, 2**64, -(2**63) - 1):
        ran = surd("generate", "a cat", "--adapter", tmp_path, "--seed", seed, "--count", 2)
        assert ran.code == 2 and "must be from -2^63 to 2^64 - 1" in ran.err
        assert ran.err.count("\n") == 1


def test_no_two_prompts_share_a_picture_and_no_name_is_too_long(
    surd: Surd, pipeline: Any, tmp_path: Path
) -> None:
    pipeline.save_pretrained(tmp_path / "sd")
    about = {"training": {"diffusion": str(tmp_path / "sd")}}
    adapters.save(make_adapter(), tmp_path / "run", about=about)
    prompts = ["cup", "cup!", "cup?", "Cup", "!", "?", "\U0001d4d0" * 80, "\U0001d4d0" * 81]
    prompts += ["x" * 60, "x" * 61, "two cups", "two-cups"]
    told = (
        "--adapter",
        tmp_path / "run",
        "--steps",
        1,
        "-o",
        tmp_path / "out",
        "--seed",
        2**64 - 1,
    )
    ran = surd("generate", *prompts, *told)
    assert ran.code == 0, ran.err
    names = [path.name for path in (tmp_path / "out").iterdir()]
    assert len({name.lower() for name in names}) == len(prompts)
    assert {f"{stem}-{2**64 - 1}.png" for stem in ("cup", "two-cups", "x" * 60)} <= {*names}


@pytest.mark.filterwarnings("ignore:invalid value")
def test_a_picture_of_nan_is_one_line_and_not_black(pipeline: Any) -> None:
    broken = make_pipeline()
    with torch.no_grad():
        broken.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"drew NaN or infinity in float32; .*CUDA_VISIBLE"):
        generate(broken, None, ["two red cups"], [0], num_inference_steps=1)


def test_encoding_a_string_is_encoding_one_prompt(pipeline: Any) -> None:
    both = (encode(pipeline, text).states for text in ("two red cups", ["two red cups"]))
    assert torch.equal(*both)


def test_no_prompts_no_steps_and_half_characters_are_one_line(pipeline: Any) -> None:
    with pytest.raises(ModelError, match="no prompts"):
        prompt_inputs(pipeline, None, [])
    with pytest.raises(ModelError, match="no prompts"):
        generate(pipeline, None, [], [], **CALL)
    with pytest.raises(ModelError, match=r"not valid Unicode; write it in UTF-8"):
        prompt_inputs(pipeline, None, ["a cup", "\udcff cup"])
    with pytest.raises(ModelError, match="0 steps: this diffusion model takes 1 to"):
        generate(pipeline, None, "a cup", [0], **{**CALL, "num_inference_steps": 0})
    (one,) = generate(pipeline, None, "a cup", np.array([3]), **CALL)
    (other,) = generate(pipeline, None, "a cup", [3], **CALL)
    np.testing.assert_array_equal(one, other)


def test_a_string_is_one_prompt_and_one_negative_is_that_of_all(pipeline: Any) -> None:
    adapter, several = make_adapter(), ["two red cups", "a cat"]
    one = prompt_inputs(pipeline, adapter, "two red cups", "blurry")
    assert one["prompt_embeds"].shape[0] == one["negative_prompt_embeds"].shape[0] == 1
    for negative in ("blurry", ["blurry"], ["blurry", "blurry"]):
        both = prompt_inputs(pipeline, adapter, several, negative)
        assert len(both["prompt_embeds"]) == len(both["negative_prompt_embeds"]) == 2
        for name, value in one.items():
            torch.testing.assert_close(both[name][:1], value)
    (picture,) = generate(pipeline, adapter, "two red cups", [0], **CALL)
    assert picture.shape == (SIDE, SIDE, 3)
    for says, call in {
        "3 negative prompts for 2 prompts": lambda: prompt_inputs(
            pipeline, adapter, several, ["a", "b", "c"]
        ),
        "0 negative prompts for 2 prompts": lambda: prompt_inputs(pipeline, adapter, several, []),
        "1 seeds for 2 prompts": lambda: generate(pipeline, adapter, several, [0]),
    }.items():
        with pytest.raises(ModelError, match=says):
            call()


def test_every_example_of_the_page_on_using_an_adapter_draws(
    pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipeline.save_pretrained("sd")
    ControlNetModel.from_unet(
        pipeline.unet, conditioning_embedding_out_channels=(4, 8)
    ).save_pretrained("control")
    adapters.save(make_adapter(), "run", about={"training": {"diffusion": "sd"}})
    Image.new("RGB", (SIDE, SIDE)).save("sketch.png")
    Image.new("RGB", (SIDE, SIDE)).save("edges.png")
    swaps = {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd",
        "lllyasviel/control_v11p_sd15_canny": "control",
        "my-data/adapter/run": "run",
        '"cuda"': '"cpu"',
        "torch.float16": "torch.float32",
        "pipeline(**inputs": "pipeline(**inputs, num_inference_steps=2",
    }
    page = Path(__file__).parents[2] / "docs" / "use.md"
    examples = [block.text for block in blocks(page) if block.language == "python"]
    assert len(examples) == 3
    for text in examples:
        for old, new in swaps.items():
            text = text.replace(old, new)
        drawn: dict[str, Any] = {}
        exec(text, drawn)
        picture = drawn.get("picture") or Image.open("cups.png")
        assert picture.size[0] % SIDE == 0, text
