"""A pipeline's weights in one file, by the names of Stable Diffusion's original code.

Those of its UNet and autoencoder are CompVis' (github.com/CompVis/latent-diffusion), those of text
encoders transformers' or OpenCLIP's.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Weights = dict[str, torch.Tensor]

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
_AUTOENCODER = {
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.1": "mid.block_2",
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "resnets": "block",
}
_OPEN_CLIP = {
    "encoder.layers": "transformer.resblocks",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn": "attn",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "final_layer_norm": "ln_final",
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding.weight": "positional_embedding",
}


def single_weights(pipeline: Any) -> Weights:
    """All weights of a tiny Stable Diffusion or SDXL pipeline under their original names."""
    weights = {
        **_under("model.diffusion_model.", _unet(pipeline.unet)),
        **_under("first_stage_model.", _autoencoder(pipeline.vae)),
    }
    first = _text(pipeline.text_encoder)
    if not hasattr(pipeline, "text_encoder_2"):
        return weights | _under("cond_stage_model.transformer.text_model.", first)
    second = _open_clip(pipeline.text_encoder_2)
    weights |= _under("conditioner.embedders.0.transformer.text_model.", first)
    return weights | _under("conditioner.embedders.1.model.", second)


def write_single(pipeline: Any, path: Path, without: Iterable[str] = (), **more: Any) -> Path:
    """Write that as safetensors, or as a pickle; all names that begin so are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights = {
        name: value.contiguous()
        for name, value in {**single_weights(pipeline), **more}.items()
        if not name.startswith(tuple(without))
    }
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save({"state_dict": weights, "global_step": 3}, path)
    return path


def write_config(pipeline: Any, folder: Path) -> Path:
    """The configuration of a pipeline, without any weights."""
    pipeline.save_pretrained(folder)
    for path in folder.glob("*/*.safetensors"):
        path.unlink()
    return folder


def in_the_cache(cache: Path, repo: str, folder: Path) -> None:
    """Put a folder where the hub's libraries keep what they fetched of `repo`."""
    place = cache / f"models--{repo.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)


def _under(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: value for name, value in weights.items()}


def _renamed(name: str, table: dict[str, str]) -> str:
    for new, old in table.items():
        name = re.sub(rf"(^|(?<=\.)){re.escape(new)}(?=\.|$)", old, name)
    return name


def _unet(unet: Any) -> Weights:
    """Blocks are numbered through: of a level its layers, then what changes the size."""
    layers = unet.config.layers_per_block + 1
    found = {}
    for name, value in unet.state_dict().items():
        block = re.match(r"(down|up)_blocks\.(\d+)\.(\w+?)s\.(\d+)\.(.*)", name)
        if block is None:
            renamed = _renamed(name, _UNET)
            rest = renamed
        else:
            way, level, kind, layer, rest = block.groups()
            down = way == "down"
            if kind.endswith("sampler"):
                layer = str(layers - 1)
            number = int(level) * layers + int(layer) + (1 if down else 0)
            attends = hasattr(getattr(unet, f"{way}_blocks")[int(level)], "attentions")
            place = {"resnet": 0, "attention": 1, "downsampler": 0, "upsampler": 1 + attends}[kind]
            rest = rest.replace("conv.", "op.") if kind == "downsampler" else rest
            renamed = f"{'input' if down else 'output'}_blocks.{number}.{place}.{rest}"
        if "attentions" not in name:
            renamed = _renamed(renamed, _RESNET)
        found[renamed] = value
    return found


def _autoencoder(vae: Any) -> Weights:
    levels = len(vae.config.block_out_channels)
    found = {}
    for name, value in vae.state_dict().items():
        old = re.sub(r"down_blocks\.(\d+)", r"down.\1", name)
        old = re.sub(r"up_blocks\.(\d+)", lambda m: f"up.{levels - 1 - int(m[1])}", old)
        old = _renamed(old, _AUTOENCODER)
        as_conv = ".attn_1." in old and value.ndim == 2
        found[old] = value[:, :, None, None] if as_conv else value
    return found


def _text(encoder: Any) -> Weights:
    state = encoder.state_dict().items()
    return {name.removeprefix("text_model."): value for name, value in state}


def _open_clip(encoder: Any) -> Weights:
    found, weights = {}, _text(encoder)
    for name, value in weights.items():
        if name == "text_projection.weight":
            found["text_projection"] = value.T
        elif ".q_proj." in name:
            three = [weights[name.replace(".q_", f".{one}_")] for one in "qkv"]
            old = _renamed(name, _OPEN_CLIP).replace(".q_proj.", ".in_proj_")
            found[old] = torch.cat(three)
        elif not re.search(r"\.[kv]_proj\.", name):
            found[_renamed(name, _OPEN_CLIP)] = value
    return found
