"""``surd doctor``: what it says of machines that lack something, and that it always says it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support_site import Answer, serving

from surd import doctor
from surd.doctor import imports, libraries, surroundings
from surd.doctor.finding import Finding

Surd = Callable[..., Any]
NMS = 'raise RuntimeError("operator torchvision::nms does not exist")'
TORCH = """
__version__ = "{version}"
class version: cuda = {cuda}; hip = None
class backends:
    class mps: is_available = staticmethod(lambda: {mps})
class cuda:
    is_available = staticmethod(lambda: bool({gpus}))
    device_count = staticmethod(lambda: {gpus})
    class get_device_properties:
        def __init__(self, number): self.name, self.total_memory = "Card %d" % number, 24 << 30
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put stand-ins of the model libraries before the real ones: they import in no time."""
    place = tmp_path / "packages"
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def package(name: str, code: str = "", version: str | None = None, asks: str = "") -> None:
        folder = place / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text(code)
        if version is not None:
            (folder / "version.py").write_text(f"__version__ = '{version}'\n")
        about = place / f"{name}-1.dist-info"
        about.mkdir(exist_ok=True)
        asked = f"Requires-Dist: {asks}\n" if asks else ""
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\n{asked}")

    def make(
        *, torch: str = "2.4.0+cpu", torchvision: str = "0.19.0+cpu", broken: str = "",
        asks: str = "torch==2.4.0", cuda: str | None = None, gpus: int = 0, mps: bool = False,
        driver: str | None = None, torch_code: str = TORCH, **other: str,
    ) -> None:  # fmt: skip
        facts = {"version": torch, "cuda": repr(cuda), "gpus": gpus, "mps": mps}
        package("torch", torch_code.format(**facts), torch)
        package("torchvision", broken, torchvision, asks)
        package("open_clip", "create_model_and_transforms = 1")
        package("transformers", "BlipProcessor = BlipForConditionalGeneration = 1")
        package("diffusers", "StableDiffusionPipeline = 1")
        for name, text in other.items():
            package(name, text)
        if driver is not None:
            (tmp_path / "bin").mkdir()
            (tmp_path / "bin" / "nvidia-smi").write_text(f"#!/bin/sh\necho {driver}\n")
            (tmp_path / "bin" / "nvidia-smi").chmod(0o755)

    return make


def models() -> dict[str, Finding]:
    return {finding.what: finding for finding in imports.models()}


def test_libraries_that_fit_are_well_and_no_gpu_is_no_fault(machine: Callable[..., None]) -> None:
    machine()
    found = models()
    assert {finding.state for finding in found.values()} == {"ok"}
    assert "0.19.0+cpu match" in found["torch and torchvision"].found
    assert found["GPU"].found == "none; models run on the CPU"


def test_the_missing_nms_operator_is_named_with_its_mend(machine: Callable[..., None]) -> None:
    machine(broken=NMS, transformers="import torchvision")
    found = models()
    both = found["torch and torchvision"]
    assert both.state == "BAD"
    assert "operator torchvision::nms does not exist" in both.found
    assert both.mend is not None
    assert "pip install --force-reinstall torch torchvision" in both.mend
    assert "--index-url https://download.pytorch.org/whl/cpu" in both.mend
    mend = found["import transformers"].mend
    assert mend is not None and mend.startswith("pip install --force-reinstall torch torchvision")
    assert found["import diffusers"].state == "ok", "what stands for itself is looked at too"


def test_the_package_that_cannot_be_imported_is_named_not_the_one_that_imports_it(
    machine: Callable[..., None],
) -> None:
    lazily = (
        "def __getattr__(name):\n"
        "    try:\n        import peft\n"
        "    except ImportError as error:\n        raise RuntimeError('look above') from error\n"
    )
    machine(diffusers=lazily, peft="from transformers import HybridCache")
    finding = models()["import diffusers"]
    assert "cannot import name 'HybridCache'" in finding.found
    assert finding.mend == "pip install --upgrade peft"


def test_a_torchvision_of_another_torch_is_told_by_the_versions(
    machine: Callable[..., None],
) -> None:
    machine(torchvision="0.18.0+cpu", asks="torch (==2.3.0)", broken=NMS)
    both = models()["torch and torchvision"]
    assert both.state == "BAD"
    assert "this torchvision needs torch ==2.3.0" in both.found
    assert "torchvision::nms" in both.found


def test_builds_for_different_devices_do_not_fit_even_when_they_import(
    machine: Callable[..., None],
) -> None:
    machine(torchvision="0.19.0+cu121")
    both = models()["torch and torchvision"]
    assert both.state == "BAD" and "built for cpu and cu121" in both.found


def test_versions_that_do_not_say_their_build_are_not_held_against_them(
    machine: Callable[..., None],
) -> None:
    machine(torch="2.4.0", torchvision="0.19.0+cu121")
    assert models()["torch and torchvision"].state == "ok"


def test_a_library_that_crashes_the_process_is_found_out(machine: Callable[..., None]) -> None:
    machine(open_clip="import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    found = models()
    assert found["torch and torchvision"].state == "ok"
    assert found["import open_clip"].state == "BAD"
    assert "SIGSEGV" in found["import open_clip"].found
    assert found["GPU"].state == "ok"


def test_imports_that_take_too_long_are_a_note_and_the_versions_are_compared_all_the_same(
    machine: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "_PATIENCE_S", 3.0)
    machine(torchvision="0.19.0+cu121", torch_code="import time; time.sleep(600)")
    found = models()
    assert found["imports"].state == found["GPU"].state == "note"
    assert "torch 2.4.0+cpu, torchvision" in found["imports"].found
    assert "built for cpu and cu121" in found["torch and torchvision"].found


def test_a_missing_torch_is_told_and_the_others_are_looked_at(
    machine: Callable[..., None],
) -> None:
    machine(torch_code="raise ModuleNotFoundError(\"No module named 'torch'\")")
    found = models()
    assert found["import torch"].state == "BAD"
    assert found["import torch"].mend == "pip install --force-reinstall torch"
    assert found["import diffusers"].state == "ok"
    assert "GPU" not in found


def test_gpus_are_named_with_memory_and_driver(machine: Callable[..., None]) -> None:
    machine(torch="2.4.0+cu121", torchvision="0.19.0+cu121", cuda="12.1", gpus=2, driver="550.54")
    gpu = models()["GPU"]
    assert gpu.state == "ok"
    assert gpu.found == "Card 0 24 GiB, Card 1 24 GiB; CUDA 12.1, driver 550.54"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"cuda": None}, "built without CUDA"),
        ({"cuda": "13.2"}, "torch for CUDA 13.2 cannot use driver 470.1"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_a_note_with_a_mend(
    machine: Callable[..., None], how: dict[str, Any], says: str
) -> None:
    machine(driver="470.1", **how)
    gpu = models()["GPU"]
    assert gpu.state == "note" and says in gpu.found and gpu.mend


def test_apples_gpu_is_named(machine: Callable[..., None]) -> None:
    machine(mps=True)
    assert "MPS" in models()["GPU"].found


def test_a_check_that_fails_is_bad_and_the_next_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_thing() -> Any:
        raise OSError("no such\nthing")
        yield

    monkeypatch.setattr(doctor, "_CHECKS", (broken_thing, libraries.extras))
    first, *others = doctor.examine()
    assert (first.what, first.state) == ("broken thing", "BAD")
    assert first.found == "could not be checked: OSError: no such"
    assert len(others) >= 4


def test_the_checks_do_not_wait_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    both = threading.Barrier(2, timeout=30)

    def meeting() -> Any:
        yield Finding("a thing", "ok", f"{both.wait() in (0, 1)}")

    monkeypatch.setattr(doctor, "_CHECKS", (meeting, meeting))
    assert [finding.found for finding in doctor.examine()] == ["True", "True"]


def test_libraries_that_are_missing_or_old_are_named_with_their_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = ["numpy>=99", "surely-not-there>=2", "typer>=0.12", 'ray>=2; extra == "ray"']
    monkeypatch.setattr(libraries.importlib.metadata, "requires", lambda name: asked)
    numpy, nowhere, typer = libraries.required()
    assert numpy.state == "BAD" and numpy.mend == "pip install 'numpy>=99'"
    assert (nowhere.found, nowhere.mend) == ("not installed", "pip install 'surely-not-there>=2'")
    assert typer.state == "ok"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return lambda url: monkeypatch.setattr(constants, "ENDPOINT", url)


@pytest.mark.parametrize(("status", "state"), [(200, "ok"), (401, "ok"), (503, "note")])
def test_a_hub_that_answers_is_well(
    endpoint: Callable[[str], None], status: int, state: str
) -> None:
    with serving(lambda asked: Answer("", status)) as site:
        endpoint(site.url)
        (found,) = surroundings.hub()
    assert found.state == state and site.url in found.found


def test_a_hub_out_of_reach_is_a_note_and_shows_no_password(
    endpoint: Callable[[str], None],
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint(f"http://me:hunter2@127.0.0.1:{closed.getsockname()[1]}")
        (found,) = surroundings.hub()
    assert found.state == "note" and "cannot be reached" in found.found and found.mend
    assert "hunter2" not in str(found)


def test_a_machine_told_to_stay_offline_asks_nobody(
    endpoint: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lambda asked: Answer("")) as site:
        endpoint(site.url)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        (found,) = surroundings.hub()
    assert site.asked == []
    assert found.state == "note" and "HF_HUB_OFFLINE is set" in found.found


def test_tokens_are_said_to_be_set_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("CIVITAI_API_TOKEN", "planted-secret")
    hub, civitai = surroundings.tokens()
    assert hub.found.startswith("not set") and civitai.found == "set"
    (tmp_path / "token").write_text("hf_planted")
    assert next(surroundings.tokens()).found == "from hf auth login"
    monkeypatch.setenv("HF_TOKEN", "hf_planted")
    assert next(surroundings.tokens()).found == "set"
    assert "planted" not in str(list(surroundings.tokens()))


def test_little_disk_is_told_with_the_variable_that_moves_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "not" / "there" / "yet"))
    free = SimpleNamespace(free=500_000_000)
    monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda folder: free)
    (here,) = surroundings.disk()
    hub, ours = surroundings.caches()
    assert here.state == "BAD" and "500.0 MB" in here.found
    assert hub.state == ours.state == "note"
    assert hub.mend is not None and "HF_HOME" in hub.mend
    assert ours.mend is not None and "SURD_CACHE" in ours.mend


def test_few_open_files_are_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(resource, "getrlimit", lambda which: (256, 4096))
    (found,) = surroundings.open_files()
    assert found.state == "note" and found.mend == "ulimit -n 4096"


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("note", 0), ("BAD", 1)])
def test_only_what_is_bad_ends_with_1(
    surd: Surd, monkeypatch: pytest.MonkeyPatch, state: Any, code: int
) -> None:
    finding = Finding("a thing", state, "this\x1b[31m", "do that")
    monkeypatch.setattr(doctor, "_CHECKS", (lambda: iter([finding]),))
    ran = surd("doctor")
    assert ran.code == code
    mend = "" if state == "ok" else "; do that"
    assert ran.out == f"{state:<4}  a thing: this\\x1b[31m{mend}\n"
    told = surd("doctor", "--json").json
    assert told["ok"] is (code == 0)
    assert told["findings"] == [
        {"what": "a thing", "state": state, "found": "this\x1b[31m", "mend": "do that"}
    ]


@pytest.mark.timeout(300)
def test_this_machine_has_what_surd_needs(surd: Surd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "_PATIENCE_S", 200)  # it may be busy
    ran = surd("doctor", "--json")
    assert [one for one in ran.json["findings"] if one["state"] == "BAD"] == []
    told = {one["what"] for one in ran.json["findings"]}
    assert {"torch and torchvision", "GPU", "disk", "Hugging Face cache", "hub", "ray"} <= told
