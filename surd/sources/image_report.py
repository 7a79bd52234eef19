"""What one image file holds about its making, and what a folder source makes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

from surd.errors import SurdError
from surd.files.images import MAX_PIXELS, ImageProblem, read_header
from surd.sources import metadata
from surd.sources.beside import Sidecars
from surd.sources.folder import FolderSource, pages
from surd.sources.folder_files import open_files
from surd.text.prompt_syntax import parse

MAX_BYTES = 1_000_000_000
_EXCERPT_CHARS = 300


def report_image(path: Path) -> dict[str, Any]:
    """What ``surd inspect FILE`` shows, JSON-able; what is not there is None or empty.

    Raises SurdError for a file that cannot be read, and for one that is no image.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES)
    except OSError as error:
        raise SurdError(f"{path}: {error.strerror}; make the file readable") from error
    found = metadata.read(data)
    try:
        facts = read_header(data, max_pixels=MAX_PIXELS)
        image = f"{facts.mime}, {facts.width} x {facts.height}"
    except ImageProblem as problem:
        if not found.texts:
            reason = f"{problem.status}: {problem.detail}".rstrip(": ")
            raise SurdError(f"{path}: no image ({reason}); give an image or a workspace") from None
        image = problem.status
    settings = {k: v for k, v in found.settings.items() if k not in ("raw", "generator")}
    missed = settings.pop(metadata.NOT_UNDERSTOOD, {})
    return {
        "file": str(path),
        "image": image,
        "texts": [
            {"where": text.where, "chars": len(text.value), "text": text.value[:_EXCERPT_CHARS]}
            for text in found.texts
        ],
        "generator": found.generator,
        "prompt_from": found.prompt_from.where if found.prompt_from else None,
        "prompt": found.prompt,
        "complex_prompt": parse(found.prompt, found.generator).text if found.prompt else None,
        "negative_prompt": found.negative_prompt,
        "model": found.model,
        "settings": settings,
        "not_understood": missed,
        "collected": _collected(path),
    }


def _collected(path: Path) -> dict[str, Any] | None:
    """The record of a folder source, and what lies beside the image that it was read from."""
    source = FolderSource(path=str(path.absolute().parent), recursive=False)
    page = next(pages(source, quote_from_bytes(os.fsencode(path.name))), None)
    record = page.records[0] if page and page.records else None
    if record is None or record.source_id != path.name:
        return None
    told = ("prompt", "negative_prompt", "simple_prompt", "model")
    with open_files(source) as files:
        top = path.absolute().parent.name
        beside = Sidecars(files.read, files.beside, top).files_of(path.name)
    return {name: getattr(record, name) for name in told} | {
        "beside": beside,
        "problem": record.settings.get("sidecar_error"),
    }
