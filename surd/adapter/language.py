"""The language model that an adapter reads: its states of prompts, each computed once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from surd.adapter.module import LanguageModel
from surd.errors import ModelError
from surd.llm.batches import Embedder
from surd.llm.part import tokenize
from surd.llm.run import CPU_BATCH_TOKENS, GPU_BATCH_TOKENS, content_of
from surd.models.devices import dtype_of
from surd.models.llm import load_llm
from surd.models.names import public_name
from surd.recipe.embed_llm import EmbedLlmParams

log = logging.getLogger("surd")

States = npt.NDArray[np.float16]
_KEPT = 1000
"""Prompts whose states stay in memory."""


def language_model(about: Mapping[str, Any], layer: int, width: int) -> LanguageModel:
    """The model that vectors were computed with, by what ``surd embed-llm`` noted about them."""
    return LanguageModel(
        name=about.get("place") or about["model"],
        identity=about.get("identity", about["model"]),
        layer=layer,
        width=width,
        max_tokens=about["max_tokens"],
        gguf_file=about.get("gguf_file"),
        revision=about.get("revision"),
        template=about["template"],
        special_tokens=about["special_tokens"],
    )


class Language:
    """Gives the states of texts. The model is loaded when it is first asked, and says so."""

    def __init__(
        self,
        model: LanguageModel,
        place: str | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """`place` is another name, folder or file of the same model. Raises pydantic's
        ValidationError for what no language model is put a text by."""
        self._model, self._place, self._device = model, place, torch.device(device)
        self._params = self._read_as()
        self._llm: Any = None
        self._kept: dict[str, States] = {}

    def states(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """``[n, t, h]`` float32 and a mask ``[n, t]``, as `padded` gives them.

        Raises ModelError where the model is not to be had, or gives what is no number.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._kept]
        if len(self._kept) + len(new) > _KEPT:
            self._kept, new = {}, list(dict.fromkeys(texts))
        if new:
            self._kept |= zip(new, self._compute(new), strict=True)
        return padded([self._kept[text] for text in texts], self._model.width)

    def _compute(self, texts: Sequence[str]) -> list[States]:
        model, params = self._model, self._params
        if self._llm is None:
            self._llm = self._load(params)
        budget = CPU_BATCH_TOKENS if self._device.type == "cpu" else GPU_BATCH_TOKENS
        tokenized, name = tokenize(texts, params, self._llm), public_name(model.name)
        tokens = tokenized.tokens
        for text, some, status in zip(texts, tokens, tokenized.statuses, strict=True):
            if not some:
                log.warning("%s cannot read %.40r…", name, text)
            elif status == "cut":
                log.warning("%.40s…: too long; %s reads the first %d tokens", text, name, len(some))
        found = Embedder(self._llm, [model.layer], "none", budget).vectors(tokens)[model.layer]
        for text, states in zip(texts, found, strict=True):
            if not np.isfinite(states).all():
                raise ModelError(
                    f"language model {model.name!r} gives NaN or infinity for {text!r:.40}"
                )
        return [states.reshape(-1, model.width) for states in found]

    def _read_as(self) -> EmbedLlmParams:
        model, other = self._model, self._place is not None
        return EmbedLlmParams(
            model=self._place or model.name,
            gguf_file=None if other else model.gguf_file,
            revision=None if other else model.revision,
            template=model.template,
            special_tokens=model.special_tokens,
            max_tokens=model.max_tokens,
        )

    def _load(self, params: EmbedLlmParams) -> Any:
        model, name = self._model, params.model
        try:
            found = content_of(params)
            if model.identity != model.name and found not in (model.identity, name):
                raise ModelError(f"{name}: holds another model, or another version of it")
            llm = load_llm(
                name,
                [model.layer],
                gguf_file=params.gguf_file,
                revision=params.revision,
                device=self._device,
                dtype=dtype_of("auto", self._device),
            )
        except ModelError as error:
            raise ModelError(
                f"this adapter reads the language model {public_name(model.name)}: {error}; name "
                "its place with --llm"
            ) from error
        if llm.width != model.width:
            raise ModelError(
                f"{name}: is {llm.width} wide, but the language model that this adapter reads "
                f"({public_name(model.name)}) is {model.width} wide; name that one with --llm"
            )
        log.warning("reading each prompt with %s, layer %d", public_name(name), model.layer)
        return llm


def padded(states: Sequence[States], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Token states ``[t, h]`` of several texts: ``[n, t, h]`` float32 with zeros after each, and
    a mask ``[n, t]`` that is true for tokens."""
    lengths = [len(some) for some in states]
    longest = max(1, *lengths)
    found = torch.zeros(len(states), longest, width)
    mask = torch.zeros(len(states), longest, dtype=torch.bool)
    for row, some in enumerate(states):
        found[row, : len(some)] = torch.from_numpy(np.array(some, np.float32))
        mask[row, : len(some)] = True
    return found, mask
