"""The SUR-adapter: text embeddings of plain sentences, moved towards what a model draws well.

    >>> adapter = surd.adapter.load("runs/first")
    >>> embeddings, features, output = adapter(text_encoder_states)   # [b, s, d] each

Source: Zhong et al. 2023, arXiv:2305.05189. Evaluation, training and the command line import it; it
imports models and what is below.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surd.adapter.files import from_official, load, save
    from surd.adapter.module import Adapted, Adapter, AdapterConfig

__all__ = ["Adapted", "Adapter", "AdapterConfig", "from_official", "load", "save"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # torch is loaded only when something is asked for

    where = "files" if name in ("from_official", "load", "save") else "module"
    return getattr(import_module(f"{__name__}.{where}"), name)
