"""What the environment decides: where a site is, options that are not given, types of a GPU."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support import pictures

from surd.demo.site import Site
from surd.errors import ModelError, SurdError
from surd.models.devices import dtype_of
from surd.net.fetch import Fetcher
from surd.net.fetched import Fetched
from surd.net.hosts import Hosts
from surd.net.request import open_session
from surd.recipe.train_adapter import TrainAdapterParams
from surd.sources.civitai import CivitaiSource, pages
from surd.stages.download.stage import DownloadParams
from surd.training.setup import precision_of

Surd = Callable[..., Any]
CPU = torch.device("cpu")


def get(url: str) -> Fetched:
    limits = DownloadParams(retries=0).limits()

    async def once() -> Fetched:
        async with open_session(limits, contact=None) as session:
            return await Fetcher(session, limits, Hosts(1)).fetch(url)

    return asyncio.run(once())


def test_the_environment_may_say_where_civitai_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(pictures(1)) as site:
        monkeypatch.setenv("CIVITAI_ENDPOINT", site.url + "/")
        (page,) = pages(CivitaiSource(), None)
        (record,) = page.records
        assert record.page_url == "https://civitai.com/images/1"
        assert record.url is not None and record.url.startswith(site.url)


def test_another_site_stays_where_the_recipe_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with Site(pictures(1)) as site:
        monkeypatch.setenv("CIVITAI_ENDPOINT", "http://127.0.0.1:9")
        assert len(list(pages(CivitaiSource(base_url=site.url), None))) == 1


def test_pictures_may_come_from_there_and_from_no_other_private_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = f"/images/x/{pictures(1)[0].uuid}/original=true/1.jpeg"
    with Site(pictures(1)) as civitai, Site(pictures(1)) as other:
        assert get(civitai.url + path).status == "blocked_address"
        monkeypatch.setenv("CIVITAI_ENDPOINT", civitai.url)
        assert get(civitai.url + path).status == "ok"
        assert get(other.url + path).status == "blocked_address"


@pytest.mark.parametrize("url", ["http://nowhere.invalid", "civitai", "ftp://civitai.com", "http:"])
def test_an_address_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CIVITAI_ENDPOINT", url)
    with pytest.raises(SurdError, match=r"^CIVITAI_ENDPOINT: .* cannot be reached; name an http"):
        get("http://127.0.0.1:9/")


def test_an_option_that_is_not_given_comes_from_the_environment(
    surd: Surd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURD_TRAIN_ADAPTER_STEPS", "0")
    assert "'--steps'" in surd("train-adapter", "nowhere").err
    assert "'--steps'" not in surd("train-adapter", "nowhere", "--steps", 1).err
    assert "SURD_" not in surd("train-adapter", "--help").out


def test_a_version_in_the_environment_is_no_question(
    surd: Surd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURD_VERSION", "1")
    assert surd("status", "nowhere").code == 2


@pytest.mark.parametrize(
    ("name", "dtype", "training"),
    [("bf16", torch.bfloat16, "bf16"), ("fp16", torch.float16, "fp16"),
     ("fp32", torch.float32, "no")],
)  # fmt: skip
def test_auto_may_be_what_it_is_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, name: str, dtype: torch.dtype, training: str
) -> None:
    monkeypatch.setenv("SURD_PRETEND_GPU_DTYPE", name)
    assert dtype_of("auto", CPU) == dtype
    assert dtype_of("fp32", CPU) == torch.float32
    assert precision_of(TrainAdapterParams()) == training
    assert precision_of(TrainAdapterParams(precision="no")) == "no"


def test_a_type_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SURD_PRETEND_GPU_DTYPE", "int4")
    with pytest.raises(ModelError, match=r"^SURD_PRETEND_GPU_DTYPE=int4: no precision; use bf16"):
        dtype_of("auto", CPU)
