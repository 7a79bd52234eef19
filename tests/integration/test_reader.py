"""Adapters that read a language model's states: in training, and whenever they draw."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import support_publish
import torch
from support_diffusion import MARKS, make_pipeline
from support_llm import make_model
from support_training import SMALL, command, data_of, prepared, read_samples, same

from surd import adapter as adapters
from surd.adapter.encoding import generate, prompt_inputs
from surd.adapter.language import Language, language_model
from surd.dataset.publish.run import publish
from surd.engine.select import opened
from surd.errors import ModelError
from surd.llm import embeddings
from surd.llm.run import plan_work
from surd.llm.run import run as embed
from surd.models.diffusion import load_pipeline
from surd.recipe.embed_llm import EmbedLlmParams
from surd.recipe.publish import PublishParams
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training import held_out
from surd.training.finite import check_finite
from surd.training.loop import train
from surd.training.losses import Batch, Given

Surd = Callable[..., Any]

pytestmark = MARKS

LAYER = 2
OFF = {"denoising_weight": 0, "llm_weight": 0, "prompt_weight": 0}
READER = {**OFF, "attention_weight": 1, "network": "reader", "captions": "all", "blend": "residual"}


def sentences(number: int) -> dict[str, Any]:
    """Texts of words that the language model knows, all different."""
    thing = ("cups", "cat", "dog", "table", "rain", "grass")[number % 6]
    where = ("", " on a table", " in the rain", " in the long grass", " through the rain")
    simple = f"a {thing}{where[number // 6 % 5]}"
    return {
        "simple_prompt": simple,
        "candidates": [{"text": f"the {simple[2:]}", "raw": "x", "how": "beam"}],
        "candidate_scores": [0.9],
        "complex_prompt": f"red {simple[2:]}",
    }


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model(folder)
    return str(folder)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, llm: str) -> Path:
    """Published, with states of every token of every text."""
    folder = tmp_path_factory.mktemp("data") / "w"
    rows = [support_publish.sample(n) | sentences(n) for n in range(30)]
    workspace = support_publish.make_workspace(folder, [rows])
    publish(workspace, PublishParams())
    params = EmbedLlmParams(model=llm, layers=(LAYER,), pool="none", texts="all", device="cpu")
    with opened("local") as engine:
        for result in embed(engine, workspace, plan_work(workspace, params), lambda counts: None):
            assert result.error is None
    return folder


def reading(workspace: Path, **more: Any) -> tuple[Any, TrainAdapterParams]:
    """Data of a reader, and its settings."""
    params = TrainAdapterParams(**{**SMALL, **READER, "batch_size": 8, **more})
    samples, vectors = read_samples(workspace, params, "tiny", LAYER)
    pipeline = make_pipeline()
    given = {"samples": samples, "vectors": vectors, "latents": None}
    return data_of(workspace, pipeline, None, params, **given), params


def texts_in(data: Any, states: torch.Tensor) -> list[str]:
    """Whose text states these are."""
    every = [text for one in data.samples for text in (*one.captions, one.complex)]
    near = torch.cdist(states.flatten(1), data.texts.take(every).states.flatten(1))
    assert near.min(dim=1).values.max() < 0.1
    return [every[row] for row in near.argmin(dim=1).tolist()]


@pytest.mark.parametrize("llm_states", ["normal", "shuffled"])
def test_the_states_are_those_of_the_very_sentence_that_is_encoded(
    made: Path, llm_states: str
) -> None:
    data, _ = reading(made, llm_states=llm_states, complex_share=0.4)
    vectors = embeddings.load_texts(made, "tiny", LAYER)
    drawn = set()
    for number in range(4):
        batch = data.batch(number, 1, 0, torch.device("cpu"))
        texts = texts_in(data, batch.simple)
        wanted = texts if llm_states == "normal" else [*texts[1:], texts[0]]
        for text, states, mask in zip(wanted, batch.read, batch.read_mask, strict=True):
            right = np.asarray(vectors[text], np.float32)
            assert int(mask.sum()) == len(right) == 1 + len(text.split())
            np.testing.assert_array_equal(states[: len(right)], right)
        drawn |= {text.split()[0] for text in texts}
    assert drawn == {"a", "the", "red"}  # captions, candidates, complex prompts


def test_shuffled_states_are_another_samples_in_validation_too(made: Path) -> None:
    more = {"llm_states": "shuffled", "attention_weight": 0, "prompt_weight": 1}
    data, params = reading(made, **more)
    samples = data.samples[:17]
    assert len({one.captions[0] for one in samples}) == 17
    vectors, own = embeddings.load_texts(made, "tiny", LAYER), list[bool]()

    def given(batch: Batch) -> Given:
        for text, states in zip(batch.texts, batch.read, strict=True):
            right = np.asarray(vectors[text], np.float32)
            own.append(np.array_equal(states[: len(right)], right))
        return batch.simple, batch.simple, None

    held_out._means(data, samples, params, [], "cpu", given)
    assert own == [False] * 17


def test_the_spread_is_that_of_all_tokens_but_each_texts_first(
    surd: Surd, made: Path, diffusion: str, tmp_path: Path
) -> None:
    data, _ = reading(made, complex_share=0.5)
    vectors = embeddings.load_texts(made, "tiny", LAYER)
    every = dict.fromkeys(t for one in data.samples for t in (*one.captions, one.complex))
    tokens = np.concatenate([np.asarray(vectors[text][1:], np.float64) for text in every])
    tokens = (tokens - tokens.mean(1, keepdims=True)) / tokens.std(1, keepdims=True)
    mean, std = data.llm_spread()
    np.testing.assert_allclose(mean, tokens.mean(0), atol=1e-3)
    np.testing.assert_allclose(std, tokens.std(0), rtol=1e-3)
    told = command(made, diffusion, tmp_path / "run", 2, **READER, complex_share=0.5)
    assert surd(*told, "--llm", "tiny", "-q").code == 0
    kept = adapters.load(tmp_path / "run")
    assert torch.equal(kept.llm_mean, mean) and torch.equal(kept.llm_std, std)


def test_complex_prompts_are_read_beside_the_states_of_some_caption(made: Path) -> None:
    vectors = embeddings.load_texts(made, "tiny", LAYER)

    def own(batch: Any, texts: list[str]) -> list[bool]:
        """Whether each row has the states of its own text."""
        rights = [np.asarray(vectors[text], np.float32) for text in texts]
        return [
            int(mask.sum()) == len(right) and np.array_equal(states[: len(right)], right)
            for right, states, mask in zip(rights, batch.read, batch.read_mask, strict=True)
        ]

    found: dict[float, dict[bool, list[bool]]] = {}
    for share in (0.5, 1.0):
        data, _ = reading(made, complex_share=0.5, llm_swap=share)
        found[share] = {True: [], False: []}
        for number in range(8):
            batch = data.batch(number, 1, 0, torch.device("cpu"))
            texts = texts_in(data, batch.simple)
            again = data.batch(number, 1, 0, torch.device("cpu"))
            assert torch.equal(batch.read, again.read)
            for text, is_own in zip(texts, own(batch, texts), strict=True):
                found[share][text.startswith("red")].append(is_own)
        assert all(found[share][False])  # captions
    assert not any(found[1.0][True]) and len(found[1.0][True]) > 20
    assert 0.3 < np.mean(found[0.5][True]) < 0.7
    whole, _ = reading(made, complex_share=0.5, llm_swap=1.0)
    texts = [one.complex for one in whole.samples]
    measured = whole.of(whole.samples, texts, torch.device("cpu"))
    assert all(own(measured, texts))  # as it is drawn later


def test_vectors_that_are_not_finite_are_named_and_not_the_diffusion_model(made: Path) -> None:
    data, params = reading(made)
    vectors = embeddings.load_texts(made, "tiny", LAYER)
    broken = np.array(vectors.vectors)
    broken[:, 3] = np.nan
    data._vectors = replace(vectors, vectors=broken)
    says = r"the vectors of demo:llm hold some.* delete vectors-\*\.npy"
    with pytest.raises(ModelError, match=f"^NaN or infinity: {says}"):
        data.llm_spread()
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    loss = {"attention": torch.tensor(torch.nan)}
    with pytest.raises(ModelError, match=f"step 3: the attention loss is NaN or infinite: {says}"):
        check_finite(params, None, 3, loss, None, batch)


def test_features_learn_from_the_centred_vector_of_the_very_sentence(made: Path) -> None:
    more = {"network": "sur", "blend": "mix", "llm_weight": 1.0, "complex_share": 0.4}
    data, _ = reading(made, **more)
    vectors = embeddings.load_texts(made, "tiny", LAYER)
    every = [*dict.fromkeys(t for one in data.samples for t in (*one.captions, one.complex))]
    last = np.stack([np.asarray(vectors[text][-1], np.float64) for text in every])
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    for text, vector in zip(texts_in(data, batch.simple), batch.llm[:, 0], strict=True):
        right = last[every.index(text)] - last.mean(0)
        np.testing.assert_allclose(vector, right, atol=1e-4)
    assert batch.read is None


def test_a_projection_that_maps_all_sentences_to_the_same_stops_the_training(
    made: Path, tmp_path: Path
) -> None:
    own = {"llm_weight": 1.0, "projection": "learned", "steps": 200, "accumulate": 1}
    decay = {"learning_rate": 0.01, "weight_decay": 10.0}  # of a tenth a step
    params = TrainAdapterParams(**{**SMALL, **OFF, **own, **decay})
    data, taught, accelerator = prepared(
        made, make_pipeline(), None, params, tmp_path, llm="tiny", layer=LAYER
    )
    with pytest.raises(ModelError, match=r"step \d+: the learned projection has collapsed.*frozen"):
        train(data, taught, params, tmp_path, accelerator=accelerator)
    steps = len((tmp_path / "log.jsonl").read_text().splitlines())
    assert 0 < steps < 200


@pytest.fixture(scope="module")
def trained(made: Path, diffusion: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader that has learnt something."""
    run = tmp_path_factory.mktemp("runs") / "run"
    params = TrainAdapterParams(
        **{**SMALL, **READER, "steps": 4, "learning_rate": 1e-2, "diffusion": diffusion}
    )
    data, taught, accelerator = prepared(
        made, load_pipeline(diffusion), None, params, run, llm="tiny", layer=LAYER
    )
    train(data, taught, params, run, accelerator=accelerator)
    return run


