"""Baselines: what an adapter is compared with beside the base model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import support_publish
import torch
from support_chat import ChatServer
from support_diffusion import MARKS, make_pipeline, make_published
from support_llm import make_model

from surd import adapter as adapters
from surd.adapter.module import Adapter, AdapterConfig
from surd.dataset.publish.run import publish
from surd.errors import SurdError
from surd.evaluate.measures import Measured, row_of
from surd.evaluate.results import table_of
from surd.evaluate.rewriting import examples_of, rewriter, rewritten
from surd.recipe.publish import PublishParams

Surd = Callable[..., Any]
FAST = ("--steps", 2, "--clip", "demo:clip", "--seeds", 1, "--quiet")

pytestmark = MARKS


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in a workspace, with a language model beside it."""
    place = tmp_path_factory.mktemp("rewrite")
    make_pipeline().save_pretrained(place / "sd")
    make_model(place / "llm")
    make_published(place / "ws")
    torch.manual_seed(1)
    adapter = Adapter(AdapterConfig(width=32, heads=4, feed_forward=32))
    folder = place / "ws" / "adapter" / "run"
    training = {"diffusion": str(place / "sd"), "llm": str(place / "llm")}
    adapters.save(adapter, folder, about={"training": training})
    return folder


def test_rewritten_prompts_are_drawn_beside_and_written_once(
    surd: Surd, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = ("evaluate", run, "--baseline", "rewrite", "--prompts", "demo:plain", *FAST)
    ran = surd(*told, "--limit", 2)
    assert ran.code == 0, ran.err
    (kept,) = (run / "rewriting").glob("*.json")
    said = json.loads(kept.read_text())
    assert len(said["prompts"]) == 2 and len(said["examples"]) == 8
    assert all(said["prompts"].values())
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    for row in rows:
        (beside,) = row["baselines"]
        assert beside["name"] == "rewrite"
        assert beside["adapter"]["value"] == pytest.approx(
            row["adapter"]["value"] - beside["value"]["value"], abs=1e-6
        )
    assert "| rewrite |" in ran.out and "compared with it" in ran.out
    judged = pq.read_table(run / "evaluation.parquet").to_pylist()
    assert {row["side"] for row in judged} == {"base", "adapter", "rewrite"}
    assert all((run / "pictures" / row["picture"]).is_file() for row in judged)
    sides = {row["side"]: row["picture"] for row in judged if row["prompt"] == judged[0]["prompt"]}
    folder, _ = sides["base"].split("/")
    assert sides["rewrite"].split("/")[0] == folder and sides["rewrite"] != sides["base"]
    assert surd("report", run).code == 0

    monkeypatch.setattr("surd.evaluate.run.rewriter", lambda *_, **__: pytest.fail("asked again"))
    assert surd(*told, "--limit", 2).out == ran.out
    assert surd("report", run).code == 0


def test_wrong_baselines_are_one_line(surd: Surd, run: Path, tmp_path: Path) -> None:
    lonely = tmp_path / "run"
    adapters.save(
        Adapter(AdapterConfig(width=32, heads=4)), lonely, about={"training": {"diffusion": "x"}}
    )
    some = ("--baseline", "rewrite", "--prompts", "demo:plain", "--limit", 1)
    wrong = {
        "--baseline rewritten: unknown": (run, "--baseline", "rewritten"),
        "--rewriter x: give --baseline rewrite too": (run, "--rewriter", "x"),
        "does not name its language model; pass --rewriter": (lonely, *some),
        "lies in no workspace with a dataset; name one with --dataset": (
            *(lonely, *some, "--rewriter", run.parents[2] / "llm"),
        ),
        "./none: no such folder": (run, *some, "--rewriter", "./none"),
        "has no published dataset": (run, *some, "--dataset", tmp_path),
        "leave out --prompts, --pickscore, --quality and --baseline": (
            *(run.parents[1], "--gap", "--baseline", "rewrite"),
        ),
        "leave out --rewriter and --dataset": (run.parents[1], "--gap", "--rewriter", "x"),
    }
    for said, told in wrong.items():
        ran = surd("evaluate", *FAST, *told)
        assert ran.code == 2 and said in ran.err, ran.err
        assert len(ran.err.strip().splitlines()) == 1


def test_examples_are_of_the_training_split_and_the_same_for_a_seed(tmp_path: Path) -> None:
    rows = support_publish.samples(40)
    rows[0]["complex_prompt"] = "word " * 200
    workspace = support_publish.make_workspace(tmp_path, [rows])
    publish(workspace, PublishParams(test=0.5, validation=0))
    path = next((tmp_path / "dataset").glob("train-*.parquet"))
    train = {(r["simple_prompt"], r["complex_prompt"]) for r in pq.read_table(path).to_pylist()}
    examples = examples_of(str(tmp_path))
    assert len(set(examples)) == 8 and set(examples) < train
    assert examples == examples_of(str(tmp_path)) != examples_of(str(tmp_path), seed=1)
    publish(workspace, PublishParams(test=1, validation=0))
    with pytest.raises(SurdError, match="its training split has no pair of prompts"):
        examples_of(str(tmp_path))


def test_the_model_is_shown_the_examples_and_what_it_repeats_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []

    def complete(beginning: str, texts: Sequence[str]) -> list[str]:
        seen.extend([beginning, *texts])
        return ["best quality, 2 cups, red, 2 cups, red, 2"]

    monkeypatch.setattr("surd.evaluate.rewriting.load_completion", lambda *_, **__: complete)
    how = {"device": torch.device("cpu"), "dtype": torch.float32}
    rewrite = rewriter("some", [("a cat", "cat, 8k"), ("a dog", "dog, 4k")], **how)
    assert rewrite(["two cups"]) == ["best quality, 2 cups, red, 2"]
    assert seen[0].endswith(
        "Sentence: a cat\nPrompt: cat, 8k\n\nSentence: a dog\nPrompt: dog, 4k\n\n"
    )
    assert seen[1:] == ["Sentence: two cups\nPrompt:"]


def test_a_model_on_a_server_rewrites_by_examples(surd: Surd, run: Path) -> None:
    say = lambda body: f"```\n{body['messages'][-1]['content']},\n8k, 8k\n```"  # noqa: E731
    with ChatServer(say=say) as server:
        some = ("--baseline", "rewrite", "--rewriter", server.name, "--prompts", "demo:plain")
        ran = surd("evaluate", run, *some, *FAST, "--limit", 1)
    assert ran.code == 0, ran.err
    [body] = server.bodies
    task, *shown, asked = [turn["content"] for turn in body["messages"]]
    assert "rewrite each sentence" in task and len(shown) == 16 and body["temperature"] == 0
    told = json.loads((run / "evaluation.json").read_text())
    assert told["rewriter"] == f"openai:{server.name.partition('#')[2]}"
    kept = [json.loads(path.read_text()) for path in (run / "rewriting").glob("*.json")]
    assert {asked: f"{asked}, 8k"} in [some["prompts"] for some in kept]
    assert not [some for some in kept if "127.0.0.1" in str(some)]


def test_what_a_server_does_not_rewrite_is_asked_again_the_next_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused = lambda body, _: "refused" if body["messages"][-1]["content"] == "b" else None  # noqa: E731
    how = {"device": torch.device("cpu"), "dtype": torch.float32}
    with ChatServer(say=lambda _: "cat, 8k", fault=refused) as server:
        load = partial(rewriter, server.name, [("x", "y")], **how)
        told = (["a", "b"], tmp_path, server.name, [("x", "y")], load)
        assert rewritten(*told, quiet=True) == {"a": "cat, 8k", "b": "b"}
        assert "1 of 2 prompts: HTTP 400: no way" in caplog.text
        server.fault = lambda *_: None
        assert rewritten(*told, quiet=True) == {"a": "cat, 8k", "b": "cat, 8k"}
        assert rewritten(*told, quiet=True) == {"a": "cat, 8k", "b": "cat, 8k"}
    assert [body["messages"][-1]["content"] for body in server.bodies] == ["a", "b"]


def test_any_function_of_texts_may_rewrite_and_what_it_leaves_empty_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given: list[str] = []

    def rewrite(texts: Sequence[str]) -> list[str]:
        given.extend(texts)
        return [text.upper() if text != "b" else "" for text in texts]

    def ask(*texts: str, name: str = "server") -> dict[str, str]:
        return rewritten(texts, tmp_path, name, [("x", "y")], lambda: rewrite, quiet=True)

    assert ask("a", "b") == {"a": "A", "b": "b"}
    assert "server makes nothing of 1 prompts, such as 'b'" in caplog.text
    assert ask("a", "c", "a") == {"a": "A", "c": "C"}
    assert given == ["a", "b", "c"]
    assert ask("a", name="another") == {"a": "A"} and given[-1] == "a"
    (path,) = [p for p in (tmp_path / "rewriting").iterdir() if '"C"' in p.read_text()]
    for content in ("{", "[]", '{"prompts": []}'):
        path.write_text(content)
        with pytest.raises(SurdError, match=r"\.json: .*delete it"):
            ask("a")


def test_a_baseline_is_compared_with_both_on_the_same_prompts() -> None:
    base = np.zeros((20, 2), bool)
    new, other = base.copy(), base.copy()
    new[:12], other[:16] = True, True
    scenes = [str(n) for n in range(20)]
    row = row_of(Measured("set", "right", {"base": base, "adapter": new, "rewrite": other}, scenes))
    (beside,) = row.baselines
    assert (row.difference.value, beside.difference.value) == (0.6, 0.8)
    assert beside.adapter.value == pytest.approx(-0.2)
    assert beside.adapter.high is not None and beside.adapter.high < 0.1
    assert (beside.p or 1) < 0.001 and beside.adapter_p == 0.125
    told = table_of([row]).splitlines()
    assert told[-1].startswith("| set | right | rewrite | 80.0% | +80.0 (")
    assert len(told) == 3 + 1 + 3
