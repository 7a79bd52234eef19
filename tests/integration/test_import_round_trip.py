"""What comes in from other formats comes out of download byte for byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from support import jpeg
from support_shards import write_hf, write_tar
from support_site import Answer, serving

from surd.recipe.importing import import_recipe
from surd.sources.lexica import LexicaSource
from surd.sources.stable_diffusion_online import StableDiffusionOnlineSource
from surd.stages.base import Batch
from surd.stages.collect import collect
from surd.stages.download.stage import DownloadParams, open_download
from surd.store.workspace import Workspace

COUNT = 250
IMAGES = {f"{i:05}": jpeg(i) for i in range(COUNT)}


def surd_release(folder: Path) -> None:
    for split, keys in (("test", list(IMAGES)[200:]), ("train", list(IMAGES)[:200])):
        (folder / split).mkdir(parents=True)
        lines = []
        for key in keys:
            (folder / split / f"{key}.png").write_bytes(IMAGES[key])
            name = key if int(key) % 2 else f"{key}.png"
            said = {"file_name": name, "text": f"simple {key}", "prompt": f"complex {key}"}
            lines.append(json.dumps(said) + "\n")
        (folder / split / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")


def webdataset(folder: Path) -> None:
    for shard in range(3):
        files: dict[str, bytes | str | dict[str, str]] = {}
        for key in list(IMAGES)[shard * 100 : shard * 100 + 100]:
            files[f"{key}.jpg"] = IMAGES[key]
            files[f"{key}.txt"] = f"simple {key}"
            files[f"{key}.json"] = {"prompt": f"complex {key}"}
        write_tar(folder / f"{shard:05}.tar", files)


def huggingface(folder: Path) -> None:
    for part in range(3):
        keys = list(IMAGES)[part * 100 : part * 100 + 100]
        write_hf(
            folder / "data" / f"train-{part:05}-of-00003.parquet",
            [IMAGES[key] for key in keys],
            group=40,
            prompt=[f"complex {key}" for key in keys],
            text=[f"simple {key}" for key in keys],
        )


WRITERS: dict[str, Callable[[Path], None]] = {
    "surd": surd_release,
    "webdataset": webdataset,
    "huggingface": huggingface,
}


@pytest.mark.parametrize("kind", WRITERS)
def test_images_and_prompts_come_through_unchanged(tmp_path: Path, kind: str) -> None:
    WRITERS[kind](tmp_path / "in")
    recipe = import_recipe(kind, str(tmp_path / "in"))
    workspace = Workspace(str(tmp_path / "out"))
    (result,) = collect(workspace, recipe.sources, part_size=90)
    assert (result.new, result.problem) == (COUNT, None)
    (again,) = collect(workspace, recipe.sources, part_size=90, look_again=True)
    assert (again.new, again.known) == (0, COUNT)

    samples = pa.concat_tables(
        workspace.read("samples", part) for part in workspace.parts("samples")
    )
    download = open_download(DownloadParams(threads=4))
    batches = [Batch(pa.Table.from_batches([batch])) for batch in samples.to_batches(64)]
    images = pa.concat_tables(download(batches)).to_pylist()
    assert {image["status"] for image in images} == {"ok"}
    found = {
        sample["prompt"]: (sample["simple_prompt"], image["bytes"])
        for sample, image in zip(samples.to_pylist(), images, strict=True)
    }
    assert found == {f"complex {key}": (f"simple {key}", data) for key, data in IMAGES.items()}


def test_sites_that_have_closed_are_told_and_the_other_sources_go_on(tmp_path: Path) -> None:
    surd_release(tmp_path / "in")
    ours = import_recipe("surd", str(tmp_path / "in")).sources[0]
    with serving(lambda _: Answer("<html>Just a moment", 403)) as server:
        closed = {"base_url": server.url, "queries": ["cup"], "retries": 0, "requests_per_s": 1000}
        sources = [LexicaSource(**closed), StableDiffusionOnlineSource(**closed), ours]
        results = collect(Workspace(str(tmp_path / "out")), sources, part_size=90)
    assert [result.new for result in results] == [0, 0, COUNT]
    lines = [result.problem or "" for result in results]
    assert all("other sources continue" in line and "\n" not in line for line in lines[:2])
