"""Generation parameters in image files: what each generator writes, and what must not hurt."""

from __future__ import annotations

import json
import random
import struct
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from surd.sources import metadata

REAL = Path(__file__).parents[4] / "shared" / "real" / "images_with_metadata"
A1111 = (
    "a duck, (flat:1.2)\nNegative prompt: blurry\n"
    "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 42, Size: 512x768, "
    "Model hash: c0d1994c73, Model: duckMix_v1, Clip skip: 2"
)


def png(**texts: str) -> bytes:
    info = PngImagePlugin.PngInfo()
    for keyword, text in texts.items():
        info.add_text(keyword.replace("_md", "-metadata"), text)
    return saved("PNG", pnginfo=info)


def saved(format_: str, **options: Any) -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 4)).save(file, format_, **options)
    return file.getvalue()


def with_comment(format_: str, comment: bytes | str, *, in_exif_folder: bool = True) -> bytes:
    exif = Image.Exif()
    if in_exif_folder:
        exif.get_ifd(0x8769)[0x9286] = comment
    else:
        exif[0x9286] = comment
    return saved(format_, exif=exif)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def comfy_graph(**more: Any) -> dict[str, Any]:
    return {
        "3": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 7,
                "steps": 20,
                "cfg": 8.0,
                "sampler_name": "euler",
                "denoise": 1.0,
                "model": ["4", 0],
                "positive": ["6", 0],
                "negative": ["7", 0],
                "latent_image": ["5", 0],
            },
        },
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.ckpt"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 640}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a duck", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        **more,
    }


def read(data: bytes) -> metadata.Found:
    generation = metadata.read(data)
    assert generation.generator is not None
    json.dumps(generation.settings, allow_nan=False)
    return generation


def assert_is_the_a1111_example(generation: metadata.Found) -> None:
    assert generation.generator == "AUTOMATIC1111"
    assert generation.prompt == "a duck, (flat:1.2)"
    assert generation.negative_prompt == "blurry"
    assert generation.model == "duckMix_v1"
    wanted = {
        "generator": "AUTOMATIC1111",
        "sampler": "Euler a",
        "seed": 42,
        "steps": 20,
        "cfg_scale": 7.5,
        "width": 512,
        "height": 768,
        "Clip skip": "2",
    }
    assert {key: generation.settings[key] for key in wanted} == wanted
    assert list(generation.settings["raw"].values()) == [A1111]


def test_automatic1111_writes_a_png_text_chunk() -> None:
    assert_is_the_a1111_example(read(png(parameters=A1111)))


@pytest.mark.parametrize("format_", ["JPEG", "WEBP"])
@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + A1111.encode("utf-16-be"),
        b"UNICODE\0" + A1111.encode("utf-16-le"),
        b"UNICODE\0" + A1111.encode("utf-16"),
        b"ASCII\0\0\0" + A1111.encode(),
        bytes(8) + A1111.encode(),
    ],
    ids=["utf-16-be", "utf-16-le", "utf-16 with mark", "ascii", "undefined"],
)
def test_automatic1111_writes_a_user_comment_in_any_charset(format_: str, comment: bytes) -> None:
    assert_is_the_a1111_example(read(with_comment(format_, comment)))


def test_each_image_gets_its_own_comment() -> None:
    for i in range(50):
        text = A1111.replace("a duck", f"duck {i}")
        data = with_comment("JPEG", b"UNICODE\0" + text.encode("utf-16-be"))
        assert (read(data).prompt or "").startswith(f"duck {i},")
        assert metadata.read(saved("JPEG")) == metadata.Found()


def test_a_second_negative_prompt_stays_in_the_negative_prompt() -> None:
    text = A1111.replace("blurry", "blurry\nNegative prompt: dark")
    assert (read(png(parameters=text)).negative_prompt or "").split() == ["blurry", "dark"]


def test_pieces_of_json_among_the_parameters_do_not_become_settings() -> None:
    text = A1111 + ', Civitai resources: [{"type":"checkpoint","modelVersionId":2}]'
    assert not [key for key in read(png(parameters=text)).settings if '"' in key]


