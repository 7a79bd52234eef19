"""Language models that continue texts, through transformers."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from itertools import chain
from typing import Any

import torch

from surd.errors import ModelError
from surd.models.llm import located, one_line
from surd.models.memory import AtOnce

Complete = Callable[[str, Sequence[str]], list[str]]
"""What all texts begin with, and how each goes on, to the rest of its line."""
_TEXTS_AT_ONCE = 64


def load_completion(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    most_tokens: int = 100,
) -> Complete:
    """A model that writes the most likely token each time, until the line or the text ends.

    What texts begin with is read once for all. A text that a model cannot read for length goes on
    with nothing. Raises ModelError in one line, also for a beginning that is too long.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

    with one_line(name, None):
        found, revision = located(name, None, None, dtype)
        placed = {} if str(device) == "cpu" else {"device_map": {"": device}}
        model = AutoModelForCausalLM.from_pretrained(
            found, revision=revision, dtype=dtype, **placed
        )
        tokenizer = AutoTokenizer.from_pretrained(found, revision=revision)
    model.eval().requires_grad_(False)
    accepts = inspect.signature(model.forward).parameters
    # transformers 5.24 renames it, and warns of the old name
    argument = next((name for name in ("cache", "past_key_values") if name in accepts), None)
    if argument is None:
        raise ModelError(
            f"language model {name!r} keeps no keys and values of what it has read; name another "
            "one with --rewriter"
        )
    at_once = AtOnce(_TEXTS_AT_ONCE)
    limit: int = getattr(model.config, "max_position_embeddings", None) or sys.maxsize

    def complete(beginning: str, texts: Sequence[str]) -> list[str]:
        ids = tokenizer(beginning, verbose=False).input_ids
        if len(ids) > 1 and ids[-1] == tokenizer.eos_token_id:
            ids = ids[:-1]
        room = limit - len(ids)
        if room < 2:
            raise ModelError(
                f"language model {name!r} reads {limit:,} tokens at most, and the examples alone "
                f"are {len(ids):,}; name another one with --rewriter"
            )
        read = DynamicCache(config=model.config)
        with torch.inference_mode():
            model(torch.tensor([ids], device=model.device), **{argument: read}, use_cache=True)
        rests = tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
        work = partial(_continue, model, argument, tokenizer, read, most_tokens, room)
        found = chain(*at_once.each(work, [rest for rest in rests if len(rest) < room], _too_large))
        return [next(found) if len(rest) < room else "" for rest in rests]

    return complete


@torch.inference_mode()
def _continue(
    model: Any,
    argument: str,
    tokenizer: Any,
    read: Any,
    most_tokens: int,
    room: int,
    rests: Sequence[Sequence[int]],
) -> list[str]:
    """What follows on what is `read` and then on each of the `rests`, which has tokens of `room`
    with what follows on it."""
    cache = deepcopy(read)  # which grows as it is read
    start, longest = cache.get_seq_length(), max(map(len, rests))
    cache.batch_repeat_interleave(len(rests))
    padded = [[0] * (longest - len(rest)) + list(rest) for rest in rests]
    given = torch.tensor(padded, device=model.device)  # [b, s]
    lengths = torch.tensor([len(rest) for rest in rests], device=model.device)[:, None]
    there = torch.arange(longest, device=model.device) >= longest - lengths  # [b, s]
    mask = torch.cat([there.new_ones(len(rests), start), there], dim=1).long()
    written: list[list[int]] = [[] for _ in rests]
    ended = [False] * len(rests)
    for _ in range(most_tokens):
        places = (mask.cumsum(dim=1) - 1)[:, -given.shape[1] :]
        places = places.clamp(max=start + room - 1)  # of rows that have ended
        out = model(
            given, attention_mask=mask, position_ids=places, **{argument: cache}, use_cache=True
        )
        given = out.logits[:, -1:].argmax(dim=-1)  # [b, 1]
        mask = torch.cat([mask, mask.new_ones(len(rests), 1)], dim=1)
        for row, token in enumerate(given[:, 0].tolist()):
            if not ended[row]:
                written[row].append(token)
                is_full = len(rests[row]) + len(written[row]) >= room
                ended[row] = is_full or _ends(tokenizer, token)
        if all(ended):
            break
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return [" ".join(text.partition("\n")[0].split()) for text in texts]


def _ends(tokenizer: Any, token: int) -> bool:
    return token == tokenizer.eos_token_id or "\n" in tokenizer.decode([token])


def _too_large(rest: Sequence[int]) -> str:
    return (
        "not enough memory to rewrite even one prompt; name a smaller model with --rewriter, or "
        "hide the GPU (CUDA_VISIBLE_DEVICES=)"
    )
