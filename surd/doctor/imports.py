"""Whether the model libraries can be imported, fit together, and see a GPU."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from surd.doctor import probe
from surd.doctor.finding import Finding

_PATIENCE_S = 7.0
_DRIVER_PATIENCE_S = 5.0
_INDEX = "https://download.pytorch.org/whl"
_REINSTALL = "pip install --force-reinstall torch torchvision"
_UNFIT = (
    "operator torchvision::nms does not exist",
    "Couldn't load custom C++ ops",
    "compiled with different CUDA",
    "undefined symbol",
)
"""What torch and torchvision say of each other when they were built apart."""


def models() -> Iterator[Finding]:
    """Import the libraries in a process of their own, which may crash without harm.

    Of those it has no time for, as when a cold disk has gigabytes to read, the versions are told.
    """
    with ThreadPoolExecutor(1) as pool:
        driver = pool.submit(_nvidia_driver)
        ended, libraries = _probe()
    left = [name for name, about in libraries.items() if "error" not in about]
    for name, about in libraries.items():
        if name in left and ended is not None:
            yield Finding(f"import {name}", "BAD", ended, _mend(name, ended))
            break
        if name == "torchvision" and libraries["torch"]["version"] is not None:
            yield _torchvision(libraries["torch"], about)
        elif name not in left:
            yield _imported(name, about)
    if left and ended is None:
        named = ", ".join(f"{name} {libraries[name]['version'] or ''}".strip() for name in left)
        found = f"{named}: not checked within {_PATIENCE_S:g} s"
        again = "run surd doctor again; the first run is slow"
        yield Finding("imports", "note", found, again)
        if "torch" in left:
            yield Finding("GPU", "note", "not checked, since torch was not", again)
    if "devices" in libraries.get("torch", ()):
        yield _gpu(libraries["torch"]["devices"], driver.result())


def _probe() -> tuple[str | None, dict[str, dict[str, Any]]]:
    """How the process ended, None where it was stopped; and of each library what it told."""
    command = [sys.executable, str(Path(probe.__file__))]
    try:
        ran = subprocess.run(  # noqa: S603  # our own script, by our own interpreter
            command, capture_output=True, text=True, errors="replace", timeout=_PATIENCE_S
        )
        code, out, err = ran.returncode, ran.stdout, ran.stderr
    except subprocess.TimeoutExpired as error:
        code, err = None, ""
        out = (error.stdout or b"").decode(errors="replace")
    libraries: dict[str, dict[str, Any]] = {name: {"version": None} for name in probe.LIBRARIES}
    for line in out.splitlines():
        if line.startswith(probe.MARK) and line.endswith("}"):
            told = json.loads(line.removeprefix(probe.MARK))
            libraries[told["library"]] |= told
    if code is None:
        return None, libraries
    last = (err.strip().splitlines() or ["it ended without a message"])[-1]
    if code < 0:
        last = f"the process was killed by {signal.Signals(-code).name}"
    return last, libraries


def _imported(name: str, about: dict[str, Any]) -> Finding:
    if about["error"] is None:
        return Finding(f"import {name}", "ok", about["version"] or "works")
    return Finding(
        f"import {name}", "BAD", about["error"], _mend(about["package"] or name, about["error"])
    )


def _torchvision(torch: dict[str, Any], torchvision: dict[str, Any]) -> Finding:
    """Whether the two fit: by what they say of each other, by their builds, and by importing."""
    what = "torch and torchvision"
    have = f"torch {torch['version']}, torchvision {torchvision['version']}"
    error = torchvision.get("error")
    if error is not None and "No module named 'torchvision'" in error:
        return Finding(what, "BAD", f"{have}: not installed", "pip install torchvision")
    builds = [_build(one["version"]) for one in (torch, torchvision)]
    if not _satisfies(torch["version"], torchvision.get("asks")):
        why = f"this torchvision needs torch {torchvision['asks']}"
    elif None not in builds and builds[0] != builds[1]:
        why = f"built for {builds[0]} and {builds[1]}"
    elif error is not None:
        why = error
    else:
        return Finding(what, "ok", f"{have} match")
    if error is not None and error != why:
        why = f"{why}; {error}"
    return Finding(what, "BAD", f"{have} do not match: {why}", _reinstall(builds[0]))


def _satisfies(version: str | None, asked: str | None) -> bool:
    if not version or not asked:
        return True
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(asked).contains(version, prereleases=True)


def _build(version: str | None) -> str | None:
    """``cpu`` or ``cu121`` of ``2.4.0+cu121``; None where it does not say."""
    return version.partition("+")[2] or None if version else None


def _reinstall(build: str | None) -> str:
    return f"{_REINSTALL} --index-url {_INDEX}/{build or 'cpu'} (both from one index)"


def _mend(name: str, error: str) -> str:
    if any(sign in error for sign in _UNFIT):
        return f"{_REINSTALL} (both from one index)"
    if name not in probe.LIBRARIES:
        return f"pip install --upgrade {name.replace('_', '-')}"
    package = {"open_clip": "open_clip_torch"}.get(name, name)
    return f"pip install --force-reinstall {package}"


def _gpu(devices: dict[str, Any], driver: str) -> Finding:
    cards = ", ".join(f"{gpu['name']} {gpu['gib']:.0f} GiB" for gpu in devices["gpus"])
    if cards:
        toolkit = f"ROCm {devices['hip']}" if devices["hip"] else f"CUDA {devices['cuda']}"
        return Finding("GPU", "ok", f"{cards}; {toolkit}{driver and f', driver {driver}'}")
    if driver and devices["cuda"] is None:
        mend = f"{_REINSTALL} --index-url {_INDEX}/cu126 (or the CUDA version your driver supports)"
        return Finding("GPU", "note", "present, but this torch was built without CUDA", mend)
    if driver:
        found = f"present, but torch for CUDA {devices['cuda']} cannot use driver {driver}"
        return Finding(
            "GPU", "note", found, "update the driver, or install torch for an older CUDA"
        )
    if devices["mps"]:
        return Finding(
            "GPU", "ok", "Apple's (MPS); auto uses the CPU; to use the GPU, set --set KEY=mps"
        )
    return Finding("GPU", "ok", "none; models run on the CPU")


def _nvidia_driver() -> str:
    """Its version; empty where there is no NVIDIA driver."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ""
    try:
        ran = subprocess.run(  # noqa: S603  # words of our own
            [command, "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_DRIVER_PATIENCE_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (ran.stdout.split("\n", 1)[0].strip()) if ran.returncode == 0 else ""
