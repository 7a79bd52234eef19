"""A part truncated or bit-flipped on disk: found by checksum, told by name, computed again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Ran
from support import digests, pictures
from support_faults import small_settings
from support_llm import KEEP, SAMPLES, make_model, make_workspace

from surd.demo.site import Site
from surd.store.workspace import DamagedPartError, Workspace

Surd = Callable[..., Ran]
MANY = 200  # three row groups of images in one part


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def footer_start(path: Path) -> int:
    data = path.read_bytes()
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


def in_the_pages(path: Path) -> None:
    flip(path, footer_start(path) // 2)


def in_the_footer(path: Path) -> None:
    flip(path, footer_start(path) + 40)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


# Every bit


@pytest.fixture(scope="module")
def small_part(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = Workspace(tmp_path_factory.mktemp("w"))
    embedding = pa.list_(pa.float16())
    schema = pa.schema([("id", pa.string()), ("n", pa.int64()), ("v", embedding)])
    rows = {"id": ["a", "b", "c"], "n": [1, None, 1], "v": [[1.0], [], None]}
    with workspace.writing_part("things", 0, schema, 2) as writer:
        writer.write(pa.table(rows, schema=schema))
        writer.describe(fingerprint="f", settings="s", inputs={"x": "d"}, extra={"cursor": "9"})
    return workspace


def test_whichever_single_bit_flips_it_is_found(small_part: Workspace) -> None:
    path = Path(small_part.location, "things", "part-00000.parquet")
    whole = path.read_bytes()
    missed = []
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << random.Random(at).randrange(8)
        path.write_bytes(flipped)
        try:
            small_part.verify("things", 0)
            missed.append(at)
        except DamagedPartError:
            pass
    path.write_bytes(whole)
    assert not missed
    small_part.verify("things", 0)
    assert not small_part.damage("things"), "a file that is whole again is not damaged"


def test_what_a_footer_says_is_never_another_thing_after_a_flip(small_part: Workspace) -> None:
    """Fingerprint, digest and the collector's cursor are what the next run believes."""
    path = Path(small_part.location, "things", "part-00000.parquet")
    whole = path.read_bytes()
    said = small_part.part_info("things", 0)
    for at in range(footer_start(path), len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << random.Random(at).randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(DamagedPartError):
            small_part.part_info("things", 0)
    path.write_bytes(whole)
    assert small_part.part_info("things", 0) == said


def test_a_part_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "things" / "part-00000.parquet"
    path.parent.mkdir()
    said = {"fingerprint": "f", "digest": "d", "settings": "s", "inputs": {}, "extra": {}}
    table = pa.table({"id": ["a", "b", "c"]}).replace_schema_metadata({"surd": json.dumps(said)})
    pq.write_table(table, path, write_page_checksum=True)
    workspace = Workspace(tmp_path)
    info = workspace.part_info("things", 0)
    assert info is not None
    assert info.digest == "d"
    assert workspace.read("things", 0)["id"].to_pylist() == ["a", "b", "c"]
    workspace.verify("things", 0)
    flip(path, footer_start(path) - 3)
    with pytest.raises(DamagedPartError):
        workspace.verify("things", 0)


# In a build


@pytest.mark.parametrize(
    ("group", "damage"),
    [
        ("images", in_the_pages),
        ("images", in_the_footer),
        ("images", cut_off),
        ("prompts", in_the_pages),
    ],
)
def test_damage_is_found_by_name_and_the_next_build_mends_it(
    surd: Surd, tmp_path: Path, group: str, damage: Callable[[Path], None]
) -> None:
    with Site(pictures(60, p7="not_found")) as site:
        build = ("build", "civitai", "-o", tmp_path, *small_settings(site, until="prompts"))
        surd(*build)
        undisturbed = digests(tmp_path)
        damage(tmp_path / group / "part-00001.parquet")
        found = surd("status", tmp_path, "--verify")
        assert found.code == 1
        assert found.err.startswith(f"surd: {tmp_path}/{group}/part-00001.parquet: damaged (")
        assert len(found.err.splitlines()) == 1
        assert "part 1 damaged" in found.out
        assert surd(*build).code == 0
    assert digests(tmp_path) == undisturbed
    again = surd("status", tmp_path, "--verify")
    assert again.code == 0
    assert again.out.endswith("verified: no file is damaged\n")


def test_images_beside_the_damaged_ones_are_not_downloaded_again(
    surd: Surd, tmp_path: Path
) -> None:
    with Site(pictures(MANY)) as site:
        settings = small_settings(site, until="download", part_size=str(MANY))
        surd("build", "civitai", "-o", tmp_path, *settings)
        undisturbed, asked = digests(tmp_path), site.image_requests.total()
        part = tmp_path / "images" / "part-00000.parquet"
        group = pq.read_metadata(part).row_group(1)
        flip(part, in_the_bytes_of(part, row_group=1))
        surd("status", tmp_path, "--verify")
        surd("build", "civitai", "-o", tmp_path, *settings)
        assert site.image_requests.total() - asked == group.num_rows
    assert digests(tmp_path) == undisturbed


def in_the_bytes_of(part: Path, row_group: int) -> int:
    """A place in the middle of its pictures."""
    columns = pq.read_schema(part).names
    pages = pq.read_metadata(part).row_group(row_group).column(columns.index("bytes"))
    return int(pages.data_page_offset + pages.total_compressed_size // 2)


def test_damage_that_some_command_meets_is_mended_by_the_next_build(
    surd: Surd, tmp_path: Path
) -> None:
    with Site(pictures(60)) as site:
        build = ("build", "civitai", "-o", tmp_path, *small_settings(site, until="download"))
        surd(*build)
        undisturbed = digests(tmp_path)
        part = tmp_path / "images" / "part-00002.parquet"
        flip(part, in_the_bytes_of(part, row_group=0))
        surd(*build)
        assert digests(tmp_path) != undisturbed, "nobody has read the pictures"
        with pytest.raises(DamagedPartError, match=r"part-00002\.parquet: damaged .*again"):
            Workspace(tmp_path).read("images", 2)
        surd(*build)
    assert digests(tmp_path) == undisturbed


@pytest.mark.parametrize(("part", "damage"), [(0, in_the_pages), (1, in_the_footer), (2, cut_off)])
def test_damaged_samples_are_told_and_asked_for_again_when_deleted(
    surd: Surd, tmp_path: Path, damage: Callable[[Path], None], part: int
) -> None:
    with Site(pictures(60)) as site:
        build = ("build", "civitai", "-o", tmp_path, *small_settings(site, until="download"))
        surd(*build)
        before = set(samples_of(tmp_path))
        path = tmp_path / "samples" / f"part-{part:05d}.parquet"
        damage(path)
        told = surd("status", tmp_path, "--verify")
        assert told.code != 0
        assert (
            f"{path}: damaged" in told.err
            and f"delete this file and run surd collect {tmp_path}" in told.err
        )
        path.unlink()
        assert surd("collect", tmp_path).code == 0
        assert surd(*build).code == 0
    after = samples_of(tmp_path)
    assert len(after) == len(set(after)), "nothing twice"
    assert set(after) == before, "nothing lost"
    assert surd("status", tmp_path, "--verify").code == 0


def samples_of(folder: Path) -> list[str]:
    """The ids of the samples whose images are there."""
    workspace = Workspace(folder)
    found = []
    for part in workspace.parts("samples"):
        images = workspace.read("images", part, ["id", "status"])
        assert images["id"].equals(workspace.read("samples", part, ["id"])["id"])
        assert set(images["status"].to_pylist()) == {"ok"}
        found += images["id"].to_pylist()
    return found


def test_damaged_vectors_are_computed_again(surd: Surd, tmp_path: Path) -> None:
    make_model(tmp_path / "llm")
    make_workspace(tmp_path / "w", SAMPLES, KEEP)
    embed = ("embed-llm", tmp_path / "w", "--model", tmp_path / "llm", "--layer", 1)
    surd(*embed)
    undisturbed = digests(tmp_path / "w")
    [part, *_] = sorted((tmp_path / "w" / "llm").rglob("*.parquet"))
    in_the_pages(part)
    found = surd("status", tmp_path / "w", "--verify")
    assert f"surd: {part}: damaged" in found.err
    assert f"run surd embed-llm {tmp_path / 'w'}" in found.err
    assert surd(*embed).code == 0
    assert digests(tmp_path / "w") == undisturbed
