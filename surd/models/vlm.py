"""Image-text-to-text models of transformers: what they are asked, and batches of it.

Notation for shapes: b pictures, k answers to each, s tokens of the longest question, v words.
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.modeling_outputs import BaseModelOutput

from surd.text.chat_answers import without_thoughts

log = logging.getLogger("surd")

Inputs = Mapping[str, Any]

_ALIKE = 0.05
"""How far two probabilities of a word may differ that are computed in another order, in bf16."""
_CHECKED_WORDS = 3


@dataclass(frozen=True)
class Vlm:
    """A loaded model with its processor."""

    processor: Any
    model: Any
    is_nested: bool = False
    """Whether the processor wants a list of pictures for each text."""
    shares_prefix: bool = False
    """Whether a question and its picture can be read once for several answers."""

    @property
    def is_chat(self) -> bool:
        """Whether it has a chat template."""
        return bool(getattr(self.processor, "chat_template", None))

    @property
    def kind(self) -> str:
        """Its ``model_type``."""
        return str(self.model.config.model_type)

    def asked(self, question: str, system: str | None = None) -> str:
        """A question about a picture in the words of the chat template; as it is without one."""
        if not self.is_chat:
            return question
        content = [{"type": "image"}, {"type": "text", "text": question}]
        turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if system:
            turns.insert(0, {"role": "system", "content": [{"type": "text", "text": system}]})
        return str(self.processor.apply_chat_template(turns, add_generation_prompt=True))

    def inputs(self, images: Sequence[Image.Image], texts: Sequence[str]) -> Any:
        """RGB pictures with a text each, padded on the left, on the model's device."""
        pictures = [[image] for image in images] if self.is_nested else list(images)
        made = self.processor(
            images=pictures, text=list(texts), padding=True, return_tensors="pt"
        ).to(self.model.device)
        for name, values in made.items():
            if torch.is_tensor(values) and values.is_floating_point():
                made[name] = values.to(self.model.dtype)
        return made

    def read(self, inputs: Inputs) -> Read | None:
        """A question and its picture, for all answers; None where that cannot be shared."""
        return _read(self.model, inputs) if self.shares_prefix else None

    @torch.inference_mode()
    def write(self, inputs: Inputs, answers: int, read: Read | None, **how: Any) -> Any:
        """What ``generate`` gives, ``[b * answers, ...]``, the answers of a picture in a row.

        With ``num_beams`` there is one answer, the best.
        """
        beams = how.get("num_beams", 1)
        if read is None:
            return self.model.generate(**inputs, num_return_sequences=answers, **how)
        with read.repeated(self.model, inputs, answers, beams) as rows:
            return self.model.generate(**rows, **how)

    @torch.inference_mode()
    def next_word(self, inputs: Inputs) -> torch.Tensor:
        """Logits of the first word of an answer, ``[b, v]`` float32."""
        known = inspect.signature(self.model.forward).parameters
        last = {"logits_to_keep": 1} if "logits_to_keep" in known else {}
        logits: torch.Tensor = self.model(**inputs, **last).logits[:, -1]
        return logits.float()

    def texts(self, inputs: Inputs, ids: torch.Tensor) -> list[str]:
        """The words of what was generated, without the question."""
        ids = self._generated(inputs, ids)
        decoded = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [without_thoughts(text) for text in decoded]

    def cut(self, inputs: Inputs, ids: torch.Tensor, longest: int) -> list[bool]:
        """Of each answer, whether it was longer than the `longest` tokens it might have: no token
        ends it, unless one was put at the end, as BART does."""
        how = self.model.generation_config
        if how.eos_token_id is None:
            return [False] * len(ids)
        ends = torch.tensor(how.eos_token_id, device=ids.device).flatten()
        is_forced = how.forced_eos_token_id is not None
        words = self._generated(inputs, ids)[:, : longest - is_forced]
        found: list[bool] = (~torch.isin(words, ends).any(dim=1)).tolist()
        return found

    def _generated(self, inputs: Inputs, ids: torch.Tensor) -> torch.Tensor:
        """Without the question, or the token that decoders of encoders begin with."""
        if self.model.config.is_encoder_decoder:
            return ids[:, 1:]
        return after(inputs["input_ids"], ids)


def load_vlm(found: str, device: torch.device, dtype: torch.dtype) -> Vlm:
    """The model in a folder or of a hub id. Raises OSError or ValueError."""
    processor = AutoProcessor.from_pretrained(found)
    model = AutoModelForImageTextToText.from_pretrained(found, dtype=dtype)
    model.to(device).eval().requires_grad_(False)
    tokenizer = processor.tokenizer
    if not model.config.is_encoder_decoder:
        tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    loaded = Vlm(processor, model)
    text = loaded.asked("What?")
    loaded = replace(loaded, is_nested=_nests(processor, text, likely=loaded.is_chat))
    if loaded.is_chat or model.config.is_encoder_decoder:
        loaded = replace(loaded, shares_prefix=_can_share(loaded, found))
    return loaded