def test_text_chunks_after_the_pixels_are_read() -> None:
    data = saved("PNG")
    end = data.index(b"IEND") - 4
    late = chunk(b"tEXt", b"parameters\0" + A1111.encode())
    assert_is_the_a1111_example(read(data[:end] + late + data[end:]))


def test_text_of_a_file_that_ends_early_is_read() -> None:
    data = png(parameters=A1111)
    assert_is_the_a1111_example(read(data[: data.index(b"IDAT") + 6]))


def test_comfyui_graph_may_hold_nan() -> None:
    graph = comfy_graph()
    graph["3"]["inputs"]["denoise"] = float("nan")
    generation = read(png(prompt=json.dumps(graph), workflow='{"links": [], "scale": NaN}'))
    assert generation.generator == "ComfyUI"
    assert generation.prompt == "a duck"
    assert generation.negative_prompt == "blurry"
    assert generation.model == "sd15.ckpt"
    wanted = {
        "sampler": "euler",
        "seed": 7,
        "steps": 20,
        "cfg_scale": 8.0,
        "width": 512,
        "height": 640,
        "denoise": None,
    }
    assert {key: generation.settings[key] for key in wanted} == wanted


def test_comfyui_graph_is_enough_without_the_editors_workflow() -> None:
    assert read(png(prompt=json.dumps(comfy_graph()))).prompt == "a duck"


def test_comfyui_prompts_of_several_samplers_are_joined_longest_first_and_once() -> None:
    second = json.loads(json.dumps(comfy_graph()["3"]))
    second["inputs"]["positive"] = ["9", 0]
    third = json.loads(json.dumps(second))
    encode = {"class_type": "CLIPTextEncode", "inputs": {"text": "a duck in a hat"}}
    graph = comfy_graph(**{"8": second, "9": encode, "10": third})
    generation = read(png(prompt=json.dumps(graph)))
    assert generation.prompt == "a duck in a hat, a duck"
    assert generation.negative_prompt == "blurry"


def test_comfyui_prompts_behind_a_controlnet_are_not_mixed_up() -> None:
    inputs = {"positive": ["6", 0], "negative": ["7", 0], "strength": 1.0}
    graph = comfy_graph(**{"8": {"class_type": "ControlNetApplyAdvanced", "inputs": inputs}})
    graph["3"]["inputs"] |= {"positive": ["8", 0], "negative": ["8", 1]}
    generation = read(png(prompt=json.dumps(graph)))
    assert (generation.prompt, generation.negative_prompt) == ("a duck", "blurry")


def test_comfyui_checkpoint_is_found_behind_a_lora() -> None:
    inputs = {"lora_name": "hats", "model": ["4", 0], "clip": ["4", 1]}
    graph = comfy_graph(**{"8": {"class_type": "LoraLoader", "inputs": inputs}})
    graph["3"]["inputs"]["model"] = ["8", 0]
    assert read(png(prompt=json.dumps(graph))).model == "sd15.ckpt"


def test_comfyui_zeroed_prompt_is_no_negative_prompt() -> None:
    zero = {"class_type": "ConditioningZeroOut", "inputs": {"conditioning": ["6", 0]}}
    graph = comfy_graph(**{"8": zero})
    graph["3"]["inputs"]["negative"] = ["8", 0]
    assert read(png(prompt=json.dumps(graph))).negative_prompt is None


def test_comfyui_prompts_of_sdxl_and_flux_encoders_are_read() -> None:
    graph = comfy_graph()
    graph["6"] = {"class_type": "CLIPTextEncodeFlux", "inputs": {"t5xxl": "a tall duck"}}
    graph["7"] = {"class_type": "CLIPTextEncodeSDXL", "inputs": {"text_g": "dark", "text_l": "x"}}
    generation = read(png(prompt=json.dumps(graph)))
    assert (generation.prompt, generation.negative_prompt) == ("a tall duck", "dark, x")


