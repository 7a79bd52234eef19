"""Fixtures of the trainings of adapters: a model and a dataset that several files learn from."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tiny Stable Diffusion of random weights."""
    from support_diffusion import make_pipeline

    folder = tmp_path_factory.mktemp("models") / "sd"
    make_pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published, with vectors of a language model."""
    from support_diffusion import make_published

    folder = tmp_path_factory.mktemp("data") / "w"
    make_published(folder)
    return folder
