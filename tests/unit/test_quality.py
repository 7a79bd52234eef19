"""Metrics of pictures alone, and PickScore."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from support_pickscore import saved

from surd.errors import ModelError, SurdError
from surd.evaluate.measures import SIDES, pick_score
from surd.evaluate.prompt import Prompt
from surd.evaluate.quality import load_quality
from surd.models import pickscore
from surd.models.pickscore import load_pickscore

CPU = torch.device("cpu")
TEXTS = ["a red cat sits near a tree", "a blue dog runs"]


def pictures(count: int, side: int = 48) -> list[Image.Image]:
    noise = np.random.default_rng(3).integers(0, 256, (count, side, side + 8, 3), np.uint8)
    return [Image.fromarray(some) for some in noise]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("pickscore"))


def written_out(folder: Path, images: list[Image.Image], texts: list[str]) -> list[float]:
    """PickScore as its card has it, pair by pair: the logits of a CLIP."""
    model = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    how = {"padding": True, "truncation": True, "max_length": 12, "return_tensors": "pt"}
    found = []
    for image, text in zip(images, texts, strict=True):
        with torch.no_grad():
            out = model(**processor(images=image, text=text, **how))
        found.append(float(out.logits_per_image[0, 0]))
    return found


def test_pickscore_is_the_logit_of_picture_and_prompt(folder: Path) -> None:
    images, texts = pictures(20), [*TEXTS * 9, "a " * 40, "tree"]
    scores = load_pickscore(str(folder))(images, texts)
    assert scores == pytest.approx(written_out(folder, images, texts), abs=1e-4)
    assert len({round(score, 4) for score in scores}) > 10


def test_a_model_without_its_processor_takes_that_of_the_clip_it_was_made_from(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers.CLIPModel.from_pretrained(folder).save_pretrained(tmp_path)
    monkeypatch.setattr(pickscore, "PROCESSOR", str(folder))
    images = pictures(2)
    assert load_pickscore(str(tmp_path))(images, TEXTS) == load_pickscore(str(folder))(
        images, TEXTS
    )


def test_what_is_no_pickscore_model_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="is a bert, not a CLIP"):
        load_pickscore(str(tmp_path))
    with pytest.raises(ModelError, match="no such folder"):
        load_pickscore("./nowhere")


def test_each_side_is_scored_with_the_prompts_own_words() -> None:
    class Drawn:
        def __init__(self, side: int) -> None:
            self.side = side

        def open(self, text: str, seed: int) -> Any:
            return self.side, text, seed

    def score(images: Any, texts: Any) -> list[float]:
        assert [text for _, text, _ in images] == list(texts)
        return [1000.0 * side + 10 * TEXTS.index(text) + seed for side, text, seed in images]

    prompts = [Prompt(text, "kind") for text in TEXTS]
    drawings: Any = {side: Drawn(number) for number, side in enumerate(SIDES)}
    measured = pick_score("set", prompts, [5, 6, 7], drawings, score)
    assert measured.values["base"].tolist() == [[5, 6, 7], [15, 16, 17]]
    assert measured.values["adapter"].tolist() == [[1005, 1006, 1007], [1015, 1016, 1017]]
    assert not measured.lower_is_better and measured.measure == "PickScore"


class Towers(torch.nn.Module):
    """In place of CLIP-IQA's weights: looks at the mean colour, and knows red from blue."""

    def encode_text(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.tensor([[1.0, 0, 0], [0, 0, 1.0]])

    def encode_image(self, pixels: torch.Tensor, pos_embedding: bool) -> torch.Tensor:
        assert not pos_embedding and pixels.shape[1] == 3
        return pixels.mean(dim=(2, 3)) + 3


@pytest.fixture
def towers(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """torchmetrics itself, with these weights; the texts it asked about."""
    pytest.importorskip("piq")
    metrics = pytest.importorskip("torchmetrics.multimodal.clip_iqa")
    asked: list[list[str]] = []

    def processor(text: list[str]) -> dict[str, list[list[int]]]:
        asked.append(text)
        return {"input_ids": [[1, 2]] * len(text)}

    made: Any = processor
    made.tokenizer = SimpleNamespace(model_max_length=7)
    monkeypatch.setattr(metrics, "_get_clip_iqa_model_and_processor", lambda name: (Towers(), made))
    monkeypatch.setattr("surd.evaluate.quality._TOKENIZER", "demo:clip")
    return asked


def test_clip_iqa_is_torchmetrics_and_higher_is_better(towers: list[list[str]]) -> None:
    quality = load_quality("clip-iqa", CPU)
    assert towers == [["Good photo.", "Bad photo."]] and not quality.lower_is_better
    red, blue = (Image.new("RGB", (40, 30), colour) for colour in ("red", "blue"))
    assert quality.measure(red) > 0.99 and quality.measure(blue) < 0.01
    load_quality("clip-iqa:sharpness", CPU)
    assert towers[1] == ["Sharp photo.", "Blurry photo."]


@pytest.mark.parametrize("name", ["clip-iqa:sharpnes", "clip-iqa:"])
def test_other_scales_are_named(towers: list[list[str]], name: str) -> None:
    with pytest.raises(SurdError, match=r"no such scale; take one of quality, brightness"):
        load_quality(name, CPU)


def test_what_is_not_installed_is_named_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(SurdError, match=r"allows no commercial use; .* or take --quality clip-iqa"):
        load_quality("brisque", CPU)
    monkeypatch.setattr("surd.errors.find_spec", lambda name: None)
    with pytest.raises(SurdError, match=r'torchmetrics, piq; run: pip install "surd\[measures\]"'):
        load_quality("clip-iqa", CPU)
