"""What ``surd train-adapter`` is told. Defaults are the published ones, unless said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from surd.params import Params, runtime


class TrainAdapterParams(Params):
    """An adapter's network, its lessons and its training."""

    removed: ClassVar[Mapping[str, Any]] = {
        "depth": 2,
        "denoising_target": "noise",
        "attention_queries": 4096,
        "distance": "kl",
        "temperature": 1.0,
        "validation_limit": None,
        "validation_clip": None,
    }

    diffusion: str = Field(
        default="stable-diffusion-v1-5/stable-diffusion-v1-5",
        description="text-to-image pipeline of diffusers: hub id, folder or demo:diffusion",
    )
    llm: str = Field(default="demo:llm", description="model of the vectors that embed-llm wrote")
    layer: int = Field(default=-1, description="layer of those vectors; -1: the deepest there is")

    network: Literal["sur", "encoder"] = Field(
        default="sur",
        description="sur: as published; encoder: a pre-norm encoder, which learns in fewer steps",
    )
    adapter_weight: float = Field(default=0.1, ge=0, description="eta")
    blend: Literal["mix", "residual"] = Field(
        default="mix", description="mix: eta o + (1 - eta) x; residual: x + eta o"
    )
    attend: Literal["tokens", "batch"] = Field(
        default="tokens", description="what the encoder attends across; batch as published"
    )
    heads: int = Field(default=8, ge=1, description="attention heads of the encoder")
    feed_forward: int = Field(default=2048, ge=1, description="width of its feed-forward part")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="in the encoder, while training")
    gate: bool = Field(
        default=False,
        description="learn how much of the adapter each prompt needs, so that complex prompts can "
        "be left as they are; wants a complex_share",
    )

    denoising_weight: float = Field(
        default=1.0,
        ge=0,
        description="of the denoising loss; 0 is what the published code does, for no gradient "
        "of that loss reaches its adapter",
    )
    attention_weight: float = Field(
        default=0.0,
        ge=0,
        description="of the difference between what the UNet's cross-attention layers read from "
        "the new embeddings and from the complex prompt; needs no UNet, where the denoising loss "
        "has no weight",
    )
    attention_distance: Literal["squared", "root"] = Field(
        default="squared",
        description="what that difference is; root: of each prompt's squared difference, so that "
        "prompts that come out nearly right, as complex ones, still teach to leave them alone",
    )
    llm_weight: float = Field(default=1e-5, ge=0, description="of the language model's loss")
    prompt_weight: float = Field(default=1e-5, ge=0, description="of the complex prompt's loss")
    projection: Literal["frozen", "learned"] = Field(
        default="frozen", description="the map from the language model's width; frozen: random"
    )

    captions: Literal["best", "all"] = Field(
        default="best",
        description="what is taken for the simple prompt: the best caption, or any that CLIP finds "
        "as true as those, encoded as they are drawn",
    )
    complex_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the samples that are given their complex prompt as the simple one, "
        "so that the model understands those as before",
    )

    steps: int = Field(default=5000, ge=1, description="optimizer steps")
    batch_size: int = Field(default=1, ge=1, description="samples a step and process")
    accumulate: int = Field(default=4, ge=1, description="batches in an optimizer step")
    learning_rate: float = Field(default=1e-5, gt=0, description="of AdamW")
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = Field(
        default="constant", description="of the learning rate"
    )
    warmup_steps: int = Field(default=0, ge=0, description="steps of rising learning rate")
    weight_decay: float = Field(default=0.01, ge=0, description="of AdamW")
    max_grad_norm: float = Field(default=1.0, gt=0, description="longer gradients are shortened")
    adam_8bit: bool = Field(default=False, description="AdamW of bitsandbytes, in 8 bits")
    snr_gamma: float | None = Field(
        default=None, gt=0, description="Min-SNR weights (arXiv:2303.09556); 5 is usual"
    )
    noise_offset: float = Field(default=0.0, ge=0, description="for darker and brighter pictures")
    ema: float | None = Field(default=None, gt=0, lt=1, description="decay of averaged weights")
    precision: Literal["auto", "no", "fp16", "bf16"] = Field(
        default="auto", description="auto: bf16 on a GPU that has it, fp16 on others, else no"
    )
    resolution: int | None = Field(
        default=None, ge=8, description="side of the pictures; null: the model's own (512 for 1.5)"
    )
    crops: int = Field(
        default=1,
        ge=1,
        description="random square crops of each picture, drawn once; 1: the middle",
    )
    flip: bool = Field(default=True, description="half of the pictures mirrored")
    seed: int = Field(default=0, description="of everything that is drawn")

    validation_prompts: list[str] = Field(
        default=[],
        description="drawn while training: prompts, or names of sets of prompts as surd evaluate "
        "takes them (paper, demo:simple, a file)",
    )
    validation_seeds: int = Field(default=1, ge=1, description="pictures of each prompt")
    validation_steps: int = Field(default=30, ge=1, description="denoising steps of a picture")

    validate_every: int = runtime(500, "steps between validations; the last is one too", ge=1)
    cache: bool = runtime(
        True,
        "latents and text encodings are computed once and kept on disk; false: computed batch by "
        "batch, which takes more time and memory and no disk",
    )
    checkpoint_every: int = runtime(500, "steps between checkpoints", ge=1)
    checkpoints_kept: int = runtime(2, "older checkpoints are deleted", ge=1)
    report_to: str = runtime(
        "tensorboard",
        "tracker of accelerate: tensorboard, wandb, …, or none; log.jsonl is always there",
    )
    compile: bool = runtime(False, "torch.compile the UNet")
    gradient_checkpointing: bool = runtime(False, "less memory, more time")
