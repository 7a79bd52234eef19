"""The published form of vectors: ``prompt2vec/<size>/<layer>.pt``, one dictionary by prompt.

Format: ``torch.save`` of ``dict[str, float16 tensor (h,)]``, as
https://github.com/Qrange-group/SUR-adapter writes it, of the last token's state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from surd.errors import SurdError
from surd.llm.layout import group, schema, short_name
from surd.stages.base import part_fingerprint
from surd.store.storage import Storage, local_path
from surd.store.workspace import Workspace


def read_prompt2vec(path: str | Path) -> dict[str, torch.Tensor]:
    """Prompt -> float16 ``[h]``. Raises SurdError naming the file and what is wrong with it."""
    file = local_path(path)
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise SurdError(f"{path}: no such file") from None
    except Exception as error:  # unpickling raises whatever the file makes it
        raise SurdError(
            f"{path}: not a prompt2vec file (a torch.save of prompts and their tensors)"
        ) from error
    if not isinstance(found, Mapping) or not found:
        raise SurdError(f"{path}: not a prompt2vec file: no dictionary of prompts")
    shapes = set()
    for prompt, vector in found.items():
        if not isinstance(prompt, str) or not isinstance(vector, torch.Tensor) or vector.ndim != 1:
            raise SurdError(f"{path}: {str(prompt)[:60]!r} is not a prompt with one vector")
        shapes.add(len(vector))
    if len(shapes) > 1:
        raise SurdError(f"{path}: vectors of different widths: {sorted(shapes)}")
    return {prompt: vector.to(torch.float16) for prompt, vector in found.items()}


def import_prompt2vec(workspace: Workspace, path: str | Path, model: str, layer: int) -> int:
    """Write the vectors as those of a model and layer; returns how many samples have one.

    A sample is matched by its simple prompt. Raises SurdError where none is.
    """
    vectors = read_prompt2vec(path)
    prompts = list(vectors)
    rows = {prompt: row for row, prompt in enumerate(prompts)}
    dense = torch.stack([vectors[prompt] for prompt in prompts]).numpy()
    shape = schema(dense.shape[1], "last")
    flat = pa.array(dense.ravel(), pa.float16())
    embedding = shape.field("embedding").type
    column = pa.FixedSizeListArray.from_arrays(flat, type=embedding)
    settings = f"prompt2vec {hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()}"
    name = group(short_name(model), layer)
    told = np.where(np.isnan(dense).any(axis=1), "not_finite", "ok")
    told[(told == "ok") & np.isinf(dense).any(axis=1)] = "overflow"
    parts = workspace.parts("clip")
    tables = {part: _rows(workspace, part, rows, told.tolist(), column, shape) for part in parts}
    matched = sum(table.num_rows - table["embedding"].null_count for table in tables.values())
    if not matched:
        raise SurdError(
            f"{path}: none of its {len(vectors):,} prompts is a simple prompt in "
            f"{workspace.location}; the first is {prompts[0][:60]!r}"
        )
    for part, table in tables.items():
        info = workspace.part_info("clip", part)
        inputs = {"clip": info.digest} if info else {}
        statuses = table["status"].to_pylist()
        with workspace.writing_part(name, part, shape, 1000) as writer:
            writer.write(table)
            writer.describe(
                fingerprint=part_fingerprint(settings, inputs),
                settings=settings,
                inputs=inputs,
                extra={
                    "counts": {s: statuses.count(s) for s in sorted(set(statuses))},
                    "llm": {"model": model, "layer": layer, "pool": "last", "from": "prompt2vec"},
                },
            )
    return int(matched)


def _rows(
    workspace: Workspace,
    part: int,
    rows: Mapping[str, int],
    told: Sequence[str],
    column: pa.Array,
    shape: pa.Schema,
) -> pa.Table:
    """`rows` leads from a prompt to its row of `column`, whose statuses are `told`."""
    clip = workspace.read("clip", part, ["id", "simple_prompt"])
    prompts = clip["simple_prompt"].to_pylist()
    found = [rows.get(prompt) for prompt in prompts]
    statuses = [
        "no_prompt" if not prompt else "absent" if row is None else told[row]
        for prompt, row in zip(prompts, found, strict=True)
    ]
    at = [row if status == "ok" else None for row, status in zip(found, statuses, strict=True)]
    return pa.Table.from_arrays(
        [
            clip["id"],
            pa.array(statuses, pa.string()),
            clip["simple_prompt"],
            pa.nulls(len(at), pa.int32()),
            column.take(pa.array(at, pa.int64())),
        ],
        schema=shape,
    )


def export_prompt2vec(workspace: Workspace, path: str | Path, model: str, layer: int) -> int:
    """Write the published form; returns how many prompts it holds. Raises SurdError, also where the
    simple prompts of a part have changed since it was made."""
    from surd.llm.embeddings import group_of

    out = local_path(path)

    name = group_of(workspace, model, layer)
    vectors: dict[str, torch.Tensor] = {}
    look = workspace.part_infos(name, "clip")
    for part in workspace.parts(name):
        info, clip = (look(group, part) for group in (name, "clip"))
        if info and clip and info.inputs.get("clip") != clip.digest:
            raise SurdError(
                f"{workspace.location}/{name}: the vectors of part {part} are older than its "
                "simple prompts; run surd embed-llm again with the same options, or import the "
                "vectors again"
            )
        table = workspace.read(name, part, ["simple_prompt", "embedding"])
        if not pa.types.is_fixed_size_list(table.schema.field("embedding").type):
            raise SurdError(
                f"{workspace.location}/{name}: has one vector per token, but prompt2vec has "
                "one per prompt: run surd embed-llm with --pool last"
            )
        table = table.filter(table["embedding"].is_valid())
        column = table["embedding"].combine_chunks()
        dense = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
        for prompt, row in zip(table["simple_prompt"].to_pylist(), dense, strict=True):
            vectors.setdefault(prompt, torch.from_numpy(np.array(row)))
    if out.exists():
        raise SurdError(f"{path}: already exists; choose another name, or delete it")
    try:
        with Storage(str(out.parent)).writing(out.name) as temporary:
            torch.save(vectors, temporary)
    except RuntimeError as error:  # what torch raises when the disk is full
        raise SurdError(f"{path}: cannot be written: {error}") from error
    return len(vectors)
