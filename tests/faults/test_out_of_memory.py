"""A model that runs out of memory gets half as much at once; what comes out is the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support import jpeg

from surd.errors import ModelError
from surd.files import archives, images
from surd.files.carriers import find as carriers
from surd.files.local_files import LocalFiles
from surd.models import captioner as captioners
from surd.models.clip import Clip
from surd.models.memory import halving, is_out_of_memory
from surd.net.fetch import Fetched
from surd.sources import metadata
from surd.stages.base import Batch
from surd.stages.caption import STAGE as CAPTION
from surd.stages.download.stage import DownloadParams, outcome
from surd.stages.score import STAGE as SCORE

pytestmark = pytest.mark.usefixtures("one_thread")

ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    MemoryError(),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED: out of memory"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory:"
        " you tried to allocate 68719476736000 bytes. Error code 12 (Cannot allocate memory)"
    ),
]
PICTURES = 11


IMAGE_ERRORS = [
    MemoryError("no room"),
    OSError("out of memory error when reading image file"),
    ValueError("Insufficient memory (case 4)"),
]
"""As numpy, Pillow and libjpeg say it."""


@pytest.mark.parametrize("error", IMAGE_ERRORS, ids=lambda error: type(error).__name__)
def test_too_little_memory_is_no_verdict_on_an_image(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(images.simplejpeg, "decode_jpeg", fail)
    with pytest.raises(MemoryError, match=r"lower download\.threads"):
        outcome(Fetched("ok", body=jpeg(1)), DownloadParams())


def test_too_little_memory_is_no_lack_of_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Iterator[Any]:
        raise MemoryError
        yield

    monkeypatch.setattr(carriers.jpeg, "texts", fail)
    with pytest.raises(MemoryError):
        metadata.read(jpeg(1))


def test_too_little_memory_is_no_unreadable_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise pa.ArrowMemoryError("malloc of size 64 failed")

    monkeypatch.setattr(archives, "check_rows", fail)
    pq.write_table(pa.table({"image": [b"a"]}), tmp_path / "a.parquet")
    with pytest.raises(MemoryError):
        LocalFiles().read(f"{tmp_path}/a.parquet::image/0", 100)


def word(item: object) -> str:
    return f"{item} is too large"


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_item_comes_out_once_and_in_order(error: Exception) -> None:
    asked: list[int] = []

    def work(some: Sequence[int]) -> list[int]:
        asked.append(len(some))
        if len(some) > 3:
            raise error
        return [2 * n for n in some]

    pieces = halving(work, range(13), word)
    assert [n for piece in pieces for n in piece] == [2 * n for n in range(13)]
    assert max(map(len, pieces)) <= 3
    assert sum(n for n in asked if n <= 3) == 13, "nothing is computed twice"


def test_one_that_does_not_fit_is_an_error_that_names_it() -> None:
    def work(some: Sequence[int]) -> None:
        if 7 in some:
            raise MemoryError

    with pytest.raises(ModelError, match=r"^7 is too large$"):
        halving(work, [5, 6, 7, 8], word)


def test_other_errors_are_not_taken_for_it() -> None:
    def work(some: Sequence[int]) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        halving(work, [1, 2], word)
    assert not is_out_of_memory(OSError(12, "Cannot allocate memory"))


def test_what_pytorch_says_when_a_cpu_has_no_more_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**50, dtype=torch.float64)
    assert is_out_of_memory(caught.value)


# The stages


def rows(*columns: str) -> Iterator[Batch]:
    given = {
        "id": [f"{n:032x}" for n in range(PICTURES)],
        "bytes": pa.array([jpeg(n) for n in range(PICTURES)], pa.large_binary()),
        "prompt": [f"masterpiece, thing {n}" for n in range(PICTURES)],
        "simple_prompt": pa.nulls(PICTURES, pa.string()),
        "complex_prompt": [f"masterpiece, thing {n}" for n in range(PICTURES)],
        "candidates": [
            [{"text": f"a thing {n + k}", "raw": "", "how": "beam"} for k in range(3)]
            for n in range(PICTURES)
        ],
    }
    yield Batch(pa.table({name: given[name] for name in ("id", *columns)}))


def captions() -> pa.Table:
    params = CAPTION.params(model="demo:captioner", candidates=3, device="cpu")
    return pa.concat_tables(CAPTION.open(params)(rows("bytes", "prompt", "simple_prompt")))


def scores() -> pa.Table:
    params = SCORE.params(clip="demo:clip", nsfw="none", device="cpu")
    return pa.concat_tables(SCORE.open(params)(rows("bytes", "complex_prompt", "candidates")))


def scarce(work: Callable[..., Any], holds: int, seen: list[int]) -> Callable[..., Any]:
    """The work, with memory for so many pictures."""

    def limited(*arguments: Any) -> Any:
        pictures = next(a for a in arguments if isinstance(a, list | torch.Tensor))
        seen.append(len(pictures))
        if len(pictures) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(*arguments)

    return limited


def test_captions_are_the_same_with_memory_for_a_few(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = captions()
    load, seen = captioners.load_captioner, list[int]()

    def load_scarce(*arguments: Any, **how: Any) -> Any:
        loaded = load(*arguments, **how)
        return replace(loaded, propose=scarce(loaded.propose, 3, seen))

    monkeypatch.setattr(captioners, "load_captioner", load_scarce)
    with caplog.at_level(logging.WARNING, "surd"):
        assert captions().equals(right)
    assert max(seen) > 3
    assert "out of memory: continuing with 6 at once" in caplog.text


def test_scores_are_the_same_with_memory_for_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    right = scores().to_pylist()
    seen: list[int] = []
    monkeypatch.setattr(Clip, "embed_pixels", scarce(Clip.embed_pixels, 3, seen))
    found = scores().to_pylist()
    assert max(seen) > 3
    for one, other in zip(found, right, strict=True):
        assert one["simple_prompt"] == other["simple_prompt"]
        for name in ("id", "status", "complex_chunks"):
            assert one[name] == other[name]
        for name in ("image_embedding", "cos_complex", "cos_simple", "candidate_scores"):
            np.testing.assert_allclose(one[name], other[name], atol=2e-3)


@pytest.mark.parametrize("stage", [captions, scores])
def test_a_stage_without_memory_for_one_picture_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, stage: Callable[[], pa.Table]
) -> None:
    load = captioners.load_captioner
    monkeypatch.setattr(
        captioners,
        "load_captioner",
        lambda *a, **how: replace(load(*a, **how), propose=scarce(captions, 0, [])),
    )
    monkeypatch.setattr(Clip, "embed_pixels", scarce(Clip.embed_pixels, 0, []))
    with pytest.raises(
        ModelError, match=r"not enough memory to \w+ even one picture; set .*device to cpu"
    ):
        stage()


def test_a_batch_that_ran_out_is_a_lesson_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(Clip, "embed_pixels", scarce(Clip.embed_pixels, 3, seen))
    params = SCORE.params(clip="demo:clip", nsfw="none", device="cpu")
    batches = [next(rows("bytes", "complex_prompt", "candidates")) for _ in range(3)]
    tables = list(SCORE.open(params)(batches))
    assert sum(table.num_rows for table in tables) == 3 * PICTURES
    assert len([n for n in seen if n > 3]) <= 3, "the first batch alone met the limit"


def test_the_last_few_of_a_part_do_not_make_the_next_batches_small(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load, seen = captioners.load_captioner, list[int]()
    monkeypatch.setattr(
        captioners,
        "load_captioner",
        lambda *a, **how: replace(
            load(*a, **how), propose=scarce(load(*a, **how).propose, 9, seen)
        ),
    )
    params = CAPTION.params(model="demo:captioner", candidates=1, device="cpu", batch_size=8)
    parts = [next(rows("bytes", "prompt", "simple_prompt")) for _ in range(3)]
    assert sum(table.num_rows for table in CAPTION.open(params)(parts)) == 3 * PICTURES
    assert seen == [8, 3] * 3
