"""``surd train-adapter`` with tiny models: resumption, what learns, every kind of pipeline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import support_publish
import torch
from diffusers import DDPMScheduler
from PIL import Image
from safetensors.torch import load_file
from support_diffusion import MARKS, make_pipeline, make_published

from surd import adapter as adapters
from surd import embeddings
from surd.adapter.attention import Reader, attention_error, readers_of
from surd.adapter.cache import build_cache, encode_samples, picture, sample_reader, views
from surd.adapter.data import Data
from surd.adapter.encoding import encode
from surd.adapter.fresh import ids_of, open_fresh
from surd.adapter.losses import TERMS, Batch, losses, unet_arguments, weighed
from surd.adapter.params import TrainAdapterParams
from surd.adapter.sentences import Spoken, sentences_of
from surd.adapter.training import Student, config_of, train
from surd.errors import SurdError
from surd.export.published import open_published
from surd.images import decode

Surd = Callable[..., Any]
SMALL = {"heads": 4, "feed_forward": 32, "report_to": "none", "batch_size": 3, "accumulate": 2}

LOOK = {
    "validation_prompts": '["a red cup", "two cups, blue"]',
    "validation_steps": 2,
    "validate_every": 2,
    "validation_seeds": 2,
    "validation_clip": "demo:clip",
    "accumulate": 1,
    "checkpoint_every": 2,
}

pytestmark = MARKS


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "sd"
    make_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "w"
    make_published(folder)
    return folder


def command(workspace: Path, diffusion: str, run: Path, steps: int, **more: Any) -> list[str]:
    settings = {**SMALL, "learning_rate": 1e-3, **more}
    sets = [a for k, v in settings.items() for a in ("--set", f"train_adapter.{k}={v}")]
    told = ["--diffusion", diffusion, "--llm", "tiny-llm", "--steps", str(steps)]
    return ["train-adapter", str(workspace), *told, "-o", str(run), *sets]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter_model.safetensors")


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def data_of(workspace: Path, pipeline: Any, folder: Path, params: TrainAdapterParams) -> Data:
    dataset = open_published(str(workspace))
    cached = build_cache(
        dataset, "train", pipeline, "tiny", folder, resolution=16, flip=True, batch=8
    )
    return Data(cached, embeddings.load(workspace, "tiny-llm", 3), pipeline, params)


@pytest.mark.parametrize("more", [{}, {"ema": 0.9, "schedule": "cosine", "projection": "learned"}])
def test_killed_and_resumed_it_ends_with_the_same_weights(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, more: dict[str, Any]
) -> None:
    more = {**more, "checkpoint_every": 5}
    whole = command(workspace, diffusion, tmp_path / "whole", 12, **more)
    assert surd(*whole, "-q").code == 0
    cut = command(workspace, diffusion, tmp_path / "cut", 12, **more)
    log = tmp_path / "cut" / "log.jsonl"
    alike = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums depend on the number of threads
    with subprocess.Popen(
        [sys.executable, "-m", "surd", *cut, "-q"], stderr=subprocess.DEVNULL, env=alike
    ) as process:
        while process.poll() is None:
            if log.is_file() and len(log.read_text().splitlines()) >= 7:
                process.kill()
            time.sleep(0.002)
    assert not (tmp_path / "cut" / "adapter_model.safetensors").exists()
    assert (tmp_path / "cut" / "checkpoint-000005").is_dir()
    assert surd(*cut, "-q").code == 0
    assert same(tmp_path / "whole", tmp_path / "cut")
    lines = log.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))
    assert lines == (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    told = surd(*cut)
    assert told.code == 0 and "is trained already" in told.out


def test_another_seed_gives_another_adapter_and_the_same_seed_the_same(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = command(workspace, diffusion, tmp_path / name, 2, seed=seed)
        assert surd(*run, "-q").code == 0
    assert same(tmp_path / "a", tmp_path / "b") and not same(tmp_path / "a", tmp_path / "c")
    loaded = adapters.load(tmp_path / "a")
    assert loaded.config.width == 32 and loaded.config.weight == 0.1
    card = (tmp_path / "a" / "README.md").read_text()
    assert "| `seed` | `1` |" in card and "tiny-llm" in card
    (tmp_path / "a" / "README.md").unlink()  # killed before it was written
    assert (
        "is trained already" in surd(*command(workspace, diffusion, tmp_path / "a", 2, seed=1)).out
    )
    assert (tmp_path / "a" / "README.md").read_text() == card
    svg = ElementTree.parse(tmp_path / "a" / "loss.svg")
    assert len(svg.findall("{http://www.w3.org/2000/svg}polyline")) == 3


@pytest.mark.parametrize("term", ["denoising", "attention", "llm", "prompt"])
@pytest.mark.parametrize("projection", ["frozen", "learned"])
def test_each_term_teaches_the_adapter_and_nothing_else(
    workspace: Path, tmp_path: Path, term: str, projection: Any
) -> None:
    pipeline = make_pipeline()
    others = dict.fromkeys([f"{name}_weight" for name in TERMS], 0.0)
    params = TrainAdapterParams(**SMALL, projection=projection, **others | {f"{term}_weight": 1.0})
    data = data_of(workspace, pipeline, tmp_path, params)
    pipeline.unet.requires_grad_(False)
    student = Student(config_of(params, 32), 24, projection)
    torch.nn.init.normal_(student.adapter.out.weight, std=0.2)
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    assert batch.side == 16 and batch.latents.shape[-1] == 8
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    noise, times = data.noise(0, 0, batch, 1000)
    readers = readers_for(pipeline, schedule, batch, noise, times)
    terms = losses(student, pipeline.unet, schedule, batch, noise, times, params, readers)
    assert list(terms) == [term]
    weighed(terms, params).backward()
    taught = {name for name, p in student.named_parameters() if p.grad is not None and p.grad.any()}
    every = {name for name, _ in student.named_parameters()}
    own = {name for name in every if name.startswith("adapter.")} - {"adapter.key.bias"}
    encoder = {name for name in own if name.startswith("adapter.encoder.")}
    projected = {"projection.weight", "projection.bias"} if projection == "learned" else set()
    expected = encoder | projected if term == "llm" else own
    assert taught - {"adapter.key.bias"} == expected
    assert not any(p.grad is not None for p in pipeline.unet.parameters())
    assert not any(p.grad is not None for p in pipeline.text_encoder.parameters())


def readers_for(
    pipeline: Any, schedule: Any, batch: Batch, noise: torch.Tensor, times: torch.Tensor
) -> list[Reader]:
    arguments = unet_arguments(pipeline.unet, schedule, batch, batch.complex, noise, times)
    return readers_of(
        pipeline.unet, [(arguments, torch.arange(5)), (arguments, torch.arange(9))], 12
    )


def test_attention_alone_needs_the_unet_for_its_queries_only(
    workspace: Path, tmp_path: Path
) -> None:
    pipeline = make_pipeline()
    weights = {"denoising_weight": 0, "llm_weight": 0, "prompt_weight": 0, "attention_weight": 1}
    params = TrainAdapterParams(**SMALL, **weights, blend="residual", attention_queries=100)
    data = data_of(workspace, pipeline, tmp_path / "cache", params)
    calls = []
    pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
    logged = []
    params = params.model_copy(update={"steps": 6, "learning_rate": 1e-2, "report_to": "none"})
    train(data, pipeline, 24, params, tmp_path / "run", lambda step, terms: logged.append(terms))
    assert len(calls) == 2  # 64 queries a batch
    assert [set(terms) for terms in logged] == [{"loss", "attention"}] * 6
    assert logged[-1]["attention"] < logged[0]["attention"]


def test_layers_are_asked_what_the_unet_asks_them_and_answer_alike_to_the_same_text(
    workspace: Path, tmp_path: Path
) -> None:
    pipeline = make_pipeline()
    data = data_of(workspace, pipeline, tmp_path, TrainAdapterParams(**SMALL))
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    readers = readers_for(pipeline, schedule, batch, *data.noise(0, 0, batch, 1000))
    names = [name for name, _ in pipeline.unet.named_modules() if name.endswith("attn2")]
    assert len(readers) == len(names) > 1
    for reader in readers:
        assert len(reader.queries) == 12 and reader.variance > 0
        torch.testing.assert_close(reader.queries[:5], reader.queries[5:10])  # the same run twice
    assert attention_error(readers, batch.complex, batch.complex) == 0
    assert attention_error(readers, batch.simple, batch.complex) > 0


def test_any_caption_that_clip_confirms_may_stand_in(tmp_path: Path) -> None:
    rows = support_publish.samples(30, cos_simple=lambda n: 0.3 + n / 1000)
    said = [("beam", 0.35), ("true", 0.304), ("false", 0.29)]
    for row in rows:
        row["candidates"] = [
            {"text": f"{text} {row['source_id']}", "raw": "", "how": "nucleus"} for text, _ in said
        ]
        row["candidate_scores"] = [score for _, score in said]
        row["simple_prompt"] = f"beam {row['source_id']}"
    workspace = support_publish.make_workspace(tmp_path / "w", [rows])
    ids = [row["id"] for row in rows]
    found = sentences_of(workspace.location, ids[5:])
    assert list(found) == ids[5:]
    assert found[ids[5]] == ["beam 5"]  # the lowest that was chosen is 0.305
    found = sentences_of(workspace.location, ids)
    assert found[ids[5]] == ["beam 5", "true 5"]  # 0.300
    with pytest.raises(SurdError, match="1 samples of the dataset have no captions"):
        sentences_of(workspace.location, [*ids, "another"])


def test_captions_are_drawn_anew_for_every_batch(workspace: Path, tmp_path: Path) -> None:
    pipeline = make_pipeline()
    params = TrainAdapterParams(**{**SMALL, "batch_size": 8})
    plain = data_of(workspace, pipeline, tmp_path, params)
    captions = {id_: ["a red circle", "two blue stars"] for id_ in plain._source.ids}
    spoken = Spoken(captions, partial(encode, pipeline))
    data = Data(plain._source, plain._vectors, pipeline, params, spoken)
    allowed = encode(pipeline, ["a red circle", "two blue stars"]).states
    seen = set()
    for number in range(3):
        batch = data.batch(number, 1, 0, torch.device("cpu"))
        again = data.batch(number, 1, 0, torch.device("cpu"))
        assert torch.equal(batch.simple, again.simple)
        near = torch.cdist(batch.simple.flatten(1), allowed.flatten(1))  # [b, 2]
        assert near.min(dim=1).values.max() < 1e-3
        seen |= set(near.argmin(dim=1).tolist())
        alike = plain.batch(number, 1, 0, torch.device("cpu"))
        assert torch.equal(batch.latents, alike.latents)
        assert torch.equal(batch.complex, alike.complex)
    assert seen == {0, 1}


def test_a_share_of_complex_prompts_stands_in_for_simple_ones(
    workspace: Path, tmp_path: Path
) -> None:
    params = TrainAdapterParams(**{**SMALL, "batch_size": 20}, complex_share=0.5)
    data = data_of(workspace, make_pipeline(), tmp_path, params)
    same = []
    for number in range(5):
        batch = data.batch(number, 1, 0, torch.device("cpu"))
        same += [torch.equal(*pair) for pair in zip(batch.simple, batch.complex, strict=True)]
    assert 30 < sum(same) < 70


def test_the_aim_may_be_what_the_model_predicts_from_the_complex_prompt(
    workspace: Path, tmp_path: Path
) -> None:
    pipeline = make_pipeline()
    params = TrainAdapterParams(**SMALL, denoising_target="complex", blend="residual")
    data = data_of(workspace, pipeline, tmp_path, params)
    student = Student(config_of(params, 32), 24, "frozen").eval()
    pipeline.unet.requires_grad_(False)
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    rest = (*data.noise(0, 0, batch, 1000), params)
    apart = losses(student, pipeline.unet, schedule, batch, *rest)["denoising"]
    apart.backward()
    assert apart > 0 and student.adapter.out.weight.grad.any()
    alike = replace(batch, complex=batch.simple)  # at first the adapter changes nothing
    assert losses(student, pipeline.unet, schedule, alike, *rest)["denoising"] < 1e-12


@pytest.mark.parametrize("kind", ["sd1", "sd2", "xl"])
def test_every_kind_of_pipeline_is_trained(
    surd: Surd, workspace: Path, tmp_path: Path, kind: str
) -> None:
    pipeline = make_pipeline("v_prediction" if kind == "sd2" else "epsilon", xl=kind == "xl")
    pipeline.save_pretrained(tmp_path / kind)
    more = {"snr_gamma": 5.0, "noise_offset": 0.1}
    run = command(workspace, str(tmp_path / kind), tmp_path / "run", 3, **more)
    ran = surd(*run, "-q", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["steps"] == 3 and ran.json["samples"] > 20
    assert adapters.load(tmp_path / "run").config.width == (64 if kind == "xl" else 32)
    moved = weights(tmp_path / "run")["out.weight"]
    assert moved.abs().max() > 0


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
    right = encode_samples(pipeline, [samples[row] for row in rows], resolution=16, flip=True)
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


def test_two_processes_share_the_work_and_leave_one_adapter(
    workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    run = tmp_path / "run"
    told = command(tmp_path / "w", diffusion, run, 3, **LOOK, ema=0.9)
    script = Path(__file__).parent.parent / "two_processes.py"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (tmp_path / "encoded").mkdir()
    alike = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "ENCODED": tmp_path / "encoded"}
    line = [sys.executable, *launch, str(script), *told, "--json"]
    ran = subprocess.run(
        line, env={**os.environ, **alike}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout)["steps"] == 3  # said once
    first, second = ((tmp_path / "encoded" / rank).read_text().split() for rank in "01")
    ids = ids_of(open_published(str(workspace)), "train")
    assert first and second and sorted(first + second) == sorted(ids)
    assert [json.loads(one)["step"] for one in (run / "log.jsonl").open()] == [1, 2, 3]
    states = run / "checkpoint-000002" / "state"
    assert len([*states.glob("random_states_*")]) == 2
    assert len([*run.glob("validation/*/*.png")]) == 3 * 4
    assert [json.loads(one)["step"] for one in (run / "validation.jsonl").open()] == [0, 2, 3]
    assert weights(run)["out.weight"].any() and (run / "README.md").is_file()
    assert not [*tmp_path.rglob(".*.tmp")]


def test_what_a_killed_run_left_half_done_goes(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    told = command(tmp_path / "w", diffusion, tmp_path / "run", 1)
    assert surd(*told, "-q").code == 0
    (cache,) = (tmp_path / "w" / "adapter" / "cache").iterdir()
    half = [cache / ".part-00000.safetensors.0a.tmp", tmp_path / "run" / ".settings.json.0a.tmp"]
    for path in half:
        path.touch()
    (tmp_path / "run" / ".checkpoint-5.tmp" / "state").mkdir(parents=True)
    (tmp_path / "run" / "adapter_model.safetensors").unlink()
    assert surd(*told, "-q").code == 0
    assert not [*tmp_path.rglob(".*.tmp")]


def test_a_run_that_is_looked_at_ends_with_the_same_weights(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    blind = command(workspace, diffusion, tmp_path / "blind", 3, accumulate=1, ema=0.9)
    assert surd(*blind, "-q").code == 0
    run = tmp_path / "run"
    told = command(workspace, diffusion, run, 3, **LOOK, ema=0.9)
    ran = surd(*told, "-q")
    assert ran.code == 0, ran.err
    assert same(tmp_path / "blind", run)
    names = ["000-0.png", "000-1.png", "001-0.png", "001-1.png"]
    for place in ("base", "step-000002", "step-000003"):
        assert sorted(p.name for p in (run / "validation" / place).iterdir()) == names
    first, *rest = map(json.loads, (run / "validation.jsonl").open())
    assert first["step"] == 0 and [line["step"] for line in rest] == [2, 3]
    assert all(-1 < line["clip score"] < 1 and line["pictures"] == 4 for line in [first, *rest])
    card = (run / "README.md").read_text()
    assert "](validation.png)" in card and "1. a red cup\n2. two cups, blue\n" in card
    assert "| step | pictures | clip score |" in card
    with Image.open(run / "validation.png") as grid:
        assert grid.size == (3 * 16, 2 * 16 + 20)
        cell = np.asarray(grid.crop((32, 20, 48, 36)))
    with Image.open(run / "validation" / "step-000003" / "000-0.png") as picture:
        assert np.array_equal(cell, np.asarray(picture))
    assert "validation" not in (tmp_path / "blind" / "README.md").read_text().split("| setting")[0]
    drawn = {p: (p.stat().st_mtime_ns, cv2.imread(p)) for p in run.rglob("validation/*/*.png")}
    lost = run / "validation" / "step-000003" / "001-1.png"
    for path in (lost, run / "adapter_model.safetensors"):
        path.unlink()
    log = run / "validation.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))  # as if killed there
    assert surd(*told, "-q").code == 0
    assert same(tmp_path / "blind", run)
    again = {p: (p.stat().st_mtime_ns, cv2.imread(p)) for p in run.rglob("validation/*/*.png")}
    assert {p for p in drawn if drawn[p][0] != again[p][0]} == {lost}
    assert np.abs(again[lost][1].astype(int) - drawn[lost][1]).max() <= 1  # in a smaller batch
    assert [json.loads(line)["step"] for line in log.open()] == [0, 2, 3]


def test_tensorboard_is_told_the_losses_and_shown_the_pictures(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    more = {**LOOK, "report_to": "tensorboard"}
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 2, **more), "-q")
    assert ran.code == 0, ran.err
    found = [event for path in tmp_path.rglob("events.out.*") for event in events(path)]
    values = {(event.step, value.tag): value for event in found for value in event.summary.value}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    for line in log:
        for name in ("loss", "denoising", "learning_rate"):
            told = values[line["step"], name].simple_value
            assert told == pytest.approx(line[name], rel=1e-5)
    for line in map(json.loads, (tmp_path / "run" / "validation.jsonl").open()):
        told = values[line["step"], "validation/clip_score"].simple_value
        assert told == pytest.approx(line["clip score"], rel=1e-5)
    shown = [value.image for value in values.values() if value.HasField("image")]
    assert len(shown) == 4 and all(image.height == 16 for image in shown)


def events(path: Path) -> Iterator[Any]:
    """Of a TensorBoard file: length, its checksum, event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    while data:
        end = 12 + int.from_bytes(data[:8], "little")
        yield Event.FromString(data[12:end])
        data = data[end + 4 :]


