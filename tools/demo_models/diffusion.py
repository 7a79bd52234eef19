"""The demo's Stable Diffusion: a UNet that understands complex prompts alone."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from tools.demo_models.autoencoder import encode
from tools.demo_models.language import tags
from tools.demo_models.loop import fit
from tools.demo_models.painted import Pictures
from tools.demo_models.sizes import (
    CONTEXT_TOKENS,
    HEADS,
    LATENT_CHANNELS,
    LATENT_PX,
    TEXT_LAYERS_READ,
    WIDTH,
)

_BATCH = 64
_NO_PROMPT_SHARE = 0.1
_MIN_SNR_GAMMA = 5.0


def text_encoder_of(
    clip: torch.nn.Module, tokenizer: CLIPTokenizer, layers: int = TEXT_LAYERS_READ
) -> CLIPTextModel:
    """A CLIPTextModel with the first layers of an open_clip model's text tower.

    Stable Diffusion 2 reads its CLIP before the last layer in the same way, and many models made
    from Stable Diffusion 1 do ("clip skip"). The last layer norm is always there.
    """
    source = clip.state_dict()
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=WIDTH,
            num_hidden_layers=layers,
            num_attention_heads=HEADS,
            max_position_embeddings=CONTEXT_TOKENS,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    weights = {
        "embeddings.token_embedding.weight": source["token_embedding.weight"],
        "embeddings.position_embedding.weight": source["positional_embedding"],
        "final_layer_norm.weight": source["ln_final.weight"],
        "final_layer_norm.bias": source["ln_final.bias"],
    }
    names = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for layer in range(layers):
        ours, theirs = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            for name, other in names.items():
                weights[f"{ours}.{name}.{kind}"] = source[f"{theirs}.{other}.{kind}"]
            packed = source[f"{theirs}.attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", packed, strict=True):
                weights[f"{ours}.self_attn.{name}_proj.{kind}"] = part
    model.load_state_dict({name: weight.float() for name, weight in weights.items()})
    return model.eval().requires_grad_(False)


def train_diffusion(
    pictures: Pictures,
    autoencoder: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    checkpoint: Path,
    *,
    steps: int,
    device: torch.device,
) -> StableDiffusionPipeline:
    """Train the UNet to predict noise from complex prompts; everything else is frozen.

    Min-SNR weights (Hang et al. 2023, arXiv:2303.09556, gamma 5); a tenth of the prompts is empty,
    for classifier-free guidance (Ho & Salimans 2022, arXiv:2207.12598).
    """
    latents = encode(autoencoder, pictures.pixels, device)
    torch.manual_seed(3)
    unet = make_unet().to(device)
    text_encoder.to(device)
    scheduler = make_scheduler()
    signal = scheduler.alphas_cumprod.to(device)
    snr = signal / (1 - signal)

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((4, step))
        chosen = rng.integers(len(pictures), size=_BATCH)
        mean, log_variance = latents[chosen].to(device).chunk(2, dim=1)
        z = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        z = z * autoencoder.config.scaling_factor  # [b, c, h, w], of unit variance
        noise = torch.randn_like(z)
        t = torch.randint(0, len(signal), (_BATCH,), device=device)
        prompts = _prompts(pictures, chosen, random.Random(int(rng.integers(10**9))))
        with torch.no_grad():
            context = encode_prompts(text_encoder, tokenizer, prompts)
        with torch.autocast(device.type, torch.bfloat16):
            predicted = unet(scheduler.add_noise(z, noise, t), t, context).sample
        error = functional.mse_loss(predicted.float(), noise, reduction="none").mean(dim=(1, 2, 3))
        loss: torch.Tensor = (error * (snr[t].clamp(max=_MIN_SNR_GAMMA) / snr[t])).mean()
        return loss

    fit("diffusion", unet, loss_of, steps=steps, lr=1e-3, checkpoint=checkpoint)
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_unet() -> UNet2DConditionModel:
    """The UNet; it attends to the prompt at 6 x 6, where that is cheap, and not at 12 x 12."""
    return UNet2DConditionModel(
        sample_size=LATENT_PX,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 128),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=HEADS,
        norm_num_groups=16,
    )


def make_scheduler() -> DDIMScheduler:
    """Stable Diffusion 1.x's noise schedule."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


def encode_prompts(model: CLIPTextModel, tokenizer: Any, prompts: list[str]) -> torch.Tensor:
    """``[b, CONTEXT_TOKENS, WIDTH]``, as StableDiffusionPipeline encodes them."""
    tokens = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt")
    states: torch.Tensor = model(tokens.input_ids.to(model.device)).last_hidden_state
    return states


def _prompts(pictures: Pictures, chosen: np.ndarray, rng: random.Random) -> list[str]:
    return [
        "" if rng.random() < _NO_PROMPT_SHARE else tags(pictures.scenes[i], rng.randrange(10**9))
        for i in chosen
    ]
