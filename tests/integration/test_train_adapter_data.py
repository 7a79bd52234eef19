"""What an adapter is trained on: the cache, batches made without it, crops."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from safetensors.torch import load_file
from support_diffusion import MARKS, make_pipeline
from support_training import SMALL, command, data_of, prepared, weights

from surd.adapter.encoding import Encoded, encode
from surd.dataset.published import open_published
from surd.files.images import decode
from surd.models.memory import AtOnce
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.latents import Cut, cached_latents, encode_pictures
from surd.training.samples import texts_of
from surd.training.texts import cached_texts
from surd.training.views import middle, picture_reader, views

Surd = Callable[..., Any]

pytestmark = MARKS


def test_the_cache_holds_what_the_models_say(workspace: Path, tmp_path: Path) -> None:
    pipeline, cut = make_pipeline(), Cut(16, flip=True)
    dataset = open_published(str(workspace))
    cached = cached_latents(dataset, "train", pipeline.vae, "tiny", cut, tmp_path)
    pictures = picture_reader(dataset, "train")(range(dataset.splits["train"]))
    rows, chosen = [20, 3, 8], [0, 1, 1]
    right = encode_pictures(
        pipeline.vae, [pictures[row] for row in rows], cut, AtOnce(3), chosen=chosen
    )[:, 0]
    torch.testing.assert_close(cached.take(rows, chosen), right, atol=4e-3, rtol=4e-3)
    pixels = middle(pictures[3].image, 16)[None]
    with torch.no_grad():
        mean = pipeline.vae.encode(pixels.flip(-1)).latent_dist.mean[0]
    torch.testing.assert_close(cached.take([3], [1])[0, :4], mean, atol=4e-3, rtol=4e-3)


def written(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("part-*"))}


def test_parts_of_latents_that_are_lost_or_damaged_are_encoded_anew(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.training.latents._PART_ROWS", 8)
    dataset, cut = open_published(str(workspace)), Cut(16, flip=True)
    about = (dataset, "train", make_pipeline().vae, "tiny", cut, tmp_path)
    rows, chosen = [20, 3, 8], [0, 1, 1]
    found = cached_latents(*about).take(rows, chosen)
    parts = written(tmp_path)
    first, _, third, *_ = parts
    first.unlink()
    third.write_bytes(third.read_bytes()[:100])
    assert torch.equal(cached_latents(*about).take(rows, chosen), found)
    again = written(tmp_path)
    assert {path for path in parts if parts[path] != again[path]} == {first, third}


@pytest.mark.parametrize("xl", [False, True])
def test_each_text_is_encoded_once_and_found_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xl: bool
) -> None:
    monkeypatch.setattr("surd.training.texts._PART_TEXTS", 4)
    pipeline, seen = make_pipeline(xl=xl), list[str]()

    def noting(pipeline: Any, prompts: list[str]) -> Encoded:
        seen.extend(prompts)
        return encode(pipeline, prompts)

    monkeypatch.setattr("surd.training.texts.encode", noting)
    texts = [f"{number} red circles" for number in range(10)]
    found = cached_texts(texts, pipeline, "tiny", tmp_path)
    assert seen == texts
    some = found.take([texts[7], texts[2]])
    right = encode(pipeline, [texts[7], texts[2]])
    for one, other in ((some.states, right.states), (some.pooled, right.pooled)):
        if other is not None:
            torch.testing.assert_close(one, other, atol=4e-3, rtol=4e-3)
    assert (some.pooled is not None) == xl
    parts = written(tmp_path)
    _, second, _ = parts
    second.write_bytes(second.read_bytes()[:50])
    seen.clear()
    again = cached_texts(["a blue star", *reversed(texts)], pipeline, "tiny", tmp_path)
    assert sorted(seen) == [*(f"{n} red circles" for n in (4, 5, 6, 7)), "a blue star"]
    assert torch.equal(again.take(texts[:4]).states, found.take(texts[:4]).states)
    assert not second.exists()


def test_a_killed_encoding_of_texts_goes_on_with_the_same_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.training.texts._PART_TEXTS", 4)
    pipeline, texts = make_pipeline(), [f"{number} red circles" for number in range(10)]
    cached_texts(texts, pipeline, "tiny", tmp_path / "whole")
    cached_texts(texts, pipeline, "tiny", tmp_path / "cut")
    whole, cut = (written(tmp_path / name) for name in ("whole", "cut"))
    for path in [*cut][1:]:
        path.unlink()
    cached_texts(texts, pipeline, "tiny", tmp_path / "cut")
    assert [path.read_bytes() for path in whole] == [path.read_bytes() for path in cut]


def test_what_no_loss_needs_is_not_computed(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, pictures = make_pipeline(), list[int]()
    pipeline.vae.encoder.register_forward_hook(lambda _, args, out: pictures.append(len(args[0])))
    monkeypatch.setattr("surd.training.queries._PICTURES", 5)
    off = {"denoising_weight": 0, "llm_weight": 0, "prompt_weight": 0}
    attention = TrainAdapterParams(**SMALL, **off, attention_weight=1)
    data, taught, _ = prepared(workspace, pipeline, tmp_path, attention, tmp_path / "run")
    assert sum(pictures) == 5 and taught.denoiser is None and taught.probes
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    assert batch.latents is None and batch.llm is None and batch.complex is not None
    assert not [*tmp_path.glob("latents-*")]
    denoising = TrainAdapterParams(**SMALL, **off | {"denoising_weight": 1.0})
    data, taught, _ = prepared(workspace, pipeline, tmp_path, denoising, tmp_path / "run")
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    assert batch.latents is not None and batch.complex is None and batch.llm is None
    assert not taught.probes and taught.denoiser is not None
    assert len(texts_of(data.samples, denoising, {})) == len(data.samples)


@pytest.mark.parametrize("xl", [False, True])
def test_without_a_cache_the_batches_are_the_same_but_for_rounding(
    workspace: Path, tmp_path: Path, xl: bool
) -> None:
    pipeline = make_pipeline(xl=xl)
    params = TrainAdapterParams(**SMALL)
    cached = data_of(workspace, pipeline, tmp_path, params)
    fresh = data_of(workspace, pipeline, None, params)
    assert fresh.samples == cached.samples
    for number in (0, 7, 11):
        one, other = (d.batch(number, 2, 1, torch.device("cpu")) for d in (cached, fresh))
        assert one.llm is not None and other.llm is not None and torch.equal(one.llm, other.llm)
        for name in ("latents", "simple", "complex", *(["pooled"] if xl else [])):
            left, right = getattr(one, name), getattr(other, name)
            torch.testing.assert_close(left, right, atol=5e-3, rtol=5e-3)
            assert not torch.equal(left, right)


def test_without_a_cache_the_adapter_is_the_same_but_for_rounding(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    with_cache = command(workspace, diffusion, tmp_path / "cached", 3)
    assert surd(*with_cache, "-q").code == 0
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    without = command(tmp_path / "w", diffusion, tmp_path / "fresh", 3)
    ran = surd(*without, "--no-cache", "-q")
    assert ran.code == 0, ran.err
    assert not (tmp_path / "w" / "adapter").exists()
    left, right = (
        [*map(json.loads, (tmp_path / n / "log.jsonl").open())] for n in ("cached", "fresh")
    )
    for one, other in zip(left, right, strict=True):
        assert one == pytest.approx(other, rel=1e-2)


def test_crops_are_squares_of_the_picture_that_the_id_and_the_seed_choose(
    workspace: Path, tmp_path: Path
) -> None:
    dataset = open_published(str(workspace))
    sample, other = picture_reader(dataset, "train")([4, 5])  # 32 wide, 24 high
    cut = views(sample, 16, flip=True, crops=20, seed=1)
    assert cut.shape == (40, 3, 16, 16) and torch.equal(cut[1], cut[0].flip(-1))
    resized = cv2.resize(decode(sample.image), (21, 16), interpolation=cv2.INTER_AREA)
    whole = torch.from_numpy(resized).permute(2, 0, 1) / 127.5 - 1
    found = {
        left
        for crop in cut[::2]
        for left in range(6)
        if torch.equal(crop, whole[:, :, left : left + 16])
    }
    assert len(found) > 3
    assert torch.equal(views(sample, 16, flip=True, crops=20, seed=1), cut)
    assert not torch.equal(views(sample, 16, flip=True, crops=20, seed=2), cut)
    assert not torch.equal(
        views(replace(sample, id=other.id), 16, flip=True, crops=20, seed=1), cut
    )
    assert torch.equal(views(sample, 16, flip=False)[0], middle(sample.image, 16))
    assert torch.equal(middle(sample.image, 16), whole[:, :, 2:18])


def test_crops_are_trained_on_from_the_cache_and_without(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    for name, flags in (("cached", []), ("fresh", ["--no-cache"])):
        run = command(workspace, diffusion, tmp_path / name, 3, crops=3)
        ran = surd(*run, *flags, "-q")
        assert ran.code == 0, ran.err
    shapes = {
        load_file(part)["latents"].shape[1]
        for part in workspace.glob("adapter/cache/latents-*/part-*")
    }
    assert 6 in shapes
    left, right = (weights(tmp_path / name)["out.weight"] for name in ("cached", "fresh"))
    assert torch.nn.functional.cosine_similarity(left.flatten(), right.flatten(), dim=0) > 0.9


def test_every_sample_is_seen_once_an_epoch(workspace: Path, tmp_path: Path) -> None:
    params = TrainAdapterParams(**{**SMALL, "batch_size": 1})
    data = data_of(workspace, make_pipeline(), None, params)
    count = len(data.samples)
    first = [data._place(i) for i in range(count)]
    second = [data._place(count + i) for i in range(count)]
    assert sorted(first) == sorted(second) == [*range(count)] and first != second
    split = [data._place(2 * i + process) for i in range(count // 2) for process in (0, 1)]
    assert split == first[: 2 * (count // 2)]
