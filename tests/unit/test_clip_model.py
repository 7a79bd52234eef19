"""CLIP's text embeddings without their padding, and prompts in pieces that fit its window."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from support_rounding import assert_only_rounded, rounding
from torch.nn import functional

from surd.models.clip import Clip, load_clip

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["a", "red", "old", "cat", "dog", "fox", "house", "tree", "under", "snow", "sits", "8k"]
VISION = {"image_size": 32, "patch_size": 16, "layers": 1, "width": 16, "head_width": 8}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}
TOWERS = {
    "plain": {},
    "both ways": {"no_causal_mask": True},
    "last": {"pool_type": "last"},
    "custom": {"custom_text": True},
    "custom both ways": {"custom_text": True, "no_causal_mask": True, "pool_type": "last"},
    "custom with class token": {"custom_text": True, "embed_cls": True, "pool_type": "last"},
    "custom end": {"custom_text": True, "no_causal_mask": True, "pool_type": "eos",
                   "eos_id": 49407},
}  # fmt: skip
"""Only the plain one surely embeds a text alike whatever follows its end."""


@pytest.fixture(scope="module")
def shipped() -> Clip:
    return load_clip("demo:clip")


def small_clip(folder: Path, *, custom_text: bool = False, **text: Any) -> Clip:
    """A small random CLIP, through open_clip's folder format."""
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": {**TEXT, **text}}
    torch.manual_seed(0)
    model = (open_clip.CustomTextCLIP if custom_text else open_clip.CLIP)(**config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2)
    content = {"model_cfg": {**config, "custom_text": custom_text}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    clip = load_clip(str(folder))
    assert isinstance(clip.model, open_clip.CustomTextCLIP) == custom_text
    return clip


def texts(count: int) -> list[str]:
    """From nothing to far beyond every window, in no order of length."""
    chance = random.Random(0)
    found = [" ".join(chance.choices(WORDS, k=chance.randint(1, 70))) for _ in range(count - 4)]
    return ["cat", *found[:9], "", *found[9:], " ".join(100 * WORDS), "a cat, in the snow"]


def assert_embeds_as_on_the_full_window(clip: Clip, some: list[str]) -> None:
    tokens = clip.tokenize(some)
    assert tokens.shape == (len(some), clip.context_tokens)
    computed, exact = by_the_library(clip, some)
    assert torch.pdist(exact).median() > 0.1
    assert_only_rounded(clip.embed_texts(some), exact, rounding(computed, exact))


@torch.inference_mode()
def by_the_library(clip: Clip, some: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """open_clip's embeddings of texts on the full window, in float32 and in float64."""
    tokens = clip.tokenize(some)
    exact = copy.deepcopy(clip.model).double()
    both = clip.model.encode_text(tokens), exact.encode_text(tokens)
    float32, float64 = (functional.normalize(found, dim=-1) for found in both)
    return float32, float64


def lengths_seen(clip: Clip, some: list[str]) -> list[int]:
    """How many tokens a text had in each batch that went through the text tower."""
    seen: list[int] = []
    hook = clip.model.transformer.register_forward_pre_hook(
        lambda _, given: seen.append(given[0].shape[1])
    )
    clip.embed_texts(some)
    hook.remove()
    return seen


def test_the_shipped_model_embeds_as_on_the_full_window(shipped: Clip) -> None:
    assert_embeds_as_on_the_full_window(shipped, texts(150))


@pytest.mark.parametrize("tower", TOWERS)
def test_every_kind_of_text_tower_embeds_as_on_the_full_window(tmp_path: Path, tower: str) -> None:
    clip = small_clip(tmp_path, **TOWERS[tower])
    assert_embeds_as_on_the_full_window(clip, texts(150))


def test_padding_is_computed_only_where_it_counts(tmp_path: Path, shipped: Clip) -> None:
    short = [text[:8] for text in texts(150)]
    longest = max(map(shipped.count_tokens, short))
    assert longest < shipped.context_tokens
    assert lengths_seen(shipped, short)[0] == longest
    assert max(lengths_seen(shipped, short)[1:]) < longest
    assert set(lengths_seen(small_clip(tmp_path, no_causal_mask=True), short)) == {77}


def test_a_text_embeds_alike_whatever_is_beside_it(shipped: Clip) -> None:
    some = texts(150)
    computed, exact = by_the_library(shipped, some)
    error = rounding(computed, exact)
    assert_only_rounded(shipped.embed_texts(some), exact, error)
    for i in (0, 10, 50, 149):
        assert_only_rounded(shipped.embed_texts(some[i : i + 1])[0], exact[i], error)


def words(text: str) -> list[str]:
    return re.findall(r"[^\s,]+", text)


@pytest.mark.parametrize("separator", [" ", ", ", ",", " ,\n", ",, "])
@pytest.mark.parametrize("count", [1, 60, 300])
def test_pieces_fit_and_hold_the_words_in_order(shipped: Clip, count: int, separator: str) -> None:
    chance = random.Random(count)
    tags = [" ".join(chance.choices(WORDS, k=chance.randint(1, 6))) for _ in range(count)]
    text = separator.join(tags)
    pieces = shipped.split(text)
    assert words(" ".join(pieces)) == words(text)
    assert all(shipped.count_tokens(piece) <= shipped.context_tokens for piece in pieces)
    if count == 300:
        full = [shipped.count_tokens(piece) for piece in pieces[:-1]]
        assert min(full) > shipped.context_tokens / 2


def test_tags_stay_whole_and_a_tag_beyond_the_window_is_cut_between_words(tmp_path: Path) -> None:
    clip = small_clip(tmp_path)
    assert clip.count_tokens("a red cat") == 5
    long = " ".join(40 * ["red", "cat"])
    assert clip.split(f"a dog, {long}, a fox") == [
        "a dog",
        " ".join(37 * ["red", "cat"] + ["red"]),
        "cat red cat red cat, a fox",
    ]


def test_a_text_that_fits_is_left_as_it_is(shipped: Clip) -> None:
    for text in ("", " ", ",", "a  red,cat ,", "\n"):
        assert shipped.split(text) == [text]


def test_a_word_beyond_the_window_stays_one_piece(shipped: Clip) -> None:
    long = 300 * "zx9"
    assert shipped.count_tokens(long) > shipped.context_tokens
    assert shipped.split(f"a cat, {long}, a dog") == ["a cat", long, "a dog"]
    assert shipped.tokenize([long]).shape == (1, shipped.context_tokens)


def test_commas_beyond_the_window_are_one_piece(tmp_path: Path) -> None:
    clip = small_clip(tmp_path)
    text = 200 * " ,"
    assert clip.count_tokens(text) > clip.context_tokens
    assert clip.split(text) == [text]
