"""Decoders that hang, crash or take too long cost one row, and nothing else."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surd.files import apart as apart_module
from surd.files import images
from surd.files.apart import WorkEnded, apart
from surd.files.carriers import find
from surd.files.images import ImageProblem, check_decodes, decode, read_header
from surd.net.fetch import Fetched
from surd.sources import metadata
from surd.stages.download.stage import DownloadParams, outcome

UNCOUNTED = ("AVIF", "TIFF", "HEIF", "JXL")
COUNTED = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
SPIN = ("sha256", b"", b"", 2**31 - 1)
"""Of ``hashlib.pbkdf2_hmac``: minutes of work in C."""


def saved(format_: str, side_px: int = 32) -> bytes:
    if format_ == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    elif format_ == "JXL":
        pytest.importorskip("pillow_jxl")
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), np.uint8)
    Image.fromarray(noise).save(buffer, format_)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("work", "arguments"), [(hashlib.pbkdf2_hmac, SPIN), (time.sleep, (1000,))], ids=str
)
def test_work_without_end_is_ended(
    work: Callable[..., Any], arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(apart_module, "LIMIT_S", 0.05)
        with pytest.raises(WorkEnded, match=r"not done in 0\.05 seconds"):
            apart(work, *arguments)
    assert apart(len, b"abc") == 3


def test_a_limit_is_that_of_one_piece_of_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart_module, "LIMIT_S", 0.3)
    pids = set()
    for _ in range(8):
        apart(hashlib.pbkdf2_hmac, "sha256", b"", b"", 100_000)
        pids.add(apart(os.getpid))
    assert len(pids) == 1 and os.getpid() not in pids


def test_a_crash_is_told_as_one() -> None:
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS"):
        with pytest.raises(WorkEnded, match=rf"crashed \({name}\)"):
            apart(signal.raise_signal, signal.Signals[name])
    with pytest.raises(WorkEnded, match="ended with exit code 3"):
        apart(os._exit, 3)
    assert apart(len, b"abc") == 3


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_kill_from_outside_is_no_verdict(sent: signal.Signals) -> None:
    with pytest.raises(MemoryError, match=sent.name):
        apart(os.kill, apart(os.getpid), sent)
    assert apart(len, b"abc") == 3


def test_a_process_that_died_idle_is_replaced() -> None:
    worker = apart_module._borrow()
    worker.process.kill()
    worker.process.wait()
    apart_module._idle.append(worker)
    assert apart(len, b"abc") == 3


def test_one_that_cannot_start_is_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    apart_module._idle.clear()
    monkeypatch.setattr(apart_module, "_START", "raise SystemExit(7)  # {path} {fd}")
    with pytest.raises(MemoryError, match=r"cannot start \(exit code 7\)"):
        decode(saved("TIFF"))


def test_it_finds_what_its_parent_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apart_module._idle.clear()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert apart(eval, "__import__('sys').path") == [str(tmp_path), *sys.path[1:]]


def test_what_work_raises_and_returns_comes_across() -> None:
    with pytest.raises(ZeroDivisionError):
        apart(divmod, 1, 0)
    with pytest.raises(TypeError, match="pickle"):
        apart(memoryview, b"abc")
    pixels = apart(np.full, (30, 40, 3), 7)
    assert pixels.shape == (30, 40, 3) and pixels.flags.writeable and np.all(pixels == 7)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda n: apart(len, bytes(n)), range(100))) == list(range(100))


ORPHAN = """
import os, threading, time
from surd.files import apart
apart.LIMIT_S = {limit}
print(apart.apart(os.getpid), flush=True)
if {hangs}:
    threading.Thread(target=apart.apart, args=(time.sleep, 1000), daemon=True).start()
    time.sleep(0.1)
os._exit(0)
"""


@pytest.mark.parametrize(("limit", "hangs"), [(1000, False), (0.05, True)])
def test_nobody_outlives_a_parent_that_is_gone(limit: float, hangs: bool) -> None:
    code = ORPHAN.format(limit=limit, hangs=hangs)
    env = {"PYTHONPATH": ":".join(sys.path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    process = Path("/proc", ran.stdout.strip())
    while process.exists() and process.joinpath("stat").read_text().split()[2] != "Z":
        time.sleep(0.01)  # pytest ends what takes for ever


@pytest.mark.parametrize("format_", UNCOUNTED)
def test_formats_whose_work_cannot_be_counted_are_decoded_apart(
    format_: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = saved(format_)
    monkeypatch.setattr(images, "open_image", lambda *_: pytest.fail("was opened here"))
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was opened here"))
    facts = read_header(data, max_pixels=10_000)
    assert (facts.width, facts.height) == (32, 32)
    assert decode(data).shape == (32, 32, 3)
    assert check_decodes(data, facts).shape == (32, 32)
    find.texts_in(data)


@pytest.mark.parametrize("format_", COUNTED)
def test_the_others_are_decoded_here(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "apart", lambda *_: pytest.fail("was sent away"))
    data = saved(format_)
    assert check_decodes(data, read_header(data, max_pixels=10_000)).shape == (32, 32)
    find.texts_in(data)


def test_a_picture_that_takes_too_long_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2000, 2000)).save(buffer, "TIFF", compression="tiff_lzw")
    data = buffer.getvalue()
    with monkeypatch.context() as patch:
        patch.setattr(apart_module, "LIMIT_S", 0.001)
        row = outcome(Fetched("ok", body=data), DownloadParams())
    assert row["status"] == "decode_error"
    assert row["detail"] == "its decoder: not done in 0.001 seconds"
    assert outcome(Fetched("ok", body=data), DownloadParams())["status"] == "ok"


def test_metadata_that_takes_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object) -> None:
        raise WorkEnded("not done in 60 seconds")

    monkeypatch.setattr(images, "apart", late)
    assert metadata.read(saved("TIFF")).texts == ()


def test_verdicts_are_those_of_the_same_process() -> None:
    with pytest.raises(ImageProblem, match="too_many_pixels: 32 x 32 is more than 100 pixels"):
        read_header(saved("TIFF"), max_pixels=100)
    whole = saved("TIFF", 100)
    with pytest.raises(ImageProblem, match=r"decode_error|truncated"):
        decode(whole[: len(whole) // 2])
