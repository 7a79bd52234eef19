"""DiffusionDB: 2 or 14 million images of Stable Diffusion's Discord server, CC0 1.0.

Its table of metadata is joined with the archives of images, a thousand in each.
https://github.com/poloclub/diffusiondb#dataset-metadata
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, model_validator

from surd.errors import SourceError, one_line
from surd.sources.paging import Numbered, paged, position
from surd.sources.record import Page, Record, Seen, SourceParams
from surd.sources.table_rows import batch_rows, parquet_batches, parquet_schema

LICENCE = "CC0 1.0"
NEEDED = ("image_name", "prompt", "part_id")
OTHERS = (
    *("seed", "step", "cfg", "sampler", "width", "height"),
    *("user_name", "timestamp", "image_nsfw", "prompt_nsfw"),
)
SAMPLERS = {
    **{1: "ddim", 2: "plms", 3: "k_euler", 4: "k_euler_ancestral", 5: "k_heun", 6: "k_dpm_2"},
    **{7: "k_dpm_2_ancestral", 8: "k_lms", 9: "others"},
}
_BATCH_ROWS = 10_000
_METADATA = ("metadata.parquet", "metadata-large.parquet")
_PART = re.compile(r"part-(\d{6})(\.zip)?")
_NAME = re.compile(r"[\w.-]+\.(png|webp)", re.ASCII)

log = logging.getLogger("surd")


class DiffusionDbSource(SourceParams):
    """Rows of ``metadata.parquet`` whose archives of images are on the disk, in the table's order.

    The higher of a row's two scores from 0 to 1, the likelihoods that image and prompt are not
    safe for work, becomes the level: below ``soft_from`` none, then soft, mature and x. 2, which
    marks what the generator blurred, is x. The scores themselves are in the settings.
    """

    kind: Literal["diffusiondb"] = "diffusiondb"
    path: str = Field(
        min_length=1, description="metadata.parquet or metadata-large.parquet: a file or a url"
    )
    images: str | None = Field(
        default=None,
        description="folder with part-000001.zip, ..., packed or unpacked, also in subfolders; "
        "default: the folder of the metadata. Rows whose part is missing are left "
        "out",
    )
    soft_from: float = Field(
        default=0.2, ge=0, description="nsfw score from which an image counts as soft"
    )
    mature_from: float = Field(
        default=0.5, ge=0, description="nsfw score from which an image counts as mature"
    )
    x_from: float = Field(
        default=0.9, ge=0, description="nsfw score from which an image counts as x"
    )

    @model_validator(mode="after")
    def _in_order(self) -> DiffusionDbSource:
        if not self.soft_from <= self.mature_from <= self.x_from:
            raise ValueError("soft_from, mature_from and x_from must increase in this order")
        return self


def pages(params: DiffusionDbSource, cursor: str | None) -> Iterator[Page]:
    """Records in the order of rows, which the cursor counts."""
    _, start = position(cursor, params.path)
    is_url = "://" in params.path
    path = params.path if is_url else _metadata_at(Path(params.path).expanduser().absolute())
    names = _checked_columns(path)
    parts = _parts(params, path)
    seen = Seen()
    return paged(_records(params, path, names, parts, start, seen), cursor, seen)


def _metadata_at(path: Path) -> Path:
    """The file, or the one within a folder. Raises SourceError where that has none, or both."""
    if not path.is_dir():
        return path
    found = [path / name for name in _METADATA if (path / name).is_file()]
    if len(found) == 1:
        return found[0]
    names = " and ".join(_METADATA) if found else " nor ".join(_METADATA)
    raise SourceError(
        f"{path}: a folder with {'both' if found else 'neither'} {names}; name "
        "the file with DiffusionDB's metadata as path, and the folder with its zips as images"
    )


def _checked_columns(path: Path | str) -> list[str]:
    try:
        schema = parquet_schema(path)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    missing = [name for name in NEEDED if name not in schema.names]
    if missing:
        raise SourceError(f"{path}: not DiffusionDB's metadata: no column {', '.join(missing)}")
    if not pa.types.is_integer(schema.field("part_id").type):
        type_ = one_line(schema.field("part_id").type, 100)
        raise SourceError(f"{path}: part_id is {type_}, not an integer")
    return [*NEEDED, *(name for name in OTHERS if name in schema.names)]


def _parts(params: DiffusionDbSource, metadata: Path | str) -> dict[int, Path]:
    """Number of a part -> its archive or folder."""
    if params.images is not None:
        root = Path(params.images).expanduser().absolute()
    elif isinstance(metadata, Path):
        root = metadata.parent
    else:
        raise SourceError(f"{params.path}: set images to the folder with part-000001.zip, ...")
    found = [(path, match) for path in _entries(root) if (match := _PART.fullmatch(path.name))]
    found = [(path, m) for path, m in found if bool(m[2]) == path.is_file()]
    is_large = "large" in str(metadata).rpartition("/")[2]
    fitting = [item for item in found if ("diffusiondb-large" in str(item[0])) == is_large]
    parts: dict[int, Path] = {}
    for path, match in fitting or found:
        earlier = parts.setdefault(int(match[1]), path)
        if earlier != path and earlier.with_suffix("") != path.with_suffix(""):
            raise SourceError(f"{earlier} and {path} hold the same part; set images to one folder")
    if not parts:
        raise SourceError(
            f"{root}: no part-000001.zip or similar; get some with DiffusionDB's download.py, "
            "and set images to their folder"
        )
    return parts


def _entries(root: Path) -> list[Path]:
    """What lies in a folder and one below; archives come before folders of the same name."""
    try:
        return sorted([*root.glob("*"), *root.glob("*/*")], key=lambda path: (path.is_dir(), path))
    except OSError as error:
        raise SourceError(f"{root}: cannot be read: {error.strerror or error}") from error


def _records(
    params: DiffusionDbSource,
    path: Path | str,
    names: list[str],
    parts: Mapping[int, Path],
    start: int,
    seen: Seen,
) -> Iterator[Numbered]:
    skipped, first, absent = 0, "", 0
    wanted = pa.array(sorted(parts))
    for number, batch in parquet_batches(path, names, start, _BATCH_ROWS):
        here = pc.is_in(batch.column("part_id").cast(pa.int64(), safe=False), wanted)
        absent += batch.num_rows - (here.true_count or 0)
        numbers = (pc.indices_nonzero(here).to_numpy() + number).tolist()
        for i, row in batch_rows(batch.filter(here), 0):
            try:
                if isinstance(row, str):
                    raise ValueError(row.partition(": ")[2])
                record = _record(params, parts[row["part_id"]], row)
            except ValueError as error:
                skipped, first = skipped + 1, first or f"row {numbers[i] + 1}: {error}"
                seen.pass_over("bad row of a table", f"row {numbers[i] + 1}: {error}")
            else:
                yield "", numbers[i], record
    if skipped:
        log.warning("%s: %s; %d such rows skipped", path, first, skipped)
    if absent:
        log.warning("%s: %d rows left out, since their parts are missing", path, absent)


def _record(params: DiffusionDbSource, part: Path, row: Mapping[str, Any]) -> Record:
    name = row["image_name"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"image_name is {name!r}, not like 0c46f719.png")
    settings = {k: v for k, v in row.items() if k not in ("image_name", "prompt", "user_name")}
    sampler = row.get("sampler")
    if isinstance(sampler, int) and sampler in SAMPLERS:
        settings["sampler"] = SAMPLERS[sampler]
    made_at = settings.pop("timestamp", None)
    return Record(
        key=name,
        source_id=name,
        path=f"{part}::{name}" if part.suffix == ".zip" else str(part / name),
        prompt=_text(row["prompt"]),
        author=_text(row.get("user_name")),
        licence=LICENCE,
        nsfw_level=nsfw_level(params, row),
        created_at=made_at.isoformat() if isinstance(made_at, date) else _text(made_at),
        settings={k: v for k, v in settings.items() if v is not None},
    )


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def nsfw_level(params: DiffusionDbSource, row: Mapping[str, Any]) -> str | None:
    """The level of the higher score; None where there is no score."""
    scores = [
        float(row[name])
        for name in ("image_nsfw", "prompt_nsfw")
        if isinstance(row.get(name), float | int) and math.isfinite(row[name])
    ]
    if not scores:
        return None
    thresholds = (("x", params.x_from), ("mature", params.mature_from), ("soft", params.soft_from))
    return next((level for level, start in thresholds if max(scores) >= start), "none")
