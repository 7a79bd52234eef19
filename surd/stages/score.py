"""Score: CLIP's view of the image, of the complex prompt and of every simple candidate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field

from surd.params import ModelName, Params, runtime
from surd.stages.base import Batch, Stage, StageFunction
from surd.store.edits import COLUMN as EDIT
from surd.store.schema import CLIP

if TYPE_CHECKING:
    import torch

    from surd.models.clip import Clip
    from surd.stages.decoding import Opened


class ScoreParams(Params):
    """Which models judge how well prompts and images agree."""

    clip: ModelName = Field(
        default="ViT-B-32/openai",
        description="CLIP model: architecture/weights of open_clip, hf-hub:org/repo, or a folder",
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="precision of the weights; auto: bf16 on a GPU (fp16 on older ones), else fp32",
    )
    aesthetic_head: str | None = Field(
        default=None,
        description="file with an aesthetic head for this CLIP model, such as LAION's .pth files",
    )
    itm: str | None = Field(
        default=None,
        description="BLIP with an image-text matching head, such as Salesforce/blip-itm-base-coco",
    )
    nsfw: Literal["opennsfw", "none"] = Field(
        default="opennsfw", description="image model that computes the NSFW score"
    )
    device: str = runtime("auto", "auto, cpu, cuda or cuda:N")


@dataclass(frozen=True)
class _Judges:
    clip: Clip
    aesthetic: Any
    itm: Any
    nsfw: Any


def open_(params: ScoreParams) -> StageFunction:
    """Load the models; return the function that scores. Raises ModelError."""
    from surd.models.clip import load_clip
    from surd.models.devices import device_named, dtype_of
    from surd.models.preference import load_aesthetic_head, load_itm
    from surd.models.safety import load_nsfw

    device = device_named(params.device)
    dtype = dtype_of(params.precision, device)
    clip = load_clip(params.clip, device=device, dtype=dtype)
    judges = _Judges(
        clip,
        load_aesthetic_head(params.aesthetic_head, device) if params.aesthetic_head else None,
        load_itm(params.itm, device=device, dtype=dtype) if params.itm else None,
        load_nsfw() if params.nsfw == "opennsfw" else None,
    )
    return lambda batches: _score(batches, judges)


def _score(batches: Iterable[Batch], judges: _Judges) -> Iterator[pa.Table]:
    from surd.models.memory import AtOnce
    from surd.stages.decoding import opened

    def prepare(image: Any) -> tuple[torch.Tensor, Any]:
        kept = image if judges.nsfw or judges.itm else None
        return judges.clip.preprocess(image), kept

    side = judges.clip.side_px if not (judges.nsfw or judges.itm) else _OTHERS_SIDE_PX
    at_once = AtOnce(STAGE.batch_rows)
    for some in opened(batches, prepare, side_px=lambda: max(side, judges.clip.side_px)):
        columns: dict[str, list[Any]] = {field.name: [None] * len(some.pictures) for field in CLIP}
        columns["id"] = some.table["id"].to_pylist()
        columns["status"] = some.statuses
        at_once.each(partial(_fill, columns, some, judges), some.usable, _too_large)
        arrays = [pa.array(columns[field.name], field.type) for field in CLIP]
        yield pa.Table.from_arrays(arrays, schema=CLIP)


_OTHERS_SIDE_PX = 256
"""Shorter side at which the NSFW and matching models still see what they were trained on."""


def _too_large(row: int) -> str:
    return (
        "not enough memory to score even one picture; set score.device to cpu, or "
        "score.precision to bf16 or fp16"
    )


def _fill(
    columns: dict[str, list[Any]], some: Opened[Any], judges: _Judges, rows: Sequence[int]
) -> None:
    """Set what is known of the rows, which have a picture."""
    import torch

    table = some.table
    pictures: list[Any] = [some.pictures[i] for i in rows]
    images = judges.clip.embed_pixels(torch.stack([pixels for pixels, _ in pictures]))  # [b, d]
    _set(columns, "image_embedding", rows, list(images.cpu().half().numpy()))
    _complex(columns, table, rows, images, judges.clip)
    _simple(columns, table, rows, images, judges.clip)
    originals = [picture for _, picture in pictures]
    if judges.aesthetic is not None:
        _set(columns, "aesthetic", rows, judges.aesthetic(images).tolist())
    if judges.nsfw is not None:
        _set(columns, "nsfw", rows, judges.nsfw(originals))
    if judges.itm is not None:
        pairs = [
            (i, columns["simple_prompt"][i], picture)
            for i, picture in zip(rows, originals, strict=True)
            if columns["simple_prompt"][i]
        ]
        if pairs:
            chosen, texts, seen = zip(*pairs, strict=True)
            _set(columns, "itm", chosen, judges.itm(seen, texts))


def _complex(
    columns: dict[str, list[Any]],
    table: pa.Table,
    rows: Sequence[int],
    images: torch.Tensor,
    clip: Clip,
) -> None:
    """A prompt beyond the text window is scored in pieces: the mean of their embeddings, each
    weighed by its tokens, and made of unit length again."""
    import torch
    from torch.nn import functional

    prompts = table["complex_prompt"].to_pylist()
    pieces = {i: clip.split(prompts[i]) for i in rows if prompts[i]}
    if not pieces:
        return
    flat = [piece for some in pieces.values() for piece in some]
    weights = torch.tensor([float(clip.count_tokens(piece)) for piece in flat])
    embedded = clip.embed_texts(flat) * weights.to(images.device)[:, None]  # [pieces, d]
    sums = [part.sum(dim=0) for part in embedded.split([len(p) for p in pieces.values()])]
    texts = functional.normalize(torch.stack(sums), dim=-1)
    place = {row: k for k, row in enumerate(rows)}
    scores = (images[[place[i] for i in pieces]] * texts).sum(dim=-1)
    _set(columns, "complex_embedding", pieces, list(texts.cpu().half().numpy()))
    _set(columns, "complex_chunks", pieces, [len(some) for some in pieces.values()])
    _set(columns, "cos_complex", pieces, scores.tolist())


def _simple(
    columns: dict[str, list[Any]],
    table: pa.Table,
    rows: Sequence[int],
    images: torch.Tensor,
    clip: Clip,
) -> None:
    """Every candidate's score; the simple prompt is what was written by hand, else the best
    candidate, the earlier of equals."""
    candidates = [[c["text"] for c in some or ()] for some in table["candidates"].to_pylist()]
    edits = table[EDIT].to_pylist() if EDIT in table.column_names else [None] * table.num_rows
    written = [[] if edit is None else [edit] for edit in edits]
    flat = list(dict.fromkeys(text for i in rows for text in (*candidates[i], *written[i])))
    if not flat:
        return
    embedded = clip.embed_texts(flat)  # [texts, d]
    place = {text: k for k, text in enumerate(flat)}
    for k, i in enumerate(rows):
        choices = [*candidates[i], *written[i]]
        if not choices:
            continue
        texts = embedded[[place[text] for text in choices]]
        scores = (texts @ images[k]).tolist()
        best = len(choices) - 1 if written[i] else scores.index(max(scores))
        if candidates[i]:
            columns["candidate_scores"][i] = scores[: len(candidates[i])]
        columns["simple_prompt"][i] = choices[best]
        columns["cos_simple"][i] = scores[best]
        columns["simple_embedding"][i] = texts[best].cpu().half().numpy()


def _set(columns: dict[str, list[Any]], name: str, rows: Iterable[int], values: Any) -> None:
    for i, value in zip(rows, values, strict=True):
        columns[name][i] = value


STAGE = Stage(
    name="score",
    group="clip",
    version=3,  # of 1, QuickGELU was GELU; of 2, colours were taken for sRGB
    reads={"images": ("bytes",), "prompts": ("complex_prompt",), "captions": ("candidates",)},
    row_inputs={
        "images": ("sha256",),
        "prompts": ("complex_prompt",),
        "captions": ("candidates",),
    },
    edited=True,
    schema=CLIP,
    params=ScoreParams,
    open=open_,
    models=lambda params: (params.clip, params.itm, params.aesthetic_head),
    workers="one",
    batch_rows=64,
)
