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
from support_training import SMALL, command, data_of, weights

from surd.dataset.published import open_published
from surd.files.images import decode
from surd.llm import embeddings
from surd.models.memory import AtOnce
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.cache import build_cache, encode_samples, picture, sample_reader, views
from surd.training.data import Data
from surd.training.uncached import open_fresh

Surd = Callable[..., Any]

pytestmark = MARKS


def test_the_cache_holds_what_the_models_say(workspace: Path, tmp_path: Path) -> None:
    pipeline = make_pipeline()
    dataset = open_published(str(workspace))
    cached = build_cache(
        dataset, "train", pipeline, "tiny", tmp_path, resolution=16, flip=True, batch=8
    )
    samples = sample_reader(dataset, "train")(range(len(cached.ids)))
    assert cached.ids == [sample.id for sample in samples]
    rows = [20, 3, 8]
    found = cached.take(rows)
    right = encode_samples(
        pipeline, [samples[row] for row in rows], resolution=16, flip=True, at_once=AtOnce(3)
    )
    for name, value in right.items():
        torch.testing.assert_close(found[name], value.float(), atol=4e-3, rtol=4e-3)
    pixels = picture(samples[3].image, 16)[None]
    with torch.no_grad():
        mean = pipeline.vae.encode(pixels.flip(-1)).latent_dist.mean[0]
    torch.testing.assert_close(found["latents"][1, 1, :4], mean, atol=4e-3, rtol=4e-3)
    parts = sorted(tmp_path.rglob("part-*"))
    times = {p: p.stat().st_mtime_ns for p in parts}
    parts[1].unlink()
    again = build_cache(
        dataset, "train", pipeline, "tiny", tmp_path, resolution=16, flip=True, batch=8
    )
    kept = {p: p.stat().st_mtime_ns for p in parts if p != parts[1]}
    assert kept == {p: t for p, t in times.items() if p != parts[1]}
    assert all(torch.equal(found[k], v) for k, v in again.take(rows).items())


@pytest.mark.parametrize("xl", [False, True])
def test_without_a_cache_the_batches_are_the_same_but_for_rounding(
    workspace: Path, tmp_path: Path, xl: bool
) -> None:
    pipeline = make_pipeline(xl=xl)
    params = TrainAdapterParams(**SMALL)
    cached = data_of(workspace, pipeline, tmp_path, params)
    dataset = open_published(str(workspace))
    source = open_fresh(dataset, "train", pipeline, resolution=16, flip=True)
    fresh = Data(source, embeddings.load(workspace, "tiny-llm", 3), pipeline, params)
    assert fresh.rows == cached.rows
    for number in (0, 7, 11):
        one, other = (d.batch(number, 2, 1, torch.device("cpu")) for d in (cached, fresh))
        assert torch.equal(one.llm, other.llm) and one.side == other.side
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
    sample, other = sample_reader(dataset, "train")([4, 5])  # 32 wide, 24 high
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
    assert torch.equal(views(sample, 16, flip=False)[0], picture(sample.image, 16))
    assert torch.equal(picture(sample.image, 16), whole[:, :, 2:18])


def test_crops_are_trained_on_from_the_cache_and_without(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    for name, flags in (("cached", []), ("fresh", ["--no-cache"])):
        run = command(workspace, diffusion, tmp_path / name, 3, crops=3)
        ran = surd(*run, *flags, "-q")
        assert ran.code == 0, ran.err
    shapes = {
        load_file(part)["latents"].shape[1] for part in workspace.glob("adapter/cache/*/part-*")
    }
    assert 6 in shapes
    left, right = (weights(tmp_path / name)["out.weight"] for name in ("cached", "fresh"))
    assert torch.nn.functional.cosine_similarity(left.flatten(), right.flatten(), dim=0) > 0.9


def test_every_sample_is_seen_once_an_epoch(workspace: Path, tmp_path: Path) -> None:
    params = TrainAdapterParams(**{**SMALL, "batch_size": 1})
    data = data_of(workspace, make_pipeline(), tmp_path, params)
    count = len(data.rows)
    first = [data._row(i) for i in range(count)]
    second = [data._row(count + i) for i in range(count)]
    assert sorted(first) == sorted(second) == sorted(data.rows) and first != second
    split = [data._row(2 * i + process) for i in range(count // 2) for process in (0, 1)]
    assert split == first[: 2 * (count // 2)]
