"""Files that run code where they are loaded without care: pickles, YAML, folders of models."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support_llm import make_model

from surd.errors import SurdError
from surd.models.names import demo_model

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.proof),)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """Is there when code was run; the payload is seen to work."""
    trial = tmp_path / "trial"
    pickle.loads(pickle.dumps(Payload(trial)))
    assert trial.is_dir()
    return tmp_path / "proof"


def pickled(path: Path, proof: Path, how: str) -> Path:
    payload = {"weight": torch.ones(1, 4), "bias": torch.ones(1), "x": Payload(proof)}
    if how == "torch":
        torch.save(payload, path)
    elif how == "legacy torch":
        torch.save(payload, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps(payload))
    return path


def aesthetic_head(path: Path) -> None:
    from surd.models.preference import load_aesthetic_head

    load_aesthetic_head(str(path), torch.device("cpu"))


def prompt2vec(path: Path) -> None:
    from surd.llm.prompt2vec import read_prompt2vec

    read_prompt2vec(path)


def published_adapter(path: Path) -> None:
    from surd.adapter.files import from_official

    from_official(path, 0.1)


@pytest.mark.parametrize("how", ["torch", "legacy torch", "pickle"])
@pytest.mark.parametrize("load", [aesthetic_head, prompt2vec, published_adapter])
def test_a_pickle_is_one_line_and_runs_nothing(
    tmp_path: Path, proof: Path, load: Callable[[Path], None], how: str
) -> None:
    path = pickled(tmp_path / "weights.pt", proof, how)
    with pytest.raises(SurdError, match=r"weights\.pt"):
        load(path)
    assert not proof.exists()


@pytest.mark.parametrize("how", ["torch", "legacy torch", "pickle"])
def test_a_diffusion_model_in_a_pickle_runs_nothing(tmp_path: Path, proof: Path, how: str) -> None:
    path = pickled(tmp_path / "model.ckpt", proof, how)
    with pytest.raises(SurdError, match=r"model\.ckpt: holds code besides weights"):
        diffusion(path)
    assert not proof.exists()


# Folders of models


def language_model(folder: Path) -> None:
    from surd.models.llm import load_llm

    load_llm(str(folder), [1])


def clip(folder: Path) -> None:
    from surd.models.clip import load_clip

    load_clip(str(folder))


def captioner(folder: Path) -> None:
    from surd.models.captioner import load_captioner

    load_captioner(str(folder))


def diffusion(folder: Path) -> None:
    from surd.models.diffusion import load_pipeline

    load_pipeline(str(folder), device="cpu")


def folder_of(kind: str, folder: Path) -> Path:
    if kind == "language_model":
        make_model(folder)
    elif kind == "diffusion":
        from support_diffusion import make_pipeline

        make_pipeline().save_pretrained(folder)
    else:
        shutil.copytree(demo_model(kind), folder)
    return folder


@pytest.mark.parametrize("load", [language_model, clip, captioner, diffusion])
def test_a_models_folder_with_pickled_weights_runs_nothing(
    tmp_path: Path, proof: Path, load: Callable[[Path], None]
) -> None:
    folder = folder_of(load.__name__, tmp_path / "model")
    replaced = 0
    for weights in [*folder.rglob("*.safetensors")]:
        weights.unlink()
        names = {"open_clip_model": "open_clip_pytorch_model", "model": "pytorch_model"}
        pickled(weights.with_name(f"{names.get(weights.stem, weights.stem)}.bin"), proof, "torch")
        replaced += 1
    assert replaced
    with pytest.raises(SurdError):
        load(folder)
    assert not proof.exists()


@pytest.mark.parametrize("load", [language_model, captioner])
def test_code_that_a_models_folder_brings_is_not_run(
    tmp_path: Path, proof: Path, load: Callable[[Path], None]
) -> None:
    folder = folder_of(load.__name__, tmp_path / "model")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["model_type"] = "made_up"
    config["auto_map"] = {
        name: f"evil.{name}"
        for name in ("AutoConfig", "AutoModel", "AutoModelForCausalLM", "AutoTokenizer")
    }
    path.write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"import os\nos.mkdir({str(proof)!r})\n")
    with pytest.raises(SurdError):
        load(folder)
    assert not proof.exists()


# YAML


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir [{proof}]",
        "!!python/object/new:os.mkdir [{proof}]",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "&a [*a]",
    ],
)
def test_a_tag_in_a_recipe_or_a_setting_is_refused(
    tmp_path: Path, proof: Path, surd: Callable[..., Any], value: str
) -> None:
    text = value.format(proof=proof)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: {text}\nsources: []\n")
    for told in (
        surd("build", recipe, "-o", tmp_path / "w"),
        surd("build", "folder", "-o", tmp_path / "w", "--set", f"name={text}"),
    ):
        assert told.code == 2
        assert told.err.startswith("surd: ")
        assert "Traceback" not in told.err
    assert not proof.exists()


def test_a_recipe_of_a_billion_laughs_is_refused_in_little_memory(
    tmp_path: Path, surd: Callable[..., Any]
) -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for n in range(1, 12):
        lines.append(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("\n".join(lines))
    told = surd("build", recipe, "-o", tmp_path / "w")
    assert told.code == 2
    assert "aliases that expand to far more than the file" in told.err
    assert len(told.err.splitlines()) == 1
