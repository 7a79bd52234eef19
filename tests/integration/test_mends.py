"""The command that a message prints, run as it stands, mends what the message is about."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from support import digests, pictures
from support_faults import small_settings
from support_llm import make_model

from surd.demo.site import Site
from surd.store import manual
from surd.store.workspace import Workspace

Surd = Callable[..., Ran]

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(pictures(40)) as running:
        yield running


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, site: Site) -> Path:
    """A workspace with everything up to the dataset, whose name a shell has to be told in quotes.

    Its recipe stops early, as one does that was tried out; what came later was asked for by name.
    """
    from typer.testing import CliRunner

    from surd.cli.app import app

    folder = tmp_path_factory.mktemp("built") / "it's my data"
    tried_out = ["civitai", *small_settings(site, until="prompts")]
    for more in (tried_out, ["--until", "publish"]):
        ran = CliRunner().invoke(app, ["build", "-o", str(folder), "--quiet", *more])
        assert ran.exit_code == 0, ran.output
    return folder


@pytest.fixture
def folder(tmp_path: Path, built: Path) -> Path:
    """A copy to be damaged."""
    return Path(shutil.copytree(built, tmp_path / built.name))


def printed(text: str) -> list[str]:
    """The words of the first command that a message tells to run, as a shell reads them."""
    [line, *_] = re.findall(r"(?:: |\brun )(surd .*)", text)
    return shlex.split(re.split(r"[;,] | again\b", line)[0])[1:]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "group", ["samples", "images", "prompts", "captions", "clip", "duplicates", "verdicts"]
)
def test_a_damaged_part_of_any_group(surd: Surd, folder: Path, group: str) -> None:
    before = digests(folder), json.loads((folder / "surd.json").read_text())["recipe"]
    part = folder / group / "part-00001.parquet"
    cut(part)
    told = surd("status", folder, "--verify")
    assert told.code != 0
    assert f"{part}: damaged" in told.err
    if "delete this file" in told.err:
        part.unlink()
    ran = surd(*printed(told.err))
    assert ran.code == 0, ran.err
    assert surd("status", folder, "--verify").code == 0
    after = digests(folder), json.loads((folder / "surd.json").read_text())["recipe"]
    assert after == before


def test_a_damaged_file_of_the_dataset(surd: Surd, folder: Path) -> None:
    before = digests(folder)
    shard = next((folder / "dataset").glob("*.parquet"))
    cut(shard)
    told = surd("status", folder, "--verify")
    assert f"{shard}: damaged" in told.err and "delete it" in told.err
    shard.unlink()
    assert surd(*printed(told.err)).code == 0
    assert digests(folder) == before


@pytest.mark.parametrize(
    ("gone", "command"),
    [
        ("images", "caption"),
        ("prompts", "score"),
        ("captions", "score"),
        ("clip", "dedup"),
        ("clip", "filter"),
        ("verdicts", "publish"),
    ],
)
def test_a_group_that_is_missing(surd: Surd, folder: Path, gone: str, command: str) -> None:
    shutil.rmtree(folder / gone)
    told = surd(command, folder)
    assert told.code == 2
    ran = surd(*printed(told.err))
    assert ran.code == 0, ran.err
    assert surd(command, folder).code == 0


def test_verdicts_that_are_older_than_a_decision_by_hand(surd: Surd, folder: Path) -> None:
    workspace = Workspace(folder)
    id_ = workspace.read("samples", 0, ["id"])["id"][0].as_py()
    manual.decide(workspace, id_, "drop")
    told = surd("publish", folder)
    assert told.code == 2
    assert surd(*printed(told.err)).code == 0
    assert surd("publish", folder).code == 0


def test_a_dataset_that_is_not_published(surd: Surd, folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder / "dataset")
    export = ("export", folder, "csv", "-o", tmp_path / "out")
    assert surd(*printed(surd(*export).err)).code == 0
    assert surd(*export).code == 0


def test_vectors_that_are_not_there(surd: Surd, folder: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "a model")
    whose = ("--model", tmp_path / "a model", "--layer", "1")
    export = ("export", folder, "prompt2vec", "-o", tmp_path / "1.pt")
    assert "--model NAME --layer N" in surd(*export).err
    ran = surd(*printed(surd(*export, *whose).err))
    assert ran.code == 0, ran.err
    assert surd(*export, *whose).code == 0


def test_a_damaged_part_of_vectors(surd: Surd, folder: Path, tmp_path: Path) -> None:
    make_model(tmp_path / "a model")
    surd("embed-llm", folder, "--model", tmp_path / "a model", "--layer", "1")
    before = digests(folder)
    cut(next((folder / "llm").rglob("*.parquet")))
    told = surd("status", folder, "--verify")
    assert surd(*printed(told.err)).code == 0
    assert digests(folder) == before


@pytest.mark.parametrize("manifest", [None, "{", '{"format_version": 1}', "of another version"])
def test_a_manifest_that_is_missing_or_broken(
    surd: Surd, folder: Path, site: Site, manifest: str | None
) -> None:
    path = folder / "surd.json"
    content: dict[str, Any] = json.loads(path.read_text())
    before = digests(folder)
    path.unlink()
    if manifest == "of another version":
        changed = content["recipe"] | {"no_key_of_today": 1}
        path.write_text(json.dumps(content | {"recipe": changed}))
    elif manifest:
        path.write_text(manifest)
    told = surd("build", "-o", folder)
    assert told.code == 2
    assert len(told.err.splitlines()) <= 2
    if "delete it" in told.err:
        path.unlink()
    words = ["civitai" if word == "RECIPE" else word for word in printed(told.err)]
    assert surd(*words, *small_settings(site, until="prompts")).code == 0
    assert json.loads(path.read_text())["recipe"] == content["recipe"]
    assert digests(folder) == before


def test_what_a_command_says_comes_next(surd: Surd, folder: Path) -> None:
    for command in ("filter", "publish", "score"):
        line = surd(command, folder).out.splitlines()[-1]
        assert line.startswith("next: surd ")
        for one in line.removeprefix("next: ").split(", or "):
            if not one.startswith("surd push"):  # which needs a hub
                assert surd(*shlex.split(one)[1:]).code == 0, one


def test_a_suggestion_is_tried(surd: Surd, folder: Path) -> None:
    said = surd("filter", folder, "--suggest").out
    tries = re.findall(r"^try: (surd .*)$", said, re.MULTILINE)
    for one in tries:
        assert surd(*shlex.split(one)[1:]).code == 0, one
    assert tries or "--clip-threshold p10" in said
    assert surd("filter", folder, "--clip-threshold", "p10", "--dry-run").code == 0
