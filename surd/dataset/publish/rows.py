"""Reading a part across its groups: every row with all that is published of it, but the image."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from surd.dataset.columns import EXTENSIONS, ORIGINS, PUBLISHED
from surd.errors import SurdError, command
from surd.files.images import ImageProblem, sha256
from surd.files.strip import without_metadata
from surd.store.aligned import read_aligned
from surd.store.schema import GROUPS, MADE_BY
from surd.store.workspace import Workspace
from surd.url_secrets import SECRET_PATTERN, without_secrets

OPTIONAL = ("clip", "duplicates")
"""Groups that a dataset can do without."""
STYLES = ("dense", "tags")
"""Groups that belong to a dataset where they are asked for."""

_BATCH_ROWS = 100
_PNG = b"\x89PNG"
_PIECE_BYTES = 256_000_000


def groups_there(
    workspace: Workspace, parts: Sequence[int], styles: Collection[str] = ()
) -> list[str]:
    """The groups to read, of STYLES those asked for. Raises SurdError that names the command to run
    for what is missing."""
    where = workspace.location
    if not parts:
        raise SurdError(f"{where}: no samples yet; first run: {command('collect', where)}")
    groups = []
    for group in GROUPS:
        if group in STYLES and group not in styles:
            continue
        missing = sorted(set(parts) - set(workspace.parts(group)))
        if not missing:
            groups.append(group)
        elif group not in OPTIONAL or len(missing) < len(parts):
            several = f"of {len(missing)} of {len(parts)} parts " if len(missing) > 1 else ""
            several = "" if len(missing) == len(parts) else several
            run = command(MADE_BY[group], where)
            raise SurdError(f"{where}: no {group} {several}yet; first run: {run}")
    return groups


def read_part(workspace: Workspace, part: int, groups: Sequence[str]) -> pa.Table:
    """The published columns but ``image``, and what decides and is counted, of every row.

    The others: ``mime`` and ``exif_orientation``, ``image_status``, ``keep``, ``reasons``.
    """
    tables = read_aligned(workspace, part, {group: _columns(group) for group in groups})
    ids = tables["samples"]["id"]
    columns = {"id": ids}
    for name, group in ORIGINS.items():
        if group in tables:
            columns[name] = tables[group][name]
        else:
            columns[name] = pa.nulls(len(ids), PUBLISHED.field(name).type)
    if "clip" not in tables:
        columns["simple_prompt"] = _first_candidate(tables["captions"])
    if "duplicates" not in tables:
        columns["cluster"] = ids
    for name in ("url", "page_url"):
        columns[name] = _without_secrets(columns[name])
    columns["image_status"] = tables["images"]["status"]
    for name, group in _ALSO.items():
        columns[name] = tables[group][name]
    return pa.table(columns)


_ALSO = {"mime": "images", "exif_orientation": "images", "keep": "verdicts", "reasons": "verdicts"}


def _columns(group: str) -> list[str]:
    """What is read of a group."""
    columns = [name for name, origin in (ORIGINS | _ALSO).items() if origin == group]
    if group == "images":
        columns.append("status")
    if group == "captions":
        columns.append("candidates")
    return [name for name in columns if name in GROUPS[group].names]


def _first_candidate(captions: pa.Table) -> pa.Array:
    """The simple prompt where CLIP has chosen none: the first there is."""
    found = [candidates[0]["text"] if candidates else None for candidates in _candidates(captions)]
    return pa.array(found, pa.string())


def _candidates(captions: pa.Table) -> list[list[dict[str, str]] | None]:
    lists: list[list[dict[str, str]] | None] = captions["candidates"].to_pylist()
    return lists


def _without_secrets(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """Urls less passwords and signatures, which are nobody else's to know."""
    if not pc.any(pc.match_substring_regex(urls, SECRET_PATTERN)).as_py():
        return urls
    return pa.chunked_array([[without_secrets(url) for url in urls.to_pylist()]], pa.string())


def publishable(rows: pa.Table, required: Collection[str]) -> pa.Array:
    """Which rows are published: kept by their verdict, and with all that is required."""
    mask = pc.and_(rows["keep"], pc.equal(rows["image_status"], "ok"))
    for name in ("simple_prompt", "complex_prompt"):
        if name in required:
            mask = pc.and_(mask, pc.is_valid(rows[name]))
    return pc.fill_null(mask, False)


def with_images(
    workspace: Workspace, part: int, rows: pa.Table, mask: pa.Array, *, strip: bool = False
) -> Iterator[pa.Table]:
    """The chosen rows in the published schema, a batch at a time; with `strip`, image files have
    the picture alone. Raises SurdError where one cannot be stripped."""
    if not pc.any(mask).as_py():
        return
    start = 0
    for batch in workspace.read_batches("images", part, ["id", "bytes"], _BATCH_ROWS):
        for data in _pieces(batch["bytes"]):
            chosen = mask.slice(start, len(data))
            some = rows.slice(start, len(data)).filter(chosen)
            if some.num_rows:
                chosen_data = data.filter(chosen)
                yield _published(*(_stripped(some, chosen_data) if strip else (some, chosen_data)))
            start += len(data)


def _stripped(rows: pa.Table, data: pa.ChunkedArray) -> tuple[pa.Table, pa.ChunkedArray]:
    """Files without metadata, and rows with the digests and types of these."""
    columns = {
        name: rows[name].to_pylist() for name in ("id", "exif_orientation", "sha256", "mime")
    }
    files: list[bytes] = []
    for row, before in enumerate(data.to_pylist()):
        try:
            file = without_metadata(before, columns["exif_orientation"][row] or 1)
        except ImageProblem as error:
            raise SurdError(
                f"sample {columns['id'][row]}: its metadata cannot be removed ({error}); drop it "
                "with surd filter --drop, or set publish.metadata=keep"
            ) from error
        files.append(file)
        if file != before:
            columns["sha256"][row] = sha256(file)
            if file.startswith(_PNG):
                columns["mime"][row] = "image/png"
    for name in ("sha256", "mime"):
        at = rows.column_names.index(name)
        rows = rows.set_column(at, name, pa.array(columns[name], pa.string()))
    return rows, pa.chunked_array([pa.array(files, pa.large_binary())])


def _pieces(data: pa.ChunkedArray) -> Iterator[pa.ChunkedArray]:
    """Runs of rows with some megabytes each: published bytes have 32-bit offsets, which 2 GiB in
    one piece overflow."""
    start = held_bytes = 0
    for row, size in enumerate(pc.binary_length(data).fill_null(0).to_pylist()):
        if held_bytes and held_bytes + size > _PIECE_BYTES:
            yield data.slice(start, row - start)
            start, held_bytes = row, 0
        held_bytes += size
    yield data.slice(start)


def _published(rows: pa.Table, data: pa.ChunkedArray) -> pa.Table:
    names = [
        f"{id_}.{EXTENSIONS[mime]}"
        for id_, mime in zip(rows["id"].to_pylist(), rows["mime"].to_pylist(), strict=True)
    ]
    image = pa.StructArray.from_arrays(
        [data.combine_chunks().cast(pa.binary()), pa.array(names, pa.string())], ["bytes", "path"]
    )
    columns = [
        image if name == "image" else rows[name].cast(PUBLISHED.field(name).type)
        for name in PUBLISHED.names
    ]
    return pa.Table.from_arrays(columns, schema=PUBLISHED)