def test_a_set_of_the_demo_is_judged(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    more = {**LOOK, "validation_prompts": "[demo:simple]", "validation_limit": 2}
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 1, **more), "-q")
    assert ran.code == 0, ran.err
    for line in map(json.loads, (tmp_path / "run" / "validation.jsonl").open()):
        assert line["pictures"] == 4 and 0 <= line["all right"] <= line["color"] <= 1
    prompts = json.loads((tmp_path / "run" / "validation" / "prompts.json").read_text())
    assert len(prompts) == 2 and prompts[0] != prompts[1]


def test_every_sample_is_seen_once_an_epoch(workspace: Path, tmp_path: Path) -> None:
    params = TrainAdapterParams(**{**SMALL, "batch_size": 1})
    data = data_of(workspace, make_pipeline(), tmp_path, params)
    count = len(data.rows)
    first = [data._row(i) for i in range(count)]
    second = [data._row(count + i) for i in range(count)]
    assert sorted(first) == sorted(second) == sorted(data.rows) and first != second
    split = [data._row(2 * i + process) for i in range(count // 2) for process in (0, 1)]
    assert split == first[: 2 * (count // 2)]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's compiler has some for itself
@pytest.mark.parametrize("how", ["gradient_checkpointing", "compile"])
def test_ways_to_save_memory_or_time_change_nothing_but_rounding(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    # all of torch.compile but the C++ it would write, which takes minutes to be compiled
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="eager"))
    for name, more in (("plain", {}), ("other", {how: True})):
        ran = surd(*command(workspace, diffusion, tmp_path / name, 2, accumulate=1, **more), "-q")
        assert ran.code == 0, ran.err
    lines = [[*map(json.loads, (tmp_path / n / "log.jsonl").open())] for n in ("plain", "other")]
    for one, other in zip(*lines, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--steps", "7"], "another value of steps (2, now 7)"),
        (["--llm", "other"], "no vectors of other"),
        (["--layer", "9"], "no vectors of tiny-llm, layer 9"),
        (["--diffusion", "./nowhere"], "./nowhere: no such folder"),
        (["--set", "train_adapter.learning_rate=-1"], "learning_rate"),
        (["--set", "train_adapter.heds=4"], "did you mean heads?"),
        (["--set", "train_adapter.report_to=nowhere"], "'nowhere' is no tracker; there are: none"),
        (["--set", "train_adapter.report_to=aim"], "aim is not installed; pip install aim"),
        (["--set", "train_adapter.adam_8bit=true"], "needs bitsandbytes"),
        (["--set", "train_adapter.heads=5"], "5 does not divide 32"),
        (["--set", "train_adapter.resolution=17"], "17 is not divisible by 2"),
        (["--set", "train_adapter.precision=fp16"], "fp16 needs a GPU"),
        (["--set", "train_adapter.validation_prompts=[demo:other]"], "no such set of prompts"),
    ],
)
def test_bad_input_is_one_line(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.setattr("surd.adapter.checks.find_spec", lambda name: None)
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = command(workspace, diffusion, tmp_path / "run", 2)
    if "--steps" in arguments:
        assert surd(*run, "-q").code == 0
    ran = surd(*run, *arguments)
    assert ran.code == 2 and says in ran.err and "Traceback" not in ran.err
    assert ran.err.count("\n") == 1
    assert (tmp_path / "run").exists() == ("--steps" in arguments)


def test_a_workspace_without_a_dataset_says_what_to_run(surd: Surd, tmp_path: Path) -> None:
    from support_llm import PROMPTS, make_workspace

    make_workspace(tmp_path / "w", list(PROMPTS), [True] * 5)
    ran = surd("train-adapter", tmp_path / "w", "--diffusion", "demo:diffusion")
    assert ran.code == 2 and "surd publish" in ran.err
