"""What ``surd train-adapter`` is told. Defaults are the published ones, unless said otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from surd.params import ModelName, Params, runtime


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

    @field_validator("precision", mode="before")
    @classmethod
    def _yaml_reads_no_as_false(cls, value: Any) -> Any:
        return "no" if value is False else value

    diffusion: ModelName = Field(
        default="stable-diffusion-v1-5/stable-diffusion-v1-5",
        description="diffusion model of the Stable Diffusion family: hub id or folder in "
        "diffusers' format, single .safetensors file, or demo:diffusion",
    )
    llm: ModelName = Field(
        default="demo:llm",
        description="language model whose vectors embed-llm wrote; they are used where llm_weight "
        "is not 0, or network is reader",
    )
    layer: int = Field(
        default=-1, description="layer of those vectors; -1: the deepest layer available"
    )

    network: Literal["sur", "encoder", "reader", "lora"] = Field(
        default="sur",
        description="sur: as published; encoder: a pre-norm encoder, which learns in fewer steps; "
        "reader: one that also reads the language model's states of the prompt's tokens, in "
        "training and whenever it is used (embed-llm with pool: none); lora: no adapter, but "
        "low-rank updates of the text encoders, for comparison, which use none of the keys from "
        "adapter_weight to gate, and need an llm_weight of 0",
    )
    lora_rank: int = Field(default=16, ge=1, description="rank of a lora")
    llm_states: Literal["normal", "shuffled", "none"] = Field(
        default="normal",
        description="what a reader reads, for comparison; shuffled: the states of another sample "
        "of the batch; none: nothing, its cross-attention is left out",
    )
    llm_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="dropout rate of the dimensions of the states that a reader reads, during "
        "training, so that it goes by what many of them say",
    )
    llm_swap: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of the complex prompts among the samples for which a reader reads the "
        "states of some caption, so that it keeps to what the text encoder says where that says "
        "something; needs a complex_share",
    )
    adapter_weight: float = Field(
        default=0.1, ge=0, description="eta, the weight of the adapter's output in the embeddings"
    )
    blend: Literal["mix", "residual"] = Field(
        default="mix", description="mix: eta o + (1 - eta) x; residual: x + eta o"
    )
    attend: Literal["tokens", "batch"] = Field(
        default="tokens", description="what the encoder attends across; batch: as published"
    )
    heads: int = Field(default=8, ge=1, description="attention heads of the encoder")
    feed_forward: int = Field(
        default=2048, ge=1, description="width of the encoder's feed-forward layers"
    )
    dropout: float = Field(
        default=0.1, ge=0, lt=1, description="dropout rate in the encoder during training"
    )
    gate: bool = Field(
        default=False,
        description="learn how much of the adapter each prompt needs, so that complex prompts "
        "can stay as they are; needs a complex_share",
    )

    denoising_weight: float = Field(
        default=1.0,
        ge=0,
        description="weight of the denoising loss; 0 matches the published code, where no "
        "gradient of this loss reaches the adapter",
    )
    attention_weight: float = Field(
        default=0.0,
        ge=0,
        description="weight of the difference between what the UNet's cross-attention layers "
        "read from the new embeddings and what they read from the complex prompt; "
        "with a denoising_weight of 0, the UNet runs only at the start",
    )
    attention_distance: Literal["squared", "root"] = Field(
        default="squared",
        description="how that difference is measured; root: the root of each prompt's squared "
        "difference, so that prompts that are already nearly right, such as complex ones, "
        "still teach the adapter to leave them alone",
    )
    llm_weight: float = Field(default=1e-5, ge=0, description="weight of the language model's loss")
    prompt_weight: float = Field(
        default=1e-5, ge=0, description="weight of the complex prompt's loss"
    )
    projection: Literal["frozen", "learned"] = Field(
        default="frozen",
        description="mapping from the language model's width; frozen: random and not trained; "
        "learned: training stops where it maps all sentences to the same",
    )

    captions: Literal["best", "all"] = Field(
        default="best",
        description="what serves as the simple prompt: the best caption, or any caption that "
        "CLIP finds about as true as the best of its image",
    )
    complex_share: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of the samples that get their complex prompt as the simple one, so "
        "that the model continues to understand complex prompts",
    )

    steps: int = Field(default=5000, ge=1, description="optimizer steps")
    batch_size: int = Field(default=1, ge=1, description="samples per step and process")
    accumulate: int = Field(default=4, ge=1, description="batches per optimizer step")
    learning_rate: float = Field(default=1e-5, gt=0, le=1e30, description="learning rate of AdamW")
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = Field(
        default="constant", description="learning rate schedule"
    )
    warmup_steps: int = Field(
        default=0, ge=0, description="steps over which the learning rate rises"
    )
    weight_decay: float = Field(default=0.01, ge=0, description="weight decay of AdamW")
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="gradient norm above which gradients are clipped"
    )
    adam_8bit: bool = Field(default=False, description="use the 8-bit AdamW of bitsandbytes")
    snr_gamma: float | None = Field(
        default=None, gt=0, description="Min-SNR weighting (arXiv:2303.09556); 5 is usual"
    )
    noise_offset: float = Field(
        default=0.0, ge=0, description="offset noise, for darker and brighter pictures"
    )
    ema: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="decay of the exponential moving average of the weights",
    )
    precision: Literal["auto", "no", "fp16", "bf16"] = Field(
        default="auto",
        description="auto: bf16 on GPUs that support it, fp16 on other GPUs, else no",
    )
    resolution: int | None = Field(
        default=None,
        ge=8,
        description="side of the pictures in pixels; null: the model's own (512 for Stable "
        "Diffusion 1.5)",
    )
    crops: int = Field(
        default=1,
        ge=1,
        description="random square crops of each picture, chosen once; 1: the centre",
    )
    flip: bool = Field(default=True, description="mirror half of the pictures")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of everything random")

    validation_prompts: list[str] = Field(
        default=[],
        description="draw these while training: prompts, or prompt sets as surd evaluate takes "
        "them (paper, demo:plain, a file)",
    )
    validation_seeds: int = Field(default=1, ge=1, description="pictures per prompt")
    validation_steps: int = Field(default=30, ge=1, description="denoising steps per picture")

    early_stopping: int | None = Field(
        default=None,
        ge=1,
        description="stop when so many validations in a row did not lower the validation loss, "
        "and keep the best adapter; null: train all steps, and keep the last",
    )

    validate_every: int = runtime(
        500,
        "steps between validations: the loss on 256 samples of the validation split as a share of "
        "what it is without an adapter, and the pictures; the last step is always validated",
        ge=1,
    )
    cache: bool = runtime(
        True,
        "compute latents and text encodings once and keep them on disk; false: compute them "
        "batch by batch, which takes more time and memory but no disk",
    )
    checkpoint_every: int = runtime(500, "steps between checkpoints", ge=1)
    checkpoints_kept: int = runtime(2, "number of checkpoints to keep", ge=1)
    report_to: str = runtime(
        "tensorboard",
        "tracker for accelerate: tensorboard, wandb, …, or none; log.jsonl is always written",
    )
    compile: bool = runtime(False, "compile the UNet with torch.compile")
    gradient_checkpointing: bool = runtime(False, "use less memory and more time")
