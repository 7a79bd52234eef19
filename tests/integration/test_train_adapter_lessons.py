"""What an adapter learns from: the terms of the loss, and the sentences it is given."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import support_publish
import torch
from safetensors.torch import load_file
from support_diffusion import MARKS, make_pipeline
from support_training import SMALL, command, data_of, prepared, read_samples

from surd.adapter.encoding import encode, windows_of
from surd.dataset.published import open_published
from surd.errors import SurdError
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.attention import Asked, Probe, ask, attention_error, layers_of
from surd.training.frozen import Denoiser, denoiser_of
from surd.training.loop import Student, Taught, train
from surd.training.losses import TERMS, Batch, Noise, losses, weighed
from surd.training.prepare import prepare
from surd.training.sentences import sentences_of
from surd.training.setup import config_of, make_accelerator
from surd.training.texts import fresh_texts

Surd = Callable[..., Any]

pytestmark = MARKS


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
    student = Student(config_of(params, 32), data.llm_width, projection)
    torch.nn.init.normal_(student.adapter.out.weight, std=0.2)
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    assert batch.latents is not None and batch.latents.shape[-1] == 8
    denoiser = denoiser_of(pipeline, PLAIN)
    noise = data.noise(0, 0, batch.latents, 1000)
    given = {"denoiser": denoiser, "noise": noise, "probes": probes_for(denoiser, batch, noise)}
    terms = losses(student, batch, params, **given)
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


PLAIN = SimpleNamespace(mixed_precision="no")


def probes_for(denoiser: Denoiser, batch: Batch, noise: Noise) -> list[Probe]:
    assert batch.latents is not None
    latents = denoiser.scaled(batch.latents)
    arguments = denoiser.arguments(latents, batch.simple, None, noise.values, noise.times)
    unet = denoiser.unet
    asked = ask(unet, [(arguments, torch.arange(5)), (arguments, torch.arange(9))])
    return [Probe(layer, asked[name]) for name, layer in layers_of(unet).items()]


def read(workspace: Path) -> tuple[Any, Batch, list[Probe]]:
    """A pipeline, a batch for it, and its cross-attention layers with what they are asked."""
    pipeline = make_pipeline()
    data = data_of(workspace, pipeline, None, TrainAdapterParams(**SMALL))
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    assert batch.latents is not None
    denoiser = denoiser_of(pipeline, PLAIN)
    return pipeline, batch, probes_for(denoiser, batch, data.noise(0, 0, batch.latents, 1000))


ATTENTION = {"denoising_weight": 0, "llm_weight": 0, "prompt_weight": 0, "attention_weight": 1}


def test_attention_alone_needs_the_unet_for_its_queries_only_and_keeps_those(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.training.queries._PICTURES", 3)
    params = TrainAdapterParams(**SMALL, **ATTENTION, blend="residual")
    params = params.model_copy(update={"steps": 6, "learning_rate": 1e-2})
    calls, logs = [], []
    for name in ("first", "second"):
        pipeline = make_pipeline()
        pipeline.unet.register_forward_hook(lambda *_: calls.append(1))
        run = tmp_path / name
        data, taught, accelerator = prepared(workspace, pipeline, tmp_path, params, run)
        logged: list[Any] = []
        train(
            data, taught, params, run, lambda _, t, to=logged: to.append(t), accelerator=accelerator
        )
        logs.append(logged)
    assert len(calls) == 3  # and none in the second run
    assert logs[0] == logs[1]
    assert [set(terms) for terms in logged] == [{"loss", "attention"}] * 6
    assert logged[-1]["attention"] < logged[0]["attention"]
    (file,) = tmp_path.glob("queries-*/*.safetensors")
    assert {tensor.shape[0] for tensor in load_file(file).values()} == {3 * 64}


def test_of_the_unet_only_its_cross_attention_stays_in_memory(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left: list[set[str]] = []

    def look(data: Any, taught: Taught, *arguments: Any, **more: Any) -> Any:
        kinds = ("UNet2DConditionModel", "AutoencoderKL", "CLIPTextModel")
        heavy = {kind for one in gc.get_objects() if (kind := type(one).__name__) in kinds}
        left.append(heavy)
        assert all(type(probe.layer).__name__ == "Attention" for probe in taught.probes)
        return train(data, taught, *arguments, **more)

    monkeypatch.setattr("surd.training.run.train", look)
    gc.collect()
    before = {type(one).__name__ for one in gc.get_objects()}
    run = command(workspace, diffusion, tmp_path / "run", 2, **ATTENTION)
    assert surd(*run, "-q").code == 0
    assert left and left[0] <= before


def test_layers_are_asked_what_the_unet_asks_them_and_answer_alike_to_the_same_text(
    workspace: Path,
) -> None:
    pipeline, batch, probes = read(workspace)
    names = [name for name, _ in pipeline.unet.named_modules() if name.endswith("attn2")]
    assert len(probes) == len(names) > 1
    for probe in probes:
        queries = probe.asked.queries
        assert len(queries) == 14 and probe.asked.variance > 0
        torch.testing.assert_close(queries[:5], queries[5:10])  # the same run twice
    assert batch.complex is not None
    assert attention_error(probes, batch.complex, batch.complex) == 0
    assert attention_error(probes, batch.simple, batch.complex) > 0
    x = batch.complex.clone().requires_grad_()
    alike = attention_error(probes, x, batch.complex, root=True)
    alike.backward()
    assert float(alike.detach()) == pytest.approx(0.01)
    assert x.grad is not None and x.grad.isfinite().all()


def test_windows_that_a_prompt_does_not_have_are_not_read(workspace: Path) -> None:
    _, batch, probes = read(workspace)
    assert batch.complex is not None
    x, aim = batch.simple, batch.complex
    mask = torch.ones(len(x), 2 * aim.shape[1], dtype=torch.bool)
    mask[:, aim.shape[1] :] = False
    longer = torch.cat([aim, 9 * torch.randn_like(aim)], dim=1)
    errors = []
    for aims in ((aim, None), (longer, mask), (longer, None)):
        torch.manual_seed(0)
        errors.append(float(attention_error(probes, x, *aims)))
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
    assert errors[2] != pytest.approx(errors[0], rel=1e-2)


def test_a_complex_prompt_beyond_the_window_is_an_aim_as_a_whole(
    workspace: Path, tmp_path: Path
) -> None:
    params = TrainAdapterParams(**{**SMALL, **ATTENTION, "batch_size": 4, "prompt_weight": 1})
    pipeline = make_pipeline()
    samples, _ = read_samples(workspace, params)
    tags = [f"{colour} circle" for colour in ("red", "blue", "green", "grey")]
    long = ", ".join(tags * 20)
    samples = [replace(samples[0], complex=long), samples[1], samples[2], samples[3]]
    dataset = open_published(str(workspace))
    accelerator = make_accelerator(params, tmp_path)
    data, _ = prepare(dataset, samples, pipeline, params, tmp_path, accelerator, quiet=True)
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    windows = windows_of(pipeline, long)
    tokens = pipeline.tokenizer.model_max_length
    assert len(windows) > 1 and batch.complex is not None and batch.complex_mask is not None
    assert batch.complex.shape[:2] == batch.complex_mask.shape == (4, tokens * len(windows))
    counts = batch.complex_mask.sum(dim=1).tolist()
    assert sorted(counts) == [tokens, tokens, tokens, tokens * len(windows)]
    row = counts.index(max(counts))
    right = encode(pipeline, windows).states.flatten(0, 1)
    torch.testing.assert_close(batch.complex[row], right, atol=4e-3, rtol=4e-3)
    others = ~batch.complex_mask
    assert others.any() and not batch.complex[others].any()
    terms = losses(
        Student(config_of(params, 32), None, "frozen"), batch, params, probes=probes_in(pipeline)
    )
    assert all(value.isfinite() for value in terms.values()) and "prompt" in terms


def probes_in(pipeline: Any) -> list[Probe]:
    """Its layers, asked what says nothing."""
    return [
        Probe(layer, Asked(torch.zeros(4, layer.to_q.in_features), 1.0))
        for layer in layers_of(pipeline.unet).values()
    ]


def test_the_root_of_its_difference_teaches_what_is_nearly_right_as_much_as_what_is_wrong(
    workspace: Path,
) -> None:
    _, batch, probes = read(workspace)
    assert batch.complex is not None
    aim = batch.complex[:1]
    off = torch.randn(aim.shape, generator=torch.Generator().manual_seed(0))

    def slope(share: float, *, root: bool) -> float:
        x = (aim + share * off).requires_grad_()
        torch.manual_seed(0)
        attention_error(probes, x, aim, root=root).backward()
        assert x.grad is not None
        return float(x.grad.norm())

    assert slope(0.5, root=False) > 2.5 * slope(0.1, root=False)
    assert slope(0.5, root=True) < 1.7 * slope(0.1, root=True)


def test_any_caption_that_clip_confirms_may_stand_in(tmp_path: Path) -> None:
    rows = support_publish.samples(30, cos_simple=lambda n: 0.3 + n / 1000)
    said = [("beam", 0.0), ("true", -0.019), ("false", -0.021)]
    for row in rows:
        row["candidates"] = [
            {"text": f"{text} {row['source_id']}", "raw": "", "how": "nucleus"} for text, _ in said
        ]
        row["candidate_scores"] = [row["cos_simple"] + below for _, below in said]
        row["simple_prompt"] = f"beam {row['source_id']}"
    workspace = support_publish.make_workspace(tmp_path / "w", [rows])
    ids = [row["id"] for row in rows]
    found = sentences_of(workspace.location, ids[5:])
    assert list(found) == ids[5:]
    assert found[ids[23]] == ["beam 23"]  # 0.304; the lowest that was chosen is 0.305
    assert found[ids[26]] == ["beam 26", "true 26"]
    found = sentences_of(workspace.location, ids)
    assert found[ids[18]] == ["beam 18"]
    assert found[ids[23]] == ["beam 23", "true 23"]  # the lowest is 0.300
    with pytest.raises(SurdError, match="1 samples of the dataset have no captions"):
        sentences_of(workspace.location, [*ids, "another"])


def test_captions_are_drawn_anew_for_every_batch(workspace: Path, tmp_path: Path) -> None:
    pipeline = make_pipeline()
    params = TrainAdapterParams(**{**SMALL, "batch_size": 8}, llm_weight=0)
    plain = data_of(workspace, pipeline, tmp_path, params)
    two = ("a red circle", "two blue stars")
    samples = [replace(sample, captions=two) for sample in plain.samples]
    texts = fresh_texts(pipeline)
    data = data_of(workspace, pipeline, tmp_path, params, samples=samples, texts=texts)
    allowed = encode(pipeline, two).states
    seen = set()
    for number in range(3):
        batch = data.batch(number, 1, 0, torch.device("cpu"))
        again = data.batch(number, 1, 0, torch.device("cpu"))
        assert torch.equal(batch.simple, again.simple)
        near = torch.cdist(batch.simple.flatten(1), allowed.flatten(1))  # [b, 2]
        assert near.min(dim=1).values.max() < 1e-3
        seen |= set(near.argmin(dim=1).tolist())
        alike = plain.batch(number, 1, 0, torch.device("cpu"))
        assert batch.latents is not None and alike.latents is not None
        assert torch.equal(batch.latents, alike.latents)
    assert seen == {0, 1}


@pytest.mark.parametrize("xl", [False, True])
def test_a_share_of_complex_prompts_stands_in_for_simple_ones_in_all_that_is_said_of_them(
    workspace: Path, xl: bool
) -> None:
    params = TrainAdapterParams(**{**SMALL, "batch_size": 20}, complex_share=0.5, llm_weight=0)
    pipeline = make_pipeline(xl=xl)
    data = data_of(workspace, pipeline, None, params)
    every = [text for sample in data.samples for text in (*sample.captions, sample.complex)]
    said = encode(pipeline, every)
    same = []
    for number in range(5):
        batch = data.batch(number, 1, 0, torch.device("cpu"))
        assert batch.complex is not None
        same += [torch.equal(*pair) for pair in zip(batch.simple, batch.complex, strict=True)]
        if batch.pooled is not None and said.pooled is not None:
            texts, pooled = (
                torch.cdist(one.flatten(1), other.flatten(1)).argmin(dim=1)
                for one, other in ((batch.simple, said.states), (batch.pooled, said.pooled))
            )
            assert torch.equal(texts, pooled)  # the pooled embedding is that of the same text
    assert 30 < sum(same) < 70


@pytest.mark.parametrize("attention_weight", [0.0, 1.0])
def test_runs_of_one_process_may_differ_in_precision(
    attention_weight: float, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.training.queries._PICTURES", 2)
    found = {}
    for precision in ("no", "bf16", "no"):
        own = {"steps": 2, "precision": precision, "attention_weight": attention_weight}
        params = TrainAdapterParams(**{**SMALL, **own})
        folder = tmp_path / f"run-{len(found)}-{precision}"
        folder.mkdir(exist_ok=True)
        cache = tmp_path / "cache"
        data, taught, accelerator = prepared(workspace, make_pipeline(), cache, params, folder)
        train(data, taught, params, folder, accelerator=accelerator)
        found[folder.name] = (folder / "log.jsonl").read_text()
    first, half, again = found.values()
    assert first == again != half
