"""surd: build (simple prompt, complex prompt, image) datasets and train adapters on them.

    >>> samples = surd.frame("my-data")                        # pandas: every sample, every score
    >>> vectors = surd.load_embeddings("my-data", "demo:llm", 30)   # by sample id
    >>> surd.Workspace("my-data").parts("samples")             # the groups and their parts
    >>> adapter = surd.load_adapter("my-data/adapter/run")     # a torch module

What the commands do is in the packages below; see docs/architecture.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surd.adapter.files import load as load_adapter
    from surd.dataset.frame import frame
    from surd.llm.embeddings import load as load_embeddings
    from surd.store.workspace import Workspace

__version__ = "0.1.0"
__all__ = ["Workspace", "frame", "load_adapter", "load_embeddings"]

_WHERE = {
    "Workspace": ("surd.store.workspace", "Workspace"),
    "frame": ("surd.dataset.frame", "frame"),
    "load_adapter": ("surd.adapter.files", "load"),
    "load_embeddings": ("surd.llm.embeddings", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # torch and pandas are loaded once they are asked for

    module, attribute = _WHERE[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
