"""CLIP's text embeddings without their padding, and prompts in pieces that fit its window."""

from __future__ import annotations

import copy
import json
import random
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from support_rounding import assert_only_rounded, rounding
from torch.nn import functional

from surd.errors import ModelError
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


KINDS: dict[str, dict[str, Any]] = {
    "ViT": {"vision_cfg": VISION, "text_cfg": TEXT},
    "ResNet": {"vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16},
               "text_cfg": TEXT},
    "SigLIP": {
        "vision_cfg": {"image_size": 224, "timm_model_name": "vit_tiny_patch16_224",
                       "timm_model_pretrained": False, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": TEXT | {"no_causal_mask": True, "pool_type": "last", "proj_type": "linear"},
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "CoCa": {
        "vision_cfg": VISION | {"attentional_pool": True, "output_tokens": True},
        "text_cfg": TEXT | {"embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {"width": 16, "heads": 2, "layers": 1},
        "custom_text": True,
    },
}  # fmt: skip
"""Architectures as open_clip's list has them, but small; SigLIP's tower is timm's."""


def make_kind(folder: Path, kind: str) -> None:
    """One of `KINDS` with random weights, in open_clip's folder format."""
    width = 192 if kind == "SigLIP" else 16
    config = {"embed_dim": width, **KINDS[kind]}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {}})
    )
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_model_embeds_in_the_precision_asked_for(
    kind: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    make_kind(tmp_path, kind)
    exact, found = load_clip(str(tmp_path)), load_clip(str(tmp_path), dtype=dtype)
    assert found.dtype == dtype
    assert {p.dtype for p in found.model.parameters()} == {dtype}
    pixels = torch.randn(3, 3, exact.side_px, exact.side_px)
    some = ["a red cat", "a dog under snow", ""]
    for one, other in (
        (exact.embed_pixels(pixels), found.embed_pixels(pixels)),
        (exact.embed_texts(some), found.embed_texts(some)),
    ):
        assert other.dtype == torch.float32 and other.norm(dim=-1).sub(1).abs().max() < 1e-3
        assert (one * other).sum(dim=-1).min() > 0.999


def test_every_model_of_the_list_computes_with_the_activation_it_was_trained_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[dict[str, Any]] = []

    def create(architecture: str, **how: Any) -> None:
        asked.append(how)
        raise ModelError("no weights here")

    monkeypatch.setattr("surd.models.clip.loading", lambda *_: nullcontext())
    monkeypatch.setattr(open_clip, "create_model_and_transforms", create)
    for architecture, tag in open_clip.list_pretrained():
        with pytest.raises(ModelError, match="no weights here"):
            load_clip(f"{architecture}/{tag}")
        built = bool(open_clip.get_model_config(architecture).get("quick_gelu"))
        trained = open_clip.get_pretrained_cfg(architecture, tag).get("quick_gelu", built)
        assert (asked[-1]["force_quick_gelu"] or built) == trained, (architecture, tag)
    assert len(asked) > 150 and any(how["force_quick_gelu"] for how in asked)


def test_weights_trained_with_quick_gelu_embed_as_they_were_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    config = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    (tmp_path / "ViT-tiny.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    right = open_clip.CLIP(**config, quick_gelu=True).eval()
    for parameter in right.parameters():
        parameter.data.mul_(3 if parameter.ndim > 1 else 1)
    save_file(right.state_dict(), tmp_path / "weights.safetensors")
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [tmp_path])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    open_clip.add_model_config(tmp_path / "ViT-tiny.json")
    entry = {"hf_hub": "", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "ViT-tiny", {"openai": entry})
    monkeypatch.setattr(
        open_clip.factory, "download_pretrained", lambda *_, **__: tmp_path / "weights.safetensors"
    )
    clip = load_clip("ViT-tiny/openai")
    pixels = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = functional.normalize(right.encode_image(pixels), dim=-1)
    torch.testing.assert_close(clip.embed_pixels(pixels), expected)
    assert not [w for w in recwarn if "QuickGELU" in str(w.message)]


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
