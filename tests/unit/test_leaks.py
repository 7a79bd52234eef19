"""Nothing of its maker's machine is published unseen: files are bare, and a dry run tells."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin
from support_publish import make_workspace, picture, sample, samples

from surd.dataset.hub.leaks import leaks_in

Surd = Callable[..., Any]
KEY = "sk-" + "a1B2" * 10
GRAPH = json.dumps({"3": {"inputs": {"path": "C:\\Users\\ann\\models", "api_key": KEY}}})


def with_graph(number: int) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", GRAPH)
    file = io.BytesIO()
    Image.open(io.BytesIO(picture(number))).save(file, "PNG", pnginfo=info)
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three samples: one whose file tells much, one whose prompt does, one harmless."""
    data = with_graph(0)
    told = sample(0) | {"bytes": data, "sha256": hashlib.sha256(data).hexdigest()}
    prompt = {"complex_prompt": "a cup, by ann@example.org, /home/ann/loras/cup.safetensors"}
    make_workspace(tmp_path / "cups", [[told, sample(1) | prompt, sample(2)]])
    return tmp_path / "cups"


def published(surd: Surd, folder: Path, *options: str) -> list[dict[str, Any]]:
    loose = ("--set", "filter.min_side=1", "--clip-threshold", "0.1")
    assert surd("filter", folder, *loose, "--set", "filter.max_aspect=null").code == 0
    ran = surd("publish", folder, *options)
    assert ran.code == 0, ran.err
    files = sorted((folder / "dataset").glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_files_are_published_without_what_generators_wrote(surd: Surd, folder: Path) -> None:
    rows = {row["id"]: row for row in published(surd, folder)}
    for number in range(3):
        row = rows[sample(number)["id"]]
        data = row["image"]["bytes"]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        assert b"Users" not in data and KEY.encode() not in data
    assert rows[sample(2)["id"]]["image"]["bytes"] == sample(2)["bytes"]
    card = (folder / "dataset" / "README.md").read_text()
    assert "without the metadata of their files" in card and "# cups" not in card
    kept = {row["id"]: row for row in published(surd, folder, "--set", "publish.metadata=keep")}
    assert kept[sample(0)["id"]]["image"]["bytes"] == with_graph(0)


def test_a_dry_run_says_what_a_push_would_tell(surd: Surd, folder: Path) -> None:
    published(surd, folder, "--set", "publish.metadata=keep")
    ran = surd("push", folder, "--repo", "me/cups", "--dry-run")
    assert ran.code == 0, ran.err
    assert "images (PNG workflow): path, such as 'C:\\\\\\\\Users" in ran.out
    assert "complex_prompt: e-mail address, such as 'ann@example.org' in sample" in ran.out
    assert "complex_prompt: path, such as '/home/ann/" in ran.out
    assert KEY not in ran.out and "images (PNG workflow): key" in ran.out
    published(surd, folder, "--set", "publish.metadata=strip")
    found = surd("push", folder, "--repo", "me/cups", "--dry-run", "--json").json["scan"]
    places = {(leak["kind"], leak["where"]) for leak in found["leaks"]}
    assert {("e-mail address", "complex_prompt"), ("path", "complex_prompt")} <= places
    assert ("path", "README.md") in places, "its examples"
    assert not any("images" in where or kind == "key" for kind, where in places)
    assert (found["images"], found["images_seen"]) == (3, 3)


def test_a_dataset_without_any_is_told_as_such(surd: Surd, tmp_path: Path) -> None:
    make_workspace(tmp_path / "w", [samples(2)])
    published(surd, tmp_path / "w")
    ran = surd("push", tmp_path / "w", "--repo", "me/cups", "--dry-run")
    assert "no paths, keys or e-mail addresses were found" in ran.out, ran.out


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("see /Users/ann/Pictures and D:\\Users\\ann", ["path", "path"]),
        ("\\\\nas\\models$\\sd.ckpt", ["path"]),
        ("api_key: 'abcdef123456'", ["key"]),
        ("hf_" + "a" * 34, ["key"]),
        ("https://x.example/a?token=abcdef", ["key"]),
        ("-----BEGIN RSA PRIVATE KEY-----", ["key"]),
        ("mail bob.smith+sd@mail.example.co.uk", ["e-mail address"]),
        ("masterpiece, key visual, 1girl/solo, w/o hat, @artist, secret garden", []),
        ("https://example.org/home/ann", []),
        ("a password: the film", []),
    ],
)
def test_what_gives_somebody_away_is_known(text: str, kinds: list[str]) -> None:
    assert [kind for kind, _ in leaks_in(text)] == kinds


@pytest.mark.parametrize(
    ("recipe", "name"),
    [("folder", "my cups"), ("civitai", "my cups"), ("Ann's cups", "Ann's cups")],
)
def test_a_dataset_has_the_name_that_somebody_gave(
    surd: Surd, tmp_path: Path, recipe: str, name: str
) -> None:
    from support_publish import RECIPE

    make_workspace(tmp_path / "my cups", [samples(1)], recipe={**RECIPE, "name": recipe})
    published(surd, tmp_path / "my cups")
    assert f"# {name}\n" in (tmp_path / "my cups" / "dataset" / "README.md").read_text()