def test_comfyui_samplers_in_pieces_are_put_together() -> None:
    graph = comfy_graph(
        **{
            "10": {"class_type": "RandomNoise", "inputs": {"noise_seed": 11}},
            "11": {"class_type": "KSamplerSelect", "inputs": {"sampler_name": "heun"}},
            "12": {"class_type": "BasicScheduler", "inputs": {"steps": 4, "model": ["14", 0]}},
            "13": {
                "class_type": "BasicGuider",
                "inputs": {"model": ["14", 0], "conditioning": ["6", 0]},
            },
            "14": {"class_type": "UNETLoader", "inputs": {"unet_name": "flux1-schnell"}},
        }
    )
    pieces = {"noise": ["10", 0], "sampler": ["11", 0], "sigmas": ["12", 0], "guider": ["13", 0]}
    graph["3"] = {"class_type": "SamplerCustomAdvanced", "inputs": pieces}
    generation = read(png(prompt=json.dumps(graph)))
    assert (generation.prompt, generation.negative_prompt) == ("a duck", None)
    assert generation.model == "flux1-schnell"
    wanted = {"sampler": "heun", "seed": 11, "steps": 4, "width": 512}
    assert {key: generation.settings[key] for key in wanted} == wanted
    guider = {"model": ["14", 0], "positive": ["6", 0], "negative": ["7", 0], "cfg": 3.5}
    graph["13"] = {"class_type": "CFGGuider", "inputs": guider}
    generation = read(png(prompt=json.dumps(graph)))
    assert (generation.prompt, generation.negative_prompt) == ("a duck", "blurry")
    assert generation.settings["cfg_scale"] == 3.5


def test_comfyui_writes_its_graph_into_webp_as_a_camera_model() -> None:
    exif = Image.Exif()
    exif[0x0110] = "prompt:" + json.dumps(comfy_graph())
    assert read(saved("WEBP", exif=exif)).prompt == "a duck"


def test_invokeai_metadata_of_version_3_and_4_is_read() -> None:
    for name in ("model_name", "name", "key"):
        fields = {
            "positive_prompt": "a duck",
            "negative_prompt": "blurry",
            "scheduler": "euler",
            "seed": 42,
            "steps": 20,
            "cfg_scale": 7.5,
            "width": 512,
            "height": 768,
            "model": {name: "duckMix", "hash": "c0d1"},
        }
        generation = read(png(invokeai_metadata=json.dumps(fields)))
        assert generation.generator == "InvokeAI"
        assert (generation.prompt, generation.negative_prompt) == ("a duck", "blurry")
        assert generation.model == ("duckMix" if name != "key" else "c0d1")
        assert generation.settings["sampler"] == "euler"
        assert generation.settings["seed"] == 42


def test_invokeai_sd_metadata_is_read() -> None:
    image = {
        "prompt": [{"prompt": "a duck [blurry], in a hat", "weight": 1.0}],
        "sampler": "k_lms",
        "seed": 42,
        "steps": 20,
        "cfg_scale": 5,
        "width": 512,
        "height": 768,
    }
    fields = {"model_weights": "duckMix", "model_hash": "c0d1", "image": image}
    generation = read(png(sd_md=json.dumps(fields)))
    assert (generation.prompt, generation.negative_prompt) == ("a duck, in a hat", "blurry")
    assert generation.model == "duckMix"


def test_invokeai_dream_command_is_read() -> None:
    generation = read(png(Dream='"a duck [blurry]" -s 20 -S 42 -W 512 -H 768 -C 7.5 -A k_lms'))
    assert (generation.prompt, generation.negative_prompt) == ("a duck", "blurry")
    wanted = {"seed": 42, "steps": 20, "cfg_scale": 7.5, "width": 512, "height": 768}
    assert {key: generation.settings[key] for key in wanted} == wanted


