"""Diffusion models as people have them: folders, variants, pickles, single files, damaged ones."""

from __future__ import annotations

import json
import shutil
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from support_diffusion import MARKS, make_pipeline
from support_single_file import in_the_cache, single_weights, write_config, write_single
from transformers import CLIPConfig, CLIPImageProcessor

from surd.errors import ModelError
from surd.models import hub
from surd.models.diffusion import load_pipeline
from surd.models.names import identity, public_name

Surd = Callable[..., Any]

pytestmark = MARKS

SD, XL = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that does not answer, and an empty cache."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "_answered", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)


def assert_same_weights(one: Any, other: Any) -> None:
    for part in ("unet", "vae", "text_encoder", "text_encoder_2"):
        if hasattr(one, part):
            left, right = (getattr(p, part).state_dict() for p in (one, other))
            assert left.keys() == right.keys()
            for name, value in left.items():
                torch.testing.assert_close(right[name], value, rtol=0, atol=0)


def refused(name: Path | str) -> str:
    with pytest.raises(ModelError) as caught:
        load_pipeline(str(name))
    line = str(caught.value)
    assert "\n" not in line
    return line


# Folders


def test_a_folder_that_holds_a_variant_only_is_loaded(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    pipeline.to(torch.float16).save_pretrained(tmp_path / "sd", variant="fp16")
    assert all(".fp16." in path.name for path in tmp_path.rglob("*.safetensors"))
    assert_same_weights(pipeline.to(torch.float32), load_pipeline(str(tmp_path / "sd")))


def test_a_variant_for_one_part_only_is_loaded_beside_the_others(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path / "sd")
    path = tmp_path / "sd" / "text_encoder" / "model.safetensors"
    path.rename(path.with_name("model.fp16.safetensors"))
    assert_same_weights(pipeline, load_pipeline(str(tmp_path / "sd")))


def test_of_a_folder_with_both_the_whole_precision_is_loaded(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path / "sd")
    make_pipeline().to(torch.float16).save_pretrained(tmp_path / "sd", variant="fp16")
    assert_same_weights(pipeline, load_pipeline(str(tmp_path / "sd")))


def test_a_variant_is_loaded_from_the_hubs_cache(tmp_path: Path) -> None:
    pipeline = make_pipeline(xl=True)
    pipeline.to(torch.float16).save_pretrained(tmp_path / "xl", variant="fp16")
    in_the_cache(tmp_path / "cache", "me/xl", tmp_path / "xl")
    assert_same_weights(pipeline.to(torch.float32), load_pipeline("me/xl"))


def test_a_folder_of_pickles_is_loaded_without_a_word(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path / "sd")
    for path in tmp_path.rglob("*.safetensors"):
        name = "pytorch_model.bin" if path.parent.name == "text_encoder" else f"{path.stem}.bin"
        torch.save(load_file(path), path.with_name(name))
        path.unlink()
    capfd.readouterr()
    assert_same_weights(pipeline, load_pipeline(str(tmp_path / "sd")))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []


def with_checker() -> Any:
    config = CLIPConfig(
        text_config={"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1},
        vision_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_hidden_layers": 1,
            "num_attention_heads": 1,
            "image_size": 32,
            "patch_size": 16,
        },
        projection_dim=8,
    )
    return make_pipeline(
        safety_checker=StableDiffusionSafetyChecker(config),
        feature_extractor=CLIPImageProcessor(),
        requires_safety_checker=True,
    )


def test_a_safety_checker_is_neither_needed_nor_loaded_which_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_checker().save_pretrained(tmp_path / "sd")
    shutil.rmtree(tmp_path / "sd" / "safety_checker")
    in_the_cache(tmp_path / "cache", "me/sd", tmp_path / "sd")
    for name in (str(tmp_path / "sd"), "me/sd"):
        caplog.clear()
        assert load_pipeline(name).safety_checker is None
        assert load_pipeline(name).safety_checker is None
        (told,) = caplog.messages
        assert told.startswith(f"{name}: loaded without its safety checker")


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_damaged_weights_are_one_line_that_names_the_file(tmp_path: Path, part: str) -> None:
    make_pipeline().save_pretrained(tmp_path / "sd")
    (path,) = (tmp_path / "sd" / part).glob("*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    assert refused(tmp_path / "sd") == f"{path}: is cut short, or no weights; download it again"
    path.write_text(POINTER)
    assert refused(tmp_path / "sd").startswith(f"{path}: is a Git LFS pointer")
    path.unlink()
    assert refused(tmp_path / "sd").startswith(f"{path.parent}: holds no weights")
    bin_ = path.with_name("diffusion_pytorch_model.bin" if part == "unet" else "pytorch_model.bin")
    torch.save({"a": torch.zeros(9000)}, bin_)
    bin_.write_bytes(bin_.read_bytes()[:-100])
    assert refused(tmp_path / "sd").startswith(f"{bin_}: is cut short")


def test_a_link_to_nothing_as_a_cut_off_download_leaves_it_is_one_line(tmp_path: Path) -> None:
    make_pipeline().save_pretrained(tmp_path / "sd")
    for path in (tmp_path / "sd").glob("*/*.safetensors"):
        path.rename(path.with_suffix(".kept"))
        path.symlink_to(tmp_path / "gone")
        assert refused(tmp_path / "sd") == f"{path}: is missing; download the model again"
        path.with_suffix(".kept").replace(path)


def test_weights_of_another_shape_than_the_configuration_says_are_one_line(tmp_path: Path) -> None:
    make_pipeline().save_pretrained(tmp_path / "sd")
    config = tmp_path / "sd" / "unet" / "config.json"
    config.write_text(
        config.read_text().replace('"cross_attention_dim": 32', '"cross_attention_dim": 48')
    )
    line = refused(tmp_path / "sd")
    assert "does not have the shape of the configuration; download the model again" in line
    path = write_single(make_pipeline(), tmp_path / "model.safetensors")
    write_config(make_pipeline(xl=True, second=48), tmp_path / "model")
    assert f"{path}: its " in refused(path) and refused(path).endswith(
        f" does not have the shape of the configuration of {tmp_path / 'model'}; put the "
        f"configuration files of that pipeline into {tmp_path / 'model'}/"
    )


def test_a_pointer_that_is_not_needed_does_no_harm(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    pipeline.save_pretrained(tmp_path / "sd")
    (tmp_path / "sd" / "unet" / "diffusion_pytorch_model.bin").write_text(POINTER)
    (tmp_path / "sd" / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_text(POINTER)
    assert_same_weights(pipeline, load_pipeline(str(tmp_path / "sd")))


def test_weights_that_are_left_out_are_named(tmp_path: Path) -> None:
    make_pipeline().save_pretrained(tmp_path / "sd")
    path = tmp_path / "sd" / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.bias"]
    save_file(weights, path)
    assert "its unet lacks the weights conv_in.bias" in refused(tmp_path / "sd")


@pytest.mark.parametrize("xl", [False, True])
@pytest.mark.parametrize("safe", [False, True])
def test_a_text_encoder_without_some_weights_is_refused_not_made_up(
    tmp_path: Path, xl: bool, safe: bool
) -> None:
    make_pipeline(xl=xl).save_pretrained(tmp_path / "sd", safe_serialization=True)
    path = tmp_path / "sd" / ("text_encoder_2" if xl else "text_encoder") / "model.safetensors"
    weights = load_file(path)
    (lost,) = (name for name in weights if name.endswith("layers.1.mlp.fc1.weight"))
    del weights[lost]
    save_file(weights, path, {"format": "pt"})
    if not safe:
        torch.save(weights, path.with_name("pytorch_model.bin"))
        path.unlink()
    line = refused(tmp_path / "sd")
    assert f"its {path.parent.name} lacks the weights" in line and "fc1.weight; download" in line


@pytest.mark.parametrize("kept", ["tokenizer_config.json", ""])
def test_a_tokenizer_without_its_words_is_refused(tmp_path: Path, kept: str) -> None:
    make_pipeline().save_pretrained(tmp_path / "sd")
    for path in (tmp_path / "sd" / "tokenizer").iterdir():
        if path.name != kept:
            path.unlink()
    line = refused(tmp_path / "sd")
    assert "its tokenizer knows 2 of 1,733 tokens; download the model again" in line


# Single files


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
@pytest.mark.parametrize("xl", [False, True])
def test_a_single_file_is_the_pipeline_it_was_made_from(
    tmp_path: Path, xl: bool, suffix: str
) -> None:
    pipeline = make_pipeline(xl=xl, second=48)
    path = write_single(pipeline, tmp_path / f"model{suffix}")
    in_the_cache(tmp_path / "cache", XL if xl else SD, write_config(pipeline, tmp_path / "config"))
    found = load_pipeline(str(path))
    assert_same_weights(pipeline, found)
    assert found.name_or_path == str(path)
    for key, value in pipeline.scheduler.config.items():
        assert key.startswith("_") or found.scheduler.config[key] == value


def test_the_configuration_may_lie_beside_the_file_and_counts_as_part_of_it(tmp_path: Path) -> None:
    pipeline = make_pipeline("v_prediction")
    path = write_single(pipeline, tmp_path / "my.model.safetensors")
    alone = identity(str(path))
    write_config(pipeline, tmp_path / "my.model")
    assert load_pipeline(str(path)).scheduler.config.prediction_type == "v_prediction"
    assert identity(str(path)) != alone


def test_a_configuration_that_is_not_to_be_had_is_one_line(tmp_path: Path) -> None:
    path = write_single(make_pipeline(), tmp_path / "model.safetensors")
    line = refused(path)
    assert f"{path}: the configuration of {SD!r} is not in the model cache" in line
    assert line.endswith(f"put the configuration files of that pipeline into {tmp_path / 'model'}/")


def test_what_a_file_says_of_its_prediction_is_heard(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    write_config(pipeline, tmp_path / "model")
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    path = write_single(pipeline, tmp_path / "model.safetensors", **marks)
    scheduler = load_pipeline(str(path)).scheduler
    assert scheduler.config.prediction_type == "v_prediction"
    assert scheduler.alphas_cumprod[-1] < 1e-6


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


WRONG: dict[str, tuple[dict[str, torch.Size | tuple[int, ...]], str]] = {
    "LoRA": ({"lora_unet_down_blocks_0.lora_up.weight": (4, 4)}, "a LoRA, not a whole model"),
    "VAE": ({"encoder.conv_in.weight": (4, 4), "decoder.conv_in.weight": (4, 4)}, "autoencoder"),
    "ControlNet": ({"control_model.input_blocks.0.0.weight": (4, 4)}, "a ControlNet"),
    "embedding": ({"emb_params": (2, 768)}, "an embedding"),
    "UNet": ({"down_blocks.0.resnets.0.conv1.weight": (4, 4)}, "one part of a model"),
    "text": ({"text_model.final_layer_norm.bias": (4,)}, "one part of a model"),
    "other": ({"weight": (2, 768)}, "no Stable Diffusion model"),
    "Flux": ({"model.diffusion_model.double_blocks.0.img_attn.qkv.weight": (4, 4)}, "another arch"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_file_of_something_else_is_said_to_be_that(tmp_path: Path, what: str) -> None:
    shapes, told = WRONG[what]
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    assert told in refused(path) and str(path) in refused(path)


def test_a_file_without_a_part_or_with_another_one_is_told_so(tmp_path: Path) -> None:
    pipeline = make_pipeline()
    path = tmp_path / "model.safetensors"
    write_single(pipeline, path, without=["first_stage_model."])
    assert "holds no autoencoder (VAE)" in refused(path)
    write_single(pipeline, path, without=["first_stage_model.", "cond_stage_model."])
    assert "holds no text encoder and no autoencoder (VAE)" in refused(path)
    write_single(make_pipeline(unet={"in_channels": 9}), path)
    assert "a UNet of 9 input channels" in refused(path)
    write_single(make_pipeline(xl=True), path, without=["conditioner.embedders.1."])
    assert "an SDXL refiner" in refused(path)
    write_single(pipeline, path, edm_mean=torch.zeros(4))
    assert "an EDM model" in refused(path)
    of_two = {"cond_stage_model.model.ln_final.bias": torch.zeros(2)}
    write_single(pipeline, path, without=["cond_stage_model.transformer."], **of_two)
    assert "a Stable Diffusion 2 model" in refused(path)
    write_config(pipeline, tmp_path / "model")
    write_single(pipeline, path, without=["model.diffusion_model.out."])
    assert refused(path) == f"{path}: lacks some of the weights; download it again"


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_file_that_is_damaged_or_holds_code_is_one_line(tmp_path: Path, suffix: str) -> None:
    path = write_single(make_pipeline(), tmp_path / f"model{suffix}")
    cut(path)
    assert refused(path) == f"{path}: is cut short, or no weights; download it again"
    for content in ("<!DOCTYPE html>", ""):
        path.write_text(content)
        assert str(path) in refused(path)
    path.write_text(POINTER)
    assert "is a Git LFS pointer" in refused(path)
    path.unlink()
    assert refused(path).startswith(f"{path}: no such file")
    torch.save({"state_dict": single_weights(make_pipeline()), "code": Path("x")}, path)
    if suffix == ".ckpt":
        assert "holds code besides weights" in refused(path)


def test_a_file_of_another_format_than_its_name_says_is_to_be_renamed(tmp_path: Path) -> None:
    safe = write_single(make_pipeline(), tmp_path / "safe.safetensors")
    of_torch = write_single(make_pipeline(), tmp_path / "old.ckpt")
    assert refused(safe.rename(tmp_path / "a.ckpt")).endswith("; rename it to a.safetensors")
    assert refused(of_torch.rename(tmp_path / "b.safetensors")).endswith("; rename it to b.ckpt")


@pytest.mark.parametrize("name", ["MODEL.SAFETENSORS", "model.bin", "model"])
def test_a_file_whose_name_ends_otherwise_is_not_said_to_be_no_folder(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("x")
    told = "is a file that does not end in .safetensors or .ckpt; rename it, or name a"
    assert told in refused(tmp_path / name)


SPANNING_ZIP = b"PK\6\7" + struct.pack("<LQL", 0, 0, 2) + b"PK\5\6" + bytes(18)
"""Of which Python itself cannot say whether it is a zip."""


def test_a_pickle_cut_short_says_so_and_one_that_holds_itself_ends(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"a": torch.zeros(9000)}, path, _use_new_zipfile_serialization=False)
    cut(path)
    assert "is cut short" in refused(path)
    itself: dict[str, Any] = {}
    itself["state_dict"] = itself
    torch.save(itself, path)
    assert "holds no Stable Diffusion model" in refused(path)
    torch.save({5: torch.zeros(2)}, path)
    assert "holds no Stable Diffusion model" in refused(path)
    for content in (b"<!DOCTYPE html>", SPANNING_ZIP):
        path.write_bytes(content)
        assert refused(path) == f"{path}: is cut short, or no weights; download it again"


def test_a_file_that_is_not_there_is_no_hub_id() -> None:
    assert refused("models/model.safetensors").startswith("models/model.safetensors: no such file")


def test_a_file_is_known_by_its_name_alone() -> None:
    for name in ("model.safetensors", "models/model.safetensors", "/a/b/model.safetensors"):
        assert public_name(name) == "model.safetensors"


# Pipelines that surd does not understand


def test_another_class_is_refused_before_its_weights_are_looked_for(tmp_path: Path) -> None:
    for kind in ("StableDiffusion3Pipeline", "FluxPipeline", "StableDiffusionXLImg2ImgPipeline"):
        index = {"_class_name": kind, "_diffusers_version": "0.42.0"}
        (tmp_path / "model_index.json").write_text(json.dumps(index))
        assert refused(tmp_path).endswith(
            f"is a {kind}; use a text-to-image model of Stable Diffusion 1, 2 or XL (base)"
        )
