"""The demo, from the site to the dataset, against what its world knows to be true."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran
from support import rows_of

from surd.demo.reading import read_pair_sentence, read_sentence
from surd.demo.scenes import Pair, Scene, matches
from surd.demo.world import Entry, world

PICTURES = 400

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def run(*arguments: object) -> Ran:
    """The command line, in a process of its own."""
    import subprocess

    done = subprocess.run(
        [sys.executable, "-m", "surd", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ran]:
    folder, port = tmp_path_factory.mktemp("demo") / "w", free_port()
    settings = {
        "demo_site.pictures": PICTURES,
        "demo_site.port": port,
        "sources.0.base_url": f"http://127.0.0.1:{port}",
    }
    overrides = [a for key, value in settings.items() for a in ("--set", f"{key}={value}")]
    return folder, run("build", "demo", "-o", folder, "--until", "publish", *overrides)


@pytest.fixture(scope="module")
def judged(demo: tuple[Path, Ran]) -> list[tuple[Entry, dict[str, Any], dict[str, Any]]]:
    """Of each sample whose image was had: what the world knows, its scores, its verdict."""
    folder, _ = demo
    entries = world(PICTURES, seed=0)
    samples, images = rows_of(folder, "samples"), rows_of(folder, "images")
    found = []
    for sample, image, clip, verdict in zip(
        samples, images, rows_of(folder, "clip"), rows_of(folder, "verdicts"), strict=True
    ):
        if image["status"] == "ok":
            found.append((entries[int(sample["source_id"]) - 1000], clip, verdict))
    assert len(found) > 0.9 * PICTURES
    return found


def told(verdict: dict[str, Any]) -> set[str]:
    return {reason["reason"] for reason in verdict["reasons"]}


def test_the_build_ends_well_and_names_the_dataset(demo: tuple[Path, Ran]) -> None:
    folder, ran = demo
    assert ran.code == 0, ran.err
    assert list((folder / "dataset").glob("train-*.parquet"))
    assert run("build", "demo", "-o", folder, "--until", "filter", "--plan").code == 0


def test_pairs_that_contradict_each_other_are_found(judged: list[Any]) -> None:
    bad = [entry.said != entry.scene for entry, _, _ in judged]
    dropped = [bool(told(v) & {"clip_threshold", "complex_threshold"}) for _, _, v in judged]
    right = sum(b and d for b, d in zip(bad, dropped, strict=True))
    assert sum(bad) > 30
    assert right / sum(dropped) >= 0.95
    assert right / sum(bad) >= 0.95


def test_the_threshold_of_the_recipe_is_a_little_above_the_one_that_is_suggested(
    demo: tuple[Path, Ran],
) -> None:
    folder, _ = demo
    suggested = run("filter", folder, "--suggest", "--json").json["cos_complex"]["suggested"]
    assert suggested == pytest.approx(0.87 - 0.05, abs=0.04)


def test_near_duplicates_are_found_and_different_pictures_are_not(demo: tuple[Path, Ran]) -> None:
    folder, _ = demo
    entries = world(PICTURES, seed=0)
    samples, images = rows_of(folder, "samples"), rows_of(folder, "images")
    number = {sample["id"]: int(sample["source_id"]) - 1000 for sample in samples}
    cluster = {
        number[row["id"]]: number[row["cluster"]]
        for row, image in zip(rows_of(folder, "duplicates"), images, strict=True)
        if image["status"] == "ok"
    }

    def first_of(i: int) -> int:
        original = entries[i].original
        return i if original is None else first_of(original)

    repeats = [(i, first_of(i)) for i in cluster if first_of(i) != i and first_of(i) in cluster]
    survivors = [(i, first) for i, first in repeats if cluster[i] != cluster[first]]
    lost = [i for i, kept in cluster.items() if first_of(i) != first_of(kept)]
    assert len(repeats) > 15
    assert len(survivors) <= 0.02 * len(repeats), survivors
    assert len(lost) <= 0.02 * len(cluster), lost


def says(text: str, scene: Scene | Pair) -> bool:
    if isinstance(scene, Scene):
        return matches(read_sentence(text), scene)
    read = read_pair_sentence(text)
    return read is not None and (read[0] == scene if read[1] else read[0].groups == scene.groups)


def test_simple_prompts_say_what_the_picture_shows(judged: list[Any]) -> None:
    kept = [(entry, clip) for entry, clip, verdict in judged if verdict["keep"]]
    right = [says(clip["simple_prompt"], entry.scene) for entry, clip in kept]
    assert sum(right) >= 0.95 * len(right)


def test_the_dataset_loads(demo: tuple[Path, Ran]) -> None:
    datasets = pytest.importorskip("datasets")
    folder, _ = demo
    files = {"train": str(folder / "dataset" / "train-*.parquet")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(folder / "cache"))
    row = loaded["train"][0]
    assert row["image"].size[0] >= 64 and row["simple_prompt"] and row["complex_prompt"]


def test_another_threshold_touches_neither_images_nor_models(demo: tuple[Path, Ran]) -> None:
    folder, _ = demo
    before = {p: p.stat().st_mtime_ns for p in folder.glob("*/part-*.parquet")}
    changed = run("filter", folder, "--complex-threshold", "p50", "--json")
    assert changed.code == 0 and changed.json["newly_dropped"] > 0
    touched = {p.parent.name for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert touched == {"verdicts"}