def test_novelai_is_read() -> None:
    comment = {"sampler": "k_euler", "seed": 42, "steps": 28, "scale": 11.0, "uc": "blurry"}
    generation = read(
        png(
            Title="AI generated image",
            Software="NovelAI",
            Description="a duck, {{flat}}",
            Source="Stable Diffusion 1D44365E",
            Comment=json.dumps(comment),
        )
    )
    assert generation.generator == "NovelAI"
    assert (generation.prompt, generation.negative_prompt) == ("a duck, {{flat}}", "blurry")
    assert generation.model == "Stable Diffusion"
    assert generation.settings["cfg_scale"] == 11.0
    assert generation.settings["steps"] == 28


FOOOCUS = json.dumps(
    {
        "prompt": "a duck",
        "negative_prompt": "blurry",
        "base_model": "juggernautXL",
        "base_model_hash": "c0d1",
        "guidance_scale": 4.0,
        "sampler": "dpmpp_2m",
        "seed": "42",
        "scheduler": "karras",
        "steps": 30,
        "resolution": "(896, 1152)",
        "sharpness": 2.0,
        "version": "Fooocus v2.5.0",
        "metadata_scheme": "fooocus",
    }
)


@pytest.mark.parametrize(
    "data",
    [
        png(parameters=FOOOCUS, fooocus_scheme="fooocus"),
        with_comment("JPEG", FOOOCUS, in_exif_folder=False),
        with_comment("WEBP", FOOOCUS.encode(), in_exif_folder=False),
    ],
    ids=["png", "jpeg", "webp"],
)
def test_fooocus_is_read(data: bytes) -> None:
    generation = read(data)
    assert generation.generator == "Fooocus"
    assert (generation.prompt, generation.negative_prompt) == ("a duck", "blurry")
    assert generation.model == "juggernautXL"
    wanted = {"seed": 42, "steps": 30, "cfg_scale": 4.0, "width": 896, "height": 1152}
    assert {key: generation.settings[key] for key in wanted} == wanted


def test_a_prompt_of_a_megabyte_with_nul_and_lone_surrogates_passes_through() -> None:
    prompt = "duck \0\ud800 " * 100_000
    graph = comfy_graph()
    graph["6"]["inputs"]["text"] = prompt
    generation = read(png(prompt=json.dumps(graph)))
    assert generation.prompt == prompt.strip()
    assert generation.settings["raw"] == {}


def test_texts_from_somewhere_else_are_read_alike() -> None:
    found = metadata.read_texts({"parameters": A1111, "note": "written beside the picture"})
    assert (found.prompt, found.model) == ("a duck, (flat:1.2)", "duckMix_v1")
    assert found.settings["not_understood"] == {"note": "written beside the picture"}


def test_files_without_parameters_give_nothing() -> None:
    for format_ in ("PNG", "JPEG", "WEBP"):
        assert metadata.read(saved(format_)) == metadata.Found()
    assert metadata.read(png(Comment="Created with GIMP", Description="holidays")).settings == {}
    assert metadata.read(b"") == metadata.Found()
    assert metadata.read(b"<html>") == metadata.Found()


