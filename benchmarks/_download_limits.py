"""What the machine could do if there were nothing but decoding."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from _common import say
from _download_contenders import QUALITY, SHORTER_SIDE_PX, WORKERS
from _download_photos import Corpus

from surd.stages.download.stage import DownloadParams, describe

LIMIT_IMAGES = 400


def opencv_resize(data: bytes) -> None:
    """What img2dataset does to one file: decode, resize by area, encode."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None  # its own pictures can be read
    height, width = pixels.shape[:2]
    scale = SHORTER_SIDE_PX / min(height, width)
    size = (round(width * scale), round(height * scale))
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def surd_resize(data: bytes) -> None:
    """What surd does to one file in the resize case."""
    resize = {"mode": "shorter", "size": SHORTER_SIDE_PX, "quality": QUALITY}
    describe(data, DownloadParams.model_validate({"resize": resize}))


def surd_original(data: bytes) -> None:
    """What surd does to one file in the original case."""
    describe(data, DownloadParams())


def eighth_decode(data: bytes) -> None:
    """Decode to 1/8 of the size: every byte is read, few pixels are made."""
    simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)


LIMITS: dict[str, tuple[str, Callable[[bytes], None]]] = {
    "OpenCV decode, resize, encode": ("processes", opencv_resize),
    "surd's functions, resize": ("threads", surd_resize),
    "surd's functions, original": ("threads", surd_original),
    "decode at 1/8 scale": ("threads", eighth_decode),
}


def measure_limits(corpus: Corpus, rounds: int) -> dict[str, float]:
    """Images per second of the bare work on ``WORKERS`` cores, files in memory; the best round."""
    files = [corpus.folder / name for name in corpus.names[:LIMIT_IMAGES]]
    best = dict.fromkeys(LIMITS, 0.0)
    for _ in range(rounds):
        for name, (kind, work) in LIMITS.items():
            best[name] = max(best[name], _rate(kind, work, files))
    for name, rate in best.items():
        say(f"limit: {name}: {rate:.0f} images/s")
    return {name: round(rate, 1) for name, rate in best.items()}


def _rate(kind: str, work: Callable[[bytes], None], files: list[Path]) -> float:
    pools: dict[str, Callable[[], Executor]] = {
        "threads": lambda: ThreadPoolExecutor(WORKERS),
        "processes": lambda: ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")),
    }
    with pools[kind]() as pool:
        shares = [files[i::WORKERS] for i in range(WORKERS)]
        list(pool.map(_work_through, [work] * WORKERS, [share[:5] for share in shares]))  # warm up
        return sum(pool.map(_work_through, [work] * WORKERS, shares))


def _work_through(work: Callable[[bytes], None], files: list[Path]) -> float:
    """Images per second of one worker."""
    cv2.setNumThreads(1)
    data = [path.read_bytes() for path in files]
    started = time.perf_counter()
    for image in data:
        work(image)
    return len(data) / (time.perf_counter() - started)
