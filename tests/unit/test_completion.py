"""Language models that continue texts: as each text alone would go on, whatever is beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support_llm import WORDS, make_model, tokens_of

from surd.errors import ModelError
from surd.models.completion import load_completion

BEGINNING = "a dog runs through the long grass"
TEXTS = ["in the rain", "cat", "two red cups on", "in the grass", "a"]
MOST = 6

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@torch.inference_mode()
def alone(model: Any, text: str) -> str:
    """The most likely words, one after the other, without a cache or padding."""
    (ids,) = tokens_of([f"{BEGINNING} {text}"])
    start = len(ids)
    while len(ids) < start + MOST:
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return " ".join(WORDS[token] for token in ids[start:] if WORDS[token][0] != "<")


@pytest.mark.parametrize(
    "family",
    ["llama", "qwen3", "gemma", "phi", "gpt2", "gpt_neox", "opt", "bloom", "mixtral"],
)
def test_a_text_goes_on_as_it_would_alone(family: str, tmp_path: Path) -> None:
    model = make_model(tmp_path, family)
    complete = load_completion(str(tmp_path), most_tokens=MOST)
    wanted = [alone(model, text) for text in TEXTS]
    assert complete(BEGINNING, TEXTS) == wanted
    assert complete(BEGINNING, TEXTS[:1]) == wanted[:1], "the beginning is read anew"
    assert len(set(wanted)) > 1


def test_texts_end_where_a_model_can_read_no_more(tmp_path: Path) -> None:
    model = make_model(tmp_path, "gpt2")  # of 64 tokens
    complete = load_completion(str(tmp_path), most_tokens=MOST)
    full, long = " ".join(["cat"] * 54), " ".join(["cat"] * 100)
    short, cut, none = complete(BEGINNING, [TEXTS[0], full, long])
    assert short == alone(model, TEXTS[0]) and none == ""
    assert 0 < len(cut.split()) < MOST
    with pytest.raises(ModelError, match="reads 64 tokens at most, and the examples alone are 7"):
        complete(" ".join([BEGINNING] * 10), ["cat"])


def test_a_text_ends_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model(tmp_path)
    wanted = alone(model, TEXTS[0]).split()
    from transformers import PreTrainedTokenizerFast

    read = PreTrainedTokenizerFast.decode

    def decode(self: Any, ids: Any, **how: Any) -> Any:
        return str(read(self, ids, **how)).replace(wanted[2], "\n")

    monkeypatch.setattr(PreTrainedTokenizerFast, "decode", decode)
    monkeypatch.setattr(
        PreTrainedTokenizerFast,
        "batch_decode",
        lambda self, rows, **how: [decode(self, row) for row in rows],
    )
    complete = load_completion(str(tmp_path), most_tokens=MOST)
    assert complete(BEGINNING, TEXTS[:1]) == [" ".join(wanted[: wanted.index(wanted[2])])]


def test_what_is_no_language_model_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        load_completion(f"{tmp_path}/none")
    with pytest.raises(ModelError, match="language model"):
        load_completion(str(tmp_path))
