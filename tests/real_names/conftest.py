"""One zoo for all processes of a run, and in each a hub that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support_hub import TOKEN, Hub

from real_names.hub import serving_models, surroundings
from real_names.shell import Forked
from real_names.zoo import Zoo


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Zoo:
    """Models that are built when they are first asked for."""
    base = tmp_path_factory.getbasetemp()
    return Zoo((base if worker_id == "master" else base.parent) / "zoo")


@pytest.fixture(scope="session")
def hub(zoo: Zoo) -> Iterator[Hub]:
    with serving_models(zoo) as served:
        yield served


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the hub's libraries keep of it, by test process."""
    return tmp_path_factory.mktemp("hf-home")


@pytest.fixture(scope="session")
def forked(hub: Hub, home: Path) -> Iterator[Forked]:
    with Forked(surroundings(hub, home)) as commands:
        yield commands


@pytest.fixture
def online(hub: Hub, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process takes the stand-in for the hub."""
    from huggingface_hub import constants, hf_api

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
