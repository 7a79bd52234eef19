"""The folders that trainers of diffusion models read, each with the settings that describe it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from surd.dataset.export.job import Job

_PLAIN = ("jpg", "png", "bmp")
_NOT_IN_NAMES = re.compile(r"[^\w.-]+")
_NAME_CHARS = 40


def write_kohya(job: Job) -> None:
    """``SPLIT/REPEATS_NAME/ID.jpg`` and ``ID.txt``, and ``dataset.toml`` for ``--dataset_config``.

    Several texts are a line each, of which ``enable_wildcard`` draws one; braces are doubled there,
    for they would be choices.
    https://github.com/kohya-ss/sd-scripts/blob/main/docs/config_README-en.md
    """
    wildcard = len(job.wish.columns()) > 1
    repeats = job.wish.repeats or 1
    name = _NOT_IN_NAMES.sub(" ", job.wish.trigger).strip(" .")[:_NAME_CHARS] or "images"
    for split in job.dataset.splits:
        folder = job.folder / split / f"{repeats if split == 'train' else 1}_{name}"
        folder.mkdir(parents=True)
        for picture, texts in job.captioned(split, (*_PLAIN, "webp"), lines=True, turns=False):
            job.write_image(picture, folder / f"{picture.id}.{picture.extension}")
            lines = [t.replace("{", "{{").replace("}", "}}") for t in texts] if wildcard else texts
            job.write_texts(lines, folder / f"{picture.id}.txt")
    lines = [
        "[general]",
        'caption_extension = ".txt"',
        f"enable_wildcard = {_quoted(wildcard)}",
        "",
        "[[datasets]]",
        "",
        "  [[datasets.subsets]]",
        f"  image_dir = {_quoted(str(job.place / 'train' / f'{repeats}_{name}'))}",
        f"  num_repeats = {repeats}",
    ]
    _write(job, "dataset.toml", "\n".join(lines) + "\n")


def write_onetrainer(job: Job) -> None:
    """``SPLIT/ID.jpg`` and ``ID.txt`` with a text a line, of which one is drawn; and
    ``concepts.json``, with the validation split as a concept for validation.

    https://github.com/Nerogar/OneTrainer/blob/master/docs/QuickStartGuide.md
    """
    for split, folder in _folders(job):
        for picture, texts in job.captioned(split, (*_PLAIN, "webp", "tif"), lines=True):
            job.write_image(picture, folder / f"{picture.id}.{picture.extension}")
            job.write_texts(texts, folder / f"{picture.id}.txt")
    concepts = [
        {
            "__version": 1,
            "name": split,
            "path": str(job.place / split),
            "validation_concept": split == "validation",
            "balancing": float(job.wish.repeats or 1) if split == "train" else 1.0,
            "balancing_strategy": "REPEATS",
            "text": {"prompt_source": "sample"},
        }
        for split in ("train", "validation")
        if job.done[split]
    ]
    _write(job, "concepts.json", _json(concepts))


def write_simpletuner(job: Job) -> None:
    """``SPLIT/ID.jpg``, ``SPLIT.parquet`` with their texts and sizes, and
    ``multidatabackend.json``, with the validation split as a dataset for evaluation.

    https://github.com/bghira/SimpleTuner/blob/main/documentation/DATALOADER.md
    """
    several = len(job.wish.columns()) > 1
    schema = pa.schema(
        [
            ("filename", pa.string()),
            ("caption", pa.list_(pa.string()) if several else pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
        ]
    )
    for split, folder in _folders(job):
        rows = []
        for picture, texts in job.captioned(split, (*_PLAIN, "webp")):
            name = f"{picture.id}.{picture.extension}"
            job.write_image(picture, folder / name)
            size = {side: picture.fields[side] for side in ("width", "height")}
            rows.append({"filename": name, "caption": texts if several else texts[0], **size})
        pq.write_table(pa.Table.from_pylist(rows, schema), job.folder / f"{split}.parquet")
    datasets: list[dict[str, Any]] = [
        {
            "id": f"surd-{split}",
            "type": "local",
            "dataset_type": "image" if split == "train" else "eval",
            "instance_data_dir": str(job.place / split),
            "caption_strategy": "parquet",
            "metadata_backend": "parquet",
            "parquet": {
                "path": str(job.place / f"{split}.parquet"),
                "filename_column": "filename",
                "caption_column": "caption",
                "width_column": "width",
                "height_column": "height",
                "identifier_includes_extension": True,
            },
            "cache_dir_vae": str(job.place / "cache" / "vae" / split),
            **({"repeats": (job.wish.repeats or 1) - 1} if split == "train" else {}),
        }
        for split in ("train", "validation")
        if job.done[split]
    ]
    texts_cache = {
        "id": "surd-texts",
        "type": "local",
        "dataset_type": "text_embeds",
        "default": True,
        "cache_dir": str(job.place / "cache" / "text"),
    }
    _write(job, "multidatabackend.json", _json([*datasets, texts_cache]))


def write_ai_toolkit(job: Job) -> None:
    """``SPLIT/ID.jpg`` and ``ID.txt``, which is the caption as a whole; and ``datasets.yaml``, the
    part of a configuration that names them. WebP becomes PNG, since it "has issues" there.

    https://github.com/ostris/ai-toolkit#dataset-preparation
    """
    for split, folder in _folders(job):
        for picture, texts in job.captioned(split, ("jpg", "png")):
            job.write_image(picture, folder / f"{picture.id}.{picture.extension}")
            job.write_texts(texts, folder / f"{picture.id}.txt")
    about = {
        "folder_path": str(job.place / "train"),
        "caption_ext": "txt",
        "num_repeats": job.wish.repeats or 1,
    }
    text = yaml.safe_dump({"datasets": [about]}, allow_unicode=True, sort_keys=False)
    _write(job, "datasets.yaml", text)


def _folders(job: Job) -> Iterator[tuple[str, Path]]:
    for split in job.dataset.splits:
        (job.folder / split).mkdir()
        yield split, job.folder / split


def _write(job: Job, name: str, text: str) -> None:
    (job.folder / name).write_text(text, encoding="utf-8", newline="\n")


def _json(content: Any) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _quoted(value: str | bool) -> str:
    """A value of TOML, whose strings and booleans are those of JSON."""
    return json.dumps(value, ensure_ascii=False)