def test_parameters_are_read_whatever_size_the_picture_claims_to_have() -> None:
    data = bytearray(png(parameters=A1111))
    data[16:33] = struct.pack(">II", 100_000, 100_000) + data[24:29] + bytes(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_the_a1111_example(read(bytes(data)))


def test_a_jpeg_of_too_many_pixels_is_read_without_decoding_one() -> None:
    data = bytearray(with_comment("JPEG", b"UNICODE\0" + A1111.encode("utf-16-be")))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_is_the_a1111_example(read(bytes(data)))


def test_a_fault_of_a_reader_leaves_the_text_to_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(texts: object) -> None:
        raise RecursionError("a fault")

    monkeypatch.setattr(metadata.dialects, "read", breaks)
    read = metadata.read(png(parameters=A1111, Title="a duck"))
    assert read.prompt is None
    assert read.settings == {"not_understood": {"PNG parameters": A1111}}


def test_text_bombs_are_not_expanded() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    start = saved("PNG")[:33]
    assert metadata.read(start + chunk(b"zTXt", b"parameters\0\0" + bomb)) == metadata.Found()
    harmless = chunk(b"zTXt", b"Holidays\0\0" + bomb)
    text = chunk(b"tEXt", b"parameters\0" + A1111.encode())
    assert_is_the_a1111_example(read(start + harmless + text))


@pytest.mark.parametrize(
    "texts",
    [
        {"prompt": "[" * 100_000},
        {"prompt": json.dumps({str(i): {"inputs": {"a": [str(i), 0]}} for i in range(50_000)})},
        {"prompt": '{"1": {"inputs": 5}, "2": 7}'},
        {"parameters": "Hashes: {" * 100_000},
        {"parameters": "[1, 2]"},
        {"Dream": '"x"' + " " * 200_000 + "y"},
        {"Source": "a" + " " * 200_000 + "b", "Comment": '{"sampler": "x"}', "Description": "x"},
        {"invokeai_metadata": "[]"},
        {"sd_md": '{"image": {"sampler": "x", "prompt": 5}}'},
    ],
)
def test_hostile_texts_neither_raise_nor_hang(texts: dict[str, str]) -> None:
    metadata.read(png(**texts))


@settings(max_examples=150)
@given(st.sampled_from(["png", "jpeg", "webp"]), st.integers(0, 2**32))
def test_damaged_files_never_raise(kind: str, seed: int) -> None:
    comment = b"UNICODE\0" + A1111.encode("utf-16-be")
    whole = {
        "png": png(parameters=A1111, prompt=json.dumps(comfy_graph())),
        "jpeg": with_comment("JPEG", comment),
        "webp": with_comment("WEBP", comment),
    }[kind]
    dice = random.Random(seed)
    data = bytearray(whole)
    for _ in range(dice.randint(1, 8)):
        data[dice.randrange(len(data))] = dice.randrange(256)
    metadata.read(bytes(data[: dice.randint(0, len(data))] if dice.random() < 0.3 else data))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not part of the repository")
@pytest.mark.parametrize(
    ("name", "generator", "prompt", "negative_prompt", "model", "settings"),
    [
        (
            name, "AUTOMATIC1111", "photo of a duck", "monochrome",
            "realistic_realisticVisionV20_v20",
            {"sampler": "UniPC", "seed": 235284042, "steps": 15, "cfg_scale": 5, "width": 512,
             "height": 400},
        )
        for name in ("automatic1111_cropped.jpg", "automatic1111_cropped.png")
    ]
    + [
        (
            "img2img_cropped.png", "ComfyUI",
            "photograph of victorian woman with wings, sky clouds, meadow grass",
            "watermark, text", "v1-5-pruned-emaonly.ckpt",
            {"sampler": "sample_dpmpp_2m", "seed": 280823642470253, "steps": 20,
             "cfg_scale": 8.0, "denoise": 0.8700000000000001},
        ),
        (
            "invokeai_sdmeta1.png", "InvokeAI",
            "professional full body photo of young woman, hyper long brunette hair, elegant hair, "
            "wearing a bikini top and asymmetric short skirt, curvy body, long legs, "
            "(imperfect skin), detailed skin, intense freckles, super long eye lashes, at night, "
            "outside, city background, 8k ultra detailed, realistic, high quality, film grain, "
            "low contrast",
            "rendering, glowing eyes, skinny", "deliberateForInvoke_v08",
            {"sampler": "k_lms", "seed": 2980747362, "steps": 50, "cfg_scale": 5, "width": 512,
             "height": 768},
        ),
    ],
)  # fmt: skip
def test_real_files_give_what_their_generators_wrote(
    name: str,
    generator: str,
    prompt: str,
    negative_prompt: str,
    model: str,
    settings: dict[str, Any],
) -> None:
    generation = read((REAL / name).read_bytes())
    assert generation.generator == generator
    assert generation.prompt == prompt
    assert generation.negative_prompt == negative_prompt
    assert generation.model == model
    assert {key: generation.settings[key] for key in settings} == settings