def after(prompt: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """What was generated; most decoders give the prompt back before it, some do not."""
    words = prompt.shape[1]
    prompt = prompt.repeat_interleave(len(ids) // max(1, len(prompt)), dim=0)
    given_back = ids.shape[1] >= words and torch.equal(ids[:, :words], prompt)
    return ids[:, words:] if given_back else ids


def _nests(processor: Any, text: str, *, likely: bool) -> bool:
    """Whether the processor takes a batch with a list of pictures for each text.

    Raises ValueError where it takes neither that nor a picture for each.
    """
    image = Image.new("RGB", (32, 32))
    problem: Exception | None = None
    for nested in (likely, not likely):
        pictures = [[image], [image]] if nested else [image, image]
        try:
            made = processor(images=pictures, text=[text, text], padding=True, return_tensors="pt")
            if len(made["input_ids"]) == 2:
                return nested
        except Exception as error:  # each processor has its own way to refuse
            problem = problem or error
    raise ValueError(f"its processor takes no batch of pictures: {problem}")


# one reading for several answers ----------------------------------------------------------------


@dataclass(frozen=True)
class Encoded:
    """What an encoder made of questions and pictures, ``[b, s, d]``."""

    states: torch.Tensor

    @contextmanager
    def repeated(
        self, model: Any, inputs: Inputs, answers: int, beams: int
    ) -> Iterator[dict[str, Any]]:
        """Keyword arguments of ``generate`` within the block; it repeats for beams itself."""
        states = self.states.repeat_interleave(answers, dim=0)
        mask = inputs["attention_mask"].repeat_interleave(answers, dim=0)
        yield {"encoder_outputs": BaseModelOutput(states), "attention_mask": mask}


@dataclass(frozen=True)
class Prefix:
    """What a decoder keeps of questions and pictures that it has read but for the last token."""

    cache: Any
    shift: torch.Tensor | None
    """``[b, 1]``: how far positions lie before the count of tokens, of models whose pictures take
    fewer positions than tokens (Qwen-VL, https://arxiv.org/abs/2409.12191)."""

    @contextmanager
    def repeated(
        self, model: Any, inputs: Inputs, answers: int, beams: int
    ) -> Iterator[dict[str, Any]]:
        """Keyword arguments of ``generate`` within the block."""
        cache = copy.deepcopy(self.cache)
        if answers * beams > 1:
            cache.batch_repeat_interleave(answers * beams)
        rows = {
            name: inputs[name].repeat_interleave(answers, dim=0)
            for name in ("input_ids", "attention_mask")
        }
        self._shift(model, answers)
        try:
            yield {**rows, name_of_cache(model): cache}
        finally:
            self._shift(model, 1)

    def _shift(self, model: Any, times: int) -> None:
        if self.shift is not None:
            model.model.rope_deltas = self.shift.repeat_interleave(times, dim=0)


Read = Encoded | Prefix


def name_of_cache(model: Any) -> str:
    """The argument that takes what was read; older versions of transformers call it otherwise."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


@torch.inference_mode()
def _read(model: Any, inputs: Inputs) -> Read:
    rows, length = inputs["input_ids"].shape
    if model.config.is_encoder_decoder:
        start = inputs["input_ids"].new_full(
            (rows, 1), model.generation_config.decoder_start_token_id
        )
        return Encoded(model(**inputs, decoder_input_ids=start).encoder_last_hidden_state)
    before = {
        name: values[:, :-1]
        if torch.is_tensor(values) and values.ndim == 2 and values.shape == (rows, length)
        else values
        for name, values in inputs.items()
    }
    decoder = getattr(model, "model", None)
    counts_itself = hasattr(decoder, "rope_deltas")
    if not counts_itself and "position_ids" in inspect.signature(model.forward).parameters:
        # as generate counts: padding has no place
        before["position_ids"] = (before["attention_mask"].long().cumsum(-1) - 1).clamp(min=0)
    read = model(**before, use_cache=True, logits_to_keep=1)
    cache = read.get("cache") or read.get("past_key_values")
    return Prefix(cache, getattr(decoder, "rope_deltas", None))


def _can_share(vlm: Vlm, found: str) -> bool:
    """Whether answers that share a reading are those that do not."""
    images = [Image.new("RGB", size, "white") for size in ((64, 48), (32, 64))]
    inputs = vlm.inputs(images, [vlm.asked("What?"), vlm.asked("What is it?")])
    how = {"max_new_tokens": _CHECKED_WORDS, "do_sample": False, "num_beams": 1}
    told = {"output_logits": True, "return_dict_in_generate": True}
    try:
        plain = vlm.write(inputs, 1, None, **how, **told).logits
        read = _read(vlm.model, inputs)
        shared = vlm.write(inputs, 2, read, **how, **told).logits
        vlm.write(inputs, 1, read, **{**how, "num_beams": 2})
    except Exception as error:  # of whatever kind, it only costs time
        log.info("%s reads its picture for each answer: %s", found, error)
        return False
    return all(map(_alike, plain, shared))


def _alike(plain: torch.Tensor, shared: torch.Tensor) -> bool:
    """Of the same questions, ``[b, v]`` and ``[2 b, v]``."""
    wanted = plain.float().softmax(-1).repeat_interleave(2, dim=0)
    return bool((wanted - shared.float().softmax(-1)).abs().max() < _ALIKE)
