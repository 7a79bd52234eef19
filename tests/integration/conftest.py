"""Fixtures that several files share: what adapters learn from, and what a model was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny Stable Diffusion of random weights."""
    from support_diffusion import make_pipeline

    folder = tmp_path_factory.mktemp("models") / "sd"
    make_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny language model of random weights."""
    from support_llm import make_model

    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_model(folder)
    return str(folder)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published, with vectors of a language model."""
    from support_diffusion import make_published

    folder = tmp_path_factory.mktemp("data") / "w"
    make_published(folder)
    return folder


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts the model was given, by call."""
    from surd.llm import run

    counts: list[int] = []

    class Watched(run.Embedder):
        def vectors(self, texts: Any, computed: Any) -> Any:
            counts.append(len(texts))
            return super().vectors(texts, computed)

    monkeypatch.setattr(run, "Embedder", Watched)
    return counts
