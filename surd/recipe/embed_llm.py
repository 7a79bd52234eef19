"""What ``surd embed-llm`` is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from surd.params import Params, runtime

Pool = Literal["last", "mean", "none"]


class EmbedLlmParams(Params):
    """Which vectors of the simple prompts to compute, and with what."""

    model: str = Field(
        default="demo:llm", description="hub id, local folder, or demo:llm (SmolLM2-135M-Instruct)"
    )
    gguf_file: str | None = Field(
        default=None, description="name of a GGUF file in that repository or folder"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit on the hub")
    layers: tuple[int, ...] = Field(
        default=(-1,),
        min_length=1,
        description="0 is the embeddings' output, k that of block k, -1 the last (after the norm)",
    )
    pool: Pool = Field(
        default="last", description="last token, mean over tokens, or every token's vector"
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="the model computes in; auto: bf16 on a GPU, else fp32"
    )
    quantize: Literal["8bit", "4bit"] | None = Field(
        default=None, description="load the weights so, through bitsandbytes (needs a GPU)"
    )
    template: str = Field(default="{prompt}", description="text around the prompt")
    special_tokens: bool = Field(
        default=True, description="add what the tokenizer adds by itself (Llama: BOS)"
    )
    max_tokens: int = Field(default=512, ge=1, description="longer prompts are cut, and marked so")
    batch_tokens: int | None = runtime(
        None, "tokens in a batch, padding included; null: 1024, on a GPU 8192", ge=1
    )
    device: str = runtime(
        "auto", "auto (all GPUs, else cpu), cpu, cuda:N, several as cuda:0,cuda:1, or map"
    )

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, template: str) -> str:
        if template.count("{prompt}") != 1:
            raise ValueError("the template must contain {prompt} once")
        return template

    @field_validator("layers")
    @classmethod
    def _once_each(cls, layers: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(dict.fromkeys(layers))
