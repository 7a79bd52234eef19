"""Models of the hub without a network: the cache serves, and what it lacks is told at once."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants
from support_llm import make_model
from support_site import Answer, serving
from support_tagger import ROWS, save_tagger

from surd.errors import ModelError
from surd.models import hub
from surd.models.captioner import load_captioner
from surd.models.clip import load_clip
from surd.models.diffusion import load_pipeline
from surd.models.llm import load_llm, shape_of
from surd.models.pickscore import load_pickscore
from surd.models.preference import load_itm
from surd.models.tagger import load_tagger
from surd.models.vqa import load_vqa

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}
LOADERS: dict[str, tuple[str, Callable[[], Any]]] = {
    "captioner": ("me/blip", lambda: load_captioner("me/blip")),
    "VQA model": ("me/vqa", lambda: load_vqa("me/vqa", **CPU)),
    "matching model": ("me/itm", lambda: load_itm("me/itm", **CPU)),
    "tag model": ("me/tagger", lambda: load_tagger("me/tagger")),
    "PickScore model": ("me/pickscore", lambda: load_pickscore("me/pickscore")),
    "diffusion model": ("me/sd", lambda: load_pipeline("me/sd")),
    "language model": ("me/llm", lambda: shape_of("me/llm")),
    "language model, GGUF": ("me/gguf", lambda: shape_of("me/gguf", gguf_file="a.gguf")),
    "CLIP model": ("ViT-B-32/openai", lambda: load_clip("ViT-B-32/openai")),
    "CLIP model, by id": ("hf-hub:me/clip", lambda: load_clip("hf-hub:me/clip")),
}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "_answered", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub at a port where nobody listens."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        yield url


@pytest.fixture
def cached(tmp_path: Path) -> str:
    """The id of a language model that the cache holds."""
    folder = tmp_path / "llm"
    make_model(folder)
    place = tmp_path / "cache" / "models--me--llm"
    commit = "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    return "me/llm"


def test_both_files_of_a_tag_model_are_taken_from_the_cache(nowhere: str, tmp_path: Path) -> None:
    place, commit = tmp_path / "cache" / "models--me--tagger", "0123456789abcdef" * 2 + "01234567"
    save_tagger(place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    assert len(load_tagger("me/tagger").tags) == len(ROWS)


@pytest.mark.parametrize("what", LOADERS)
def test_a_model_that_is_nowhere_to_be_had_is_one_line_with_its_name_the_hub_and_the_mend(
    what: str, nowhere: str, capfd: pytest.CaptureFixture[str]
) -> None:
    name, load = LOADERS[what]
    with pytest.raises(ModelError) as caught:
        load()
    line = str(caught.value)
    kind = what.partition(",")[0]
    assert line.startswith(f"{kind} {name!r} is not in the model cache, and {nowhere} cannot")
    assert "check network and proxy, or name a folder" in line and "\n" not in line
    assert capfd.readouterr() == ("", "")
    assert constants.HF_HUB_OFFLINE is False, "others in this process may go on asking"


def test_a_model_in_the_cache_is_loaded_without_a_network(
    nowhere: str, cached: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert load_llm(cached, [1]).width == 32
    assert "Retrying" not in capfd.readouterr().err
    assert constants.HF_HUB_OFFLINE is False


def test_half_a_model_in_the_cache_is_told_with_the_hub_that_has_the_rest(
    nowhere: str, cached: str, tmp_path: Path
) -> None:
    for path in tmp_path.rglob("cache/**/config.json"):
        path.unlink()
    with pytest.raises(ModelError, match=f"from the cache, and {nowhere} cannot be reached"):
        shape_of(cached)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_machine_told_to_stay_offline_asks_nobody(
    monkeypatch: pytest.MonkeyPatch, cached: str, variable: str
) -> None:
    monkeypatch.setenv(variable, "1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with serving(lambda asked: Answer("")) as site:
        monkeypatch.setattr(constants, "ENDPOINT", site.url)
        assert shape_of(cached).width == 32
        with pytest.raises(ModelError, match=f"{variable} is set; unset {variable}, or name"):
            load_captioner("me/blip")
    assert site.asked == [] and constants.HF_HUB_OFFLINE is True


def test_a_hub_that_answers_is_asked_once_for_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda asked: Answer("", 404)) as site:
        monkeypatch.setattr(constants, "ENDPOINT", site.url)
        assert hub.why_offline() is None and hub.why_offline() is None
        assert len(site.asked) == 1


def test_a_network_that_comes_back_is_noticed(
    monkeypatch: pytest.MonkeyPatch, nowhere: str
) -> None:
    assert hub.why_offline() is not None
    with serving(lambda asked: Answer("")) as site:
        monkeypatch.setattr(constants, "ENDPOINT", site.url)
        assert hub.why_offline() is None


def test_a_name_that_is_looked_up_without_end_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end = threading.Event()
    monkeypatch.setattr("huggingface_hub.utils.get_session", end.wait)
    monkeypatch.setattr(hub, "PATIENCE_S", 0.05)
    try:
        assert "no answer within 0.05 s" in str(hub.why_offline())
    finally:
        end.set()


def test_a_password_in_the_address_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", f"http://me:hunter2@{place}")
        why = str(hub.why_offline())
    assert place in why and "hunter2" not in why


def test_a_model_of_the_hub_is_its_commit_once_that_is_known(tmp_path, monkeypatch):
    from surd.models.hub import identity_of, is_same

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    unknown = identity_of("org/model")
    assert unknown == "org/model"
    repo = tmp_path / "models--org--model"
    (repo / "refs").mkdir(parents=True)
    known = []
    for commit in ("a" * 40, "b" * 40):
        (repo / "snapshots" / commit).mkdir(parents=True)
        (repo / "snapshots" / commit / "model_index.json").write_text("{}")
        (repo / "refs" / "main").write_text(commit)
        known.append(identity_of("org/model"))
    assert known == [f"org/model@{'a' * 40}", f"org/model@{'b' * 40}"]
    assert is_same(known[0], unknown) and is_same(unknown, known[1])
    assert not is_same(*known) and not is_same(known[0], "org/other")
    assert identity_of("./nowhere at all") == "./nowhere at all"
    assert identity_of("demo:diffusion") != "demo:diffusion"


def test_a_library_that_cannot_be_imported_is_told_by_its_innermost_reason() -> None:
    wrapped = RuntimeError("Failed to import a.b because of the following error")
    wrapped.__cause__ = ImportError("cannot import name 'Cache'")
    with (
        pytest.raises(ModelError, match=r"loaded: cannot import name 'Cache'; run: surd doctor$"),
        hub.telling("model", "x"),
    ):
        raise wrapped
