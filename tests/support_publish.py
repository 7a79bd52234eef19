"""Small workspaces with every group, made without models or downloads."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from surd.build.run import Options, build, open_recipe
from surd.dataset.publish.statistics import Statistics
from surd.recipe.publish import PublishParams
from surd.store.checksums import FOOTER_KEY
from surd.store.schema import GROUPS
from surd.store.workspace import Manifest, Workspace, part_name

HOSTILE = (
    "=cmd|'/C calc'!A0\n---\nlicense: mit\n| a | <script>alert(1)</script> "
    '"quoted", `code` [x](javascript:alert(1)) \u202eevil\u2066 www.evil.example \u2028 end'
)
RECIPE = {
    "name": "tiny",
    "description": "A tiny dataset",
    "sources": [{"kind": "folder", "path": "/home/someone/secret", "limit": 7}],
}
KEEP_ALL = {"min_side": 16, "clip_threshold": None, "complex_threshold": None}
FORMATS = (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp"))


def picture(seed: int, format_: str = "PNG", orientation: int = 1) -> bytes:
    """A small picture, different for each seed."""
    colours = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    options = {}
    if orientation != 1:
        options["exif"] = exif = Image.Exif()
        exif[0x0112] = orientation
    Image.fromarray(colours).resize((32, 24)).save(buffer, format_, **options)
    return buffer.getvalue()


def sample(number: int) -> dict[str, Any]:
    """All groups' columns of a sample that is kept; it depends on the number alone."""
    format_, mime = FORMATS[number % 3]
    data = picture(number, format_)
    id_ = f"{number:032x}"
    return {
        "id": id_,
        "source": "civitai",
        "source_id": str(number),
        "url": f"https://images.example/{number}.png",
        "page_url": f"https://example.org/images/{number}",
        "negative_prompt": None if number % 2 else "blurry",
        "author": f"author {number % 5}",
        "licence": "CC BY 4.0",
        "nsfw_level": "none",
        "status": "ok",
        "bytes": data,
        "mime": mime,
        "width": 32,
        "height": 24,
        "exif_orientation": 1,
        "resized": False,
        "sha256": hashlib.sha256(data).hexdigest(),
        "complex_prompt": f"masterpiece, red cup {number}",
        "candidates": [{"text": f"a red cup {number}", "raw": "x", "how": "beam"}],
        "simple_prompt": f"the red cup {number}",
        "dense_caption": f"A red cup, number {number}, stands on a table.",
        "tags": f"cup, red, number {number}",
        "cos_simple": 0.2 + number / 1000,
        "cos_complex": 0.3,
        "aesthetic": 5.0,
        "nsfw": 0.01,
        "cluster": id_,
        "cluster_size": 1,
        "keep": True,
        "reasons": [],
    }


def dropped(number: int, *reasons: str) -> dict[str, Any]:
    """A sample that the verdicts drop."""
    found = [{"reason": r, "value": 0.1, "threshold": 0.2, "detail": None} for r in reasons]
    return sample(number) | {"keep": False, "reasons": found}


def make_workspace(
    folder: Path | str,
    parts: Sequence[Sequence[Mapping[str, Any]]],
    *,
    without: Sequence[str] = (),
    recipe: Mapping[str, Any] = RECIPE,
) -> Workspace:
    """A workspace with these samples, part by part, in all groups but some."""
    workspace = Workspace(folder)
    workspace.write_manifest(Manifest(recipe=dict(recipe), versions={"surd": "0.1"}))
    for group in GROUPS:
        if group not in without:
            for part, rows in enumerate(parts):
                write_group(workspace, group, part, rows)
    return workspace


def publish_anew(workspace: Workspace, params: PublishParams) -> None:
    """Judge and publish as the commands do, so that nothing is stale; all samples are kept."""
    manifest = workspace.read_manifest()
    settings = {"filter": KEEP_ALL, "publish": params.model_dump(mode="json")}
    manifest.recipe |= {"sources": [{"kind": "folder", "path": "pictures"}]} | settings
    workspace.write_manifest(manifest)
    for stage in ("filter", "publish"):
        list(build(workspace, open_recipe(workspace), Options(only=stage, quiet=True)))


def write_group(
    workspace: Workspace, group: str, part: int, rows: Sequence[Mapping[str, Any]]
) -> None:
    """Write one part of one group."""
    schema = GROUPS[group]
    table = pa.Table.from_pylist([{n: row.get(n) for n in schema.names} for row in rows], schema)
    with workspace.writing_part(group, part, schema, 4) as writer:
        writer.write(table)
        writer.describe(fingerprint="f" * 32, settings="s" * 32, inputs={}, extra={})


def description(*files: Mapping[str, Any]) -> dict[str, Any]:
    """What the description of a dataset of such files says; of a file, any key may be left out."""
    one = {"name": "train-00000-of-00001.parquet", "split": "train", "rows": 1, "bytes": 1}
    return {
        "complete": True,
        "fingerprint": "f" * 32,
        "files": [one | {"sha256": "0" * 64} | file for file in files],
        "statistics": Statistics().as_json(),
        "texts": {},
    }


def rewrite(workspace: Workspace, group: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows of a part, and say of it in its footer what surd would."""
    path = Path(workspace.location, part_name(group, 0))
    table = pq.read_table(path)
    said = json.loads(pq.read_metadata(path).metadata[FOOTER_KEY])
    del said["crc32"]  # a stranger would compute it
    footer = {FOOTER_KEY: json.dumps(said).encode()}
    pq.write_table(change(table).replace_schema_metadata(footer), path)


def samples(count: int, start: int = 0, **changes: Any) -> list[dict[str, Any]]:
    """Kept samples; a callable change is called with the number."""
    return [
        sample(n) | {k: v(n) if isinstance(v, Callable) else v for k, v in changes.items()}
        for n in range(start, start + count)
    ]


def files(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".surd.lock"
    }


def remote_files(workspace: Workspace) -> dict[str, bytes]:
    """Name -> content of every file of a published dataset, wherever it lies."""
    storage = workspace.storage
    return {name: storage.read_bytes(f"dataset/{name}") for name in storage.names("dataset")}
