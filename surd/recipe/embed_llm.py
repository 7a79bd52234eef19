"""What ``surd embed-llm`` is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from surd.params import ModelName, Params, runtime

Pool = Literal["last", "mean", "none"]
Texts = Literal["simple", "all"]


class EmbedLlmParams(Params):
    """Which vectors to compute, of which texts, and with what."""

    model: ModelName = Field(
        default="demo:llm", description="hub id, local folder, or demo:llm (SmolLM2-135M-Instruct)"
    )
    gguf_file: str | None = Field(
        default=None, description="name of a GGUF file in that repository or folder"
    )
    revision: str | None = Field(default=None, description="branch, tag or commit on the hub")
    layers: tuple[int, ...] = Field(
        default=(-1,),
        min_length=1,
        description="0 is the output of the embeddings, k that of block k, -1 the last (after "
        "the final norm)",
    )
    pool: Pool = Field(
        default="last", description="keep the last token, the mean over tokens, or every token"
    )
    texts: Texts = runtime(
        "simple",
        "simple: the simple prompts; all: also every other caption and the complex prompts, which "
        "training needs with captions: all or a complex_share. Vectors that are there are kept",
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="precision of the model; auto: bf16 on a GPU (fp16 on older ones), else fp32",
    )
    quantize: Literal["8bit", "4bit"] | None = Field(
        default=None, description="quantize the weights with bitsandbytes (needs a GPU)"
    )
    template: str = Field(
        default="{prompt}", description="text around the prompt; must contain {prompt} once"
    )
    special_tokens: bool = Field(
        default=True, description="add the tokenizer's own special tokens (Llama: BOS)"
    )
    max_tokens: int = Field(
        default=512, ge=1, description="longer prompts are cut off and marked as such"
    )
    batch_tokens: int | None = runtime(
        None, "tokens per batch, including padding; null: 8192 on a GPU, else 1024", ge=1
    )
    device: str = runtime(
        "auto", "auto (all GPUs, else cpu), cpu, cuda:N, several such as cuda:0,cuda:1, or map"
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
