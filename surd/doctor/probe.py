"""Imports the model libraries one by one and tells of each; run as a script, for imports may crash.

It needs the standard library alone. Each line it prints for the doctor begins with a mark and is a
JSON object: first of every library what is known without importing it, then whether that worked. A
library without a second line is the one at which the process ended.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import traceback
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

MARK = "surd-probe:"

LIBRARIES = {
    "torch": (),
    "torchvision": (),
    "open_clip": ("create_model_and_transforms",),
    "transformers": ("BlipProcessor", "BlipForConditionalGeneration"),
    "diffusers": ("StableDiffusionPipeline",),
}
"""Module -> names to look up in it: transformers and diffusers import lazily."""


def main() -> None:
    """Tell of every library, and of torch's devices."""
    here = Path(__file__).resolve().parent
    sys.path[:] = [path for path in sys.path if Path(path).resolve() != here]
    for name in LIBRARIES:
        _tell(library=name, version=_version(name), asks=_asks(name))
    for name, looked_up in LIBRARIES.items():
        error = package = None
        try:
            module = importlib.import_module(name)
            for one in looked_up:
                getattr(module, one)
        except Exception as caught:
            inner = _innermost(caught)
            error = f"{type(caught).__name__}: {' '.join(str(inner).split())[:300]}"
            package = _package(inner)
        _tell(library=name, error=error, package=package)
        if name == "torch" and error is None:
            _tell(library=name, devices=_devices())


def _tell(**told: Any) -> None:
    print(MARK + json.dumps(told), flush=True)


def _innermost(error: BaseException) -> BaseException:
    """The cause of the cause; lazy imports wrap it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _package(error: BaseException) -> str | None:
    """Whose code met the error, as an old peft does that a new diffusers imports."""
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if name not in {*sys.stdlib_module_names, "__main__"}:
            found = name
    return found


def _version(name: str) -> str | None:
    """With the build (2.4.0+cu121), which pip's metadata leaves out; else as pip has it."""
    found = find_spec(name)
    for folder in (found.submodule_search_locations if found else None) or ():
        path = Path(folder) / "version.py"
        if path.is_file():
            said = re.search(r"^__version__\s*=\s*['\"](.+?)['\"]", path.read_text(), re.MULTILINE)
            if said:
                return said[1]
    try:
        return version({"open_clip": "open_clip_torch"}.get(name, name))
    except PackageNotFoundError:
        return None


def _asks(name: str) -> str | None:
    """What a library's metadata asks of torch, as ``==2.4.0``."""
    try:
        lines = requires(name) or []
    except PackageNotFoundError:
        return None
    for line in lines:
        found = re.match(r"torch\b\s*\(?([^;)]*)", line)
        if found:
            return found[1].strip()
    return None


def _devices() -> dict[str, Any]:
    import torch

    mps = getattr(torch.backends, "mps", None)
    gpus = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(number)
        gpus.append({"name": about.name, "gib": about.total_memory / 2**30})
    return {
        "cuda": torch.version.cuda,
        "hip": getattr(torch.version, "hip", None),
        "gpus": gpus,
        "mps": bool(mps and mps.is_available()),
    }


if __name__ == "__main__":
    main()