def test_its_configuration_names_the_language_model_and_it_loads(
    made: Path, trained: Path, llm: str
) -> None:
    told = json.loads((trained / "adapter_config.json").read_text())["language_model"]
    about = embeddings.load_texts(made, "tiny", LAYER).about
    assert told["name"] == llm and told["identity"] == about["identity"]
    assert (told["layer"], told["width"], told["max_tokens"]) == (LAYER, 32, 512)
    adapter = adapters.load(trained)
    assert adapter.config.network == "reader" and adapter.config.language_model is not None
    assert adapter.config.language_model == language_model(about, LAYER, 32)
    with pytest.raises(ModelError, match="pass its states"):
        adapter(torch.zeros(1, 77, 32))


def test_drawing_reads_the_states_that_training_read(made: Path, trained: Path) -> None:
    adapter, vectors = adapters.load(trained), embeddings.load_texts(made, "tiny", LAYER)
    texts = ["a cat in the rain", "red dog on a table"]
    states, mask = adapter.language.states(texts)
    for text, found, there in zip(texts, states, mask, strict=True):
        assert int(there.sum()) == len(vectors[text])
        np.testing.assert_allclose(found[: len(vectors[text])], vectors[text], atol=2e-2)


def test_a_prompt_that_the_language_model_cuts_is_told(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = adapters.load(trained).config.language_model
    assert model is not None
    _, mask = Language(replace(model, max_tokens=4)).states(["a cat", "a cat in the rain"])
    assert mask.sum(1).tolist() == [3, 4]
    cut = [r.message for r in caplog.records if "too long" in r.message]
    assert cut == ["a cat in the rain…: too long; tiny reads the first 4 tokens"]


def test_a_prompt_is_read_once_and_changes_what_is_drawn(
    trained: Path, diffusion: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    read = list[str]()
    compute = Language._compute
    monkeypatch.setattr(
        Language, "_compute", lambda self, texts: read.extend(texts) or compute(self, texts)
    )
    pipeline, adapter = load_pipeline(diffusion), adapters.load(trained)
    prompts = ["a cat on a table", "a dog on a table"]
    call = {"num_inference_steps": 2, "output_type": "np"}
    first = generate(pipeline, adapter, prompts, [1, 2], **call)
    again = generate(pipeline, adapter, prompts[1:], [2], **call)
    np.testing.assert_allclose(first[1], again[0], atol=1e-4)
    assert read == prompts
    assert [r.message for r in caplog.records if "reading each prompt" in r.message] == [
        f"reading each prompt with tiny, layer {LAYER}"
    ]
    inputs = prompt_inputs(pipeline, adapter, prompts, "a table")
    base = prompt_inputs(pipeline, None, prompts, "a table")
    assert (inputs["prompt_embeds"] - base["prompt_embeds"]).abs().max() > 1e-3
    assert torch.equal(inputs["negative_prompt_embeds"], base["negative_prompt_embeds"])
    adapter.language._kept[prompts[0]] = adapter.language._kept[prompts[1]]
    other = prompt_inputs(pipeline, adapter, prompts, "a table")["prompt_embeds"]
    assert not torch.allclose(other[0], inputs["prompt_embeds"][0], atol=1e-5)
    assert torch.equal(other[1], inputs["prompt_embeds"][1])
    both = prompt_inputs(pipeline, adapter, prompts, ["a table", ""], adapt_negative=True)
    assert not torch.equal(both["negative_prompt_embeds"], base["negative_prompt_embeds"])


def test_without_its_language_model_it_is_one_line_and_another_place_is_taken(
    surd: Surd, trained: Path, llm: str, diffusion: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("checkpoint-*"))
    config = json.loads((run / "adapter_config.json").read_text())
    config["language_model"]["name"] = str(tmp_path / "gone")
    (run / "adapter_config.json").write_text(json.dumps(config))
    told = ("generate", "a cat", "--adapter", run, "--steps", 2, "-o", tmp_path / "pictures")
    ran = surd(*told)
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert "this adapter reads the language model gone" in ran.err and "--llm" in ran.err
    ran = surd(*told, "--llm", llm)
    assert ran.code == 0 and len([*(tmp_path / "pictures").glob("*.png")]) == 1
    make_model(tmp_path / "other", seed=1)
    ran = surd(*told, "--llm", tmp_path / "other")
    assert ran.code == 2 and "holds another model, or another version of it" in ran.err
    assert ran.err.count("\n") == 1
    plain = tmp_path / "plain"
    adapters.save(adapters.Adapter(adapters.AdapterConfig(width=32, heads=4)), plain)
    ran = surd("generate", "a", "--adapter", plain, "--diffusion", diffusion, "--llm", llm)
    assert ran.code == 2 and "reads no language model" in ran.err


def test_the_command_trains_and_resumes_it_and_draws_along_the_way(
    surd: Surd, made: Path, diffusion: str, tmp_path: Path
) -> None:
    look = {"validation_prompts": '["a cat"]', "validation_steps": 1, "validate_every": 2}
    more = {**READER, **look, "checkpoint_every": 2, "accumulate": 1}
    for name in ("whole", "cut"):
        told = command(made, diffusion, tmp_path / name, 4, **more)
        ran = surd(*told, "--llm", "tiny", "-q")
        assert ran.code == 0, ran.err
        if name == "cut":
            (tmp_path / "cut" / "adapter_model.safetensors").unlink()
            shutil.rmtree(tmp_path / "cut" / "checkpoint-000004")
            assert surd(*told, "--llm", "tiny", "-q").code == 0
    assert same(tmp_path / "whole", tmp_path / "cut")
    card = (tmp_path / "whole" / "README.md").read_text()
    assert f"It reads tiny, layer {LAYER}, beside" in card
    assert [*(tmp_path / "whole").glob("validation/step-000004/*.png")]
    start = command(made, diffusion, tmp_path / "next", 1, **more)
    assert surd(*start, "--llm", "tiny", "--from", tmp_path / "whole", "-q").code == 0
    measured = ("evaluate", tmp_path / "whole", "--prompts", "demo:plain", "--limit", 1)
    ran = surd(*measured, "--seeds", 1, "--steps", 1, "--clip", "none", "-q")
    assert ran.code == 0, ran.err


def test_controls_leave_the_cross_attention_out_or_are_refused(
    surd: Surd, made: Path, diffusion: str, tmp_path: Path
) -> None:
    told = command(made, diffusion, tmp_path / "none", 2, **READER, llm_states="none")
    ran = surd(*told, "-q", "--set", "train_adapter.llm_swap=0.5")
    says = "with llm_states: none, no language model is read, and llm_swap changes nothing"
    assert ran.code == 0 and ran.err == f"surd: train_adapter: {says}\n"
    encoder = command(made, diffusion, tmp_path / "encoder", 2, **{**READER, "network": "encoder"})
    of_reader = [f"--set=train_adapter.{key}=0.5" for key in ("llm_swap", "llm_dropout")]
    ran = surd(*encoder, "-q", *of_reader)
    assert ran.code == 0 and "llm_swap and llm_dropout change nothing" in ran.err
    assert same(tmp_path / "none", tmp_path / "encoder")
    assert adapters.load(tmp_path / "none").config.language_model is None
    refused = {
        "llm_states: shuffled is for network: reader": {"network": "encoder"},
        "set a batch_size of 2 or more": {"batch_size": 1},
    }
    for says, change in refused.items():
        more = {**READER, "llm_states": "shuffled", **change}
        ran = surd(*command(made, diffusion, tmp_path / "run", 2, **more))
        assert ran.code == 2 and says in ran.err
    ran = surd(*command(made, diffusion, tmp_path / "run", 2, **READER, llm_swap=0.5))
    assert ran.code == 2 and "set a complex_share, or llm_swap to 0" in ran.err
    ran = surd(*command(made, diffusion, tmp_path / "run", 2, **READER, attend="batch"))
    assert ran.code == 2 and "a reader does not" in ran.err
