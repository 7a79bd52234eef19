"""A run is known by the content of what it learned from, and not by names alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support_diffusion import MARKS, make_pipeline, make_published
from support_publish import samples, write_group
from support_training import command, weights

from surd import adapter as adapters
from surd.adapter.encoding import prompt_inputs
from surd.adapter.module import Adapter, AdapterConfig
from surd.dataset.publish.run import publish
from surd.llm.prompt2vec import import_prompt2vec
from surd.models.diffusion import load_pipeline
from surd.recipe.publish import PublishParams
from surd.store.workspace import Workspace
from surd.training.settings import alone

Surd = Callable[..., Any]

pytestmark = MARKS


@pytest.fixture
def made(tmp_path: Path) -> Workspace:
    """A published workspace of one's own."""
    return make_published(tmp_path / "w", count=12)


def embed(made: Workspace, path: Path, layer: int = 3, number: int = 1, **more: str) -> None:
    """Vectors of "tiny-llm", others for another number; `more` are sentences by what they were."""
    rows = [row for part in made.parts("clip") for row in made.read("clip", part).to_pylist()]
    texts = [more.get(row["simple_prompt"], row["simple_prompt"]) for row in rows]
    torch.save({text: torch.full((24,), float(number)) for text in texts}, path)
    import_prompt2vec(made, path, "tiny-llm", layer)


def test_vectors_made_anew_are_another_run(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    run = command(Path(made.location), diffusion, tmp_path / "run", 2)
    assert surd(*run, "-q").code == 0
    first = weights(tmp_path / "run")
    embed(made, tmp_path / "v.pt")
    ran = surd(*run)
    assert ran.code == 2 and "differs in the language model's vectors;" in ran.err
    assert torch.equal(first["out.weight"], weights(tmp_path / "run")["out.weight"])
    assert surd(*run, "--resume", "none", "-q").code == 0
    assert "already trained" in surd(*run).out


def test_what_is_damaged_is_made_anew_and_not_taken_for_done(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = command(Path(made.location), diffusion, run, 2)
    assert surd(*told, "-q").code == 0
    whole = {name: value.clone() for name, value in weights(run).items()}  # not mapped
    for path in (run / "adapter_model.safetensors", *Path(made.location).glob("**/part-*.s*")):
        path.write_bytes(path.read_bytes()[:50])
    ran = surd(*told, "-q")
    assert ran.code == 0 and "2 steps on" in ran.out, ran.err
    assert all(torch.equal(value, whole[name]) for name, value in weights(run).items())


def test_a_diffusion_model_that_is_gone_is_not_said_to_have_changed(
    surd: Surd, made: Workspace, tmp_path: Path
) -> None:
    make_pipeline().save_pretrained(tmp_path / "sd")
    told = command(Path(made.location), str(tmp_path / "sd"), tmp_path / "run", 1)
    assert surd(*told, "-q").code == 0
    shutil.rmtree(tmp_path / "sd")
    ran = surd(*told)
    assert ran.code == 2 and ran.err.startswith(f"surd: {tmp_path / 'sd'}: no such folder")


def test_two_processes_do_not_train_in_one_folder(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    told = command(Path(made.location), diffusion, tmp_path / "run", 1)
    with alone(tmp_path / "run"):
        ran = surd(*told)
    assert ran.code == 2 and "another process trains here" in ran.err
    assert ran.err.count("\n") == 1 and not [*(tmp_path / "run").iterdir()]
    assert surd(*told, "-q").code == 0 and not (tmp_path / "run" / ".lock").exists()


def test_the_deepest_layer_may_become_another(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    run = command(Path(made.location), diffusion, tmp_path / "run", 2)
    assert surd(*run, "-q").code == 0
    embed(made, tmp_path / "v.pt", layer=5)
    ran = surd(*run)
    assert ran.code == 2 and "differs in layer (3, now 5)" in ran.err
    assert "already trained" in surd(*run, "--layer", 3).out


def test_another_model_in_the_same_folder_is_another_model(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    model = tmp_path / "sd"
    shutil.copytree(diffusion, model)
    run = command(Path(made.location), str(model), tmp_path / "run", 2)
    assert surd(*run, "-q").code == 0
    pipeline = load_pipeline(str(model))
    pipeline.unet.conv_in.weight.data.add_(0.01)
    pipeline.save_pretrained(model)
    ran = surd(*run)
    assert ran.code == 2 and "differs in the files of the diffusion model;" in ran.err
    assert surd(*run, "--resume", "none", "-q").code == 0
    assert len([*Path(made.location, "adapter", "cache").glob("texts-*")]) == 2


def test_captions_published_anew_need_vectors_of_their_own(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    run = command(Path(made.location), diffusion, tmp_path / "run", 2)
    rows = samples(12)
    rows[0]["simple_prompt"] = rows[5]["simple_prompt"] = "a cat"
    write_group(made, "clip", 0, rows)
    publish(made, PublishParams())
    ran = surd(*run)
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert "2 vectors of tiny-llm belong to other captions" in ran.err
    assert f"embed again: surd publish {made.location}; surd embed-llm" in ran.err
    assert not Path(made.location, "adapter").exists()
    embed(made, tmp_path / "v.pt")
    assert surd(*run, "-q").code == 0


def test_where_any_caption_may_stand_in_all_of_them_count(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    more = {"captions": "all", "llm_weight": 0}
    run = command(Path(made.location), diffusion, tmp_path / "run", 2, **more)
    rows = samples(12, candidate_scores=[0.9])
    write_group(made, "clip", 0, rows)
    assert surd(*run, "-q").code == 0
    for row in rows:
        row["candidates"] = [{"text": "another", "raw": "x", "how": "beam"}]
    write_group(made, "captions", 0, rows)
    ran = surd(*run)
    assert ran.code == 2 and "differs in the captions;" in ran.err


def test_a_run_of_an_earlier_version_knows_less_and_goes_on(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    run = command(Path(made.location), diffusion, tmp_path / "run", 2)
    assert surd(*run, "-q").code == 0
    path = tmp_path / "run" / "settings.json"
    settings = json.loads(path.read_text())
    for key in ("vectors", "diffusion_identity", "sentences", "start"):
        del settings[key]
    path.write_text(json.dumps({**settings, "layer": -1}))
    assert "already trained" in surd(*run).out
    shutil.copytree(tmp_path / "run", tmp_path / "other")
    ran = surd(*run, "--from", tmp_path / "other")
    assert ran.code == 2 and "differs in the adapter it starts from" in ran.err
    (tmp_path / "run" / "adapter_model.safetensors").unlink()
    assert surd(*run, "-q").code == 0
    assert json.loads(path.read_text())["vectors"]


def test_parts_that_were_made_differently_are_not_mixed(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    from support_llm import KEEP, SAMPLES, make_model, make_workspace

    from surd.errors import WorkspaceError
    from surd.llm import embeddings

    make_model(tmp_path / "tiny")
    for name, pool in (("a", "last"), ("b", "mean")):
        make_workspace(tmp_path / name, SAMPLES, KEEP)
        told = ("--model", tmp_path / "tiny", "--layer", 2, "--pool", pool)
        assert surd("embed-llm", tmp_path / name, *told).code == 0
    part = "llm/tiny/layer-2/part-00001.parquet"
    shutil.copy(tmp_path / "b" / part, tmp_path / "a" / part)
    with pytest.raises(WorkspaceError, match=r"different settings; run: surd embed-llm .* --layer"):
        embeddings.load(tmp_path / "a", "tiny", 2)


def test_a_reader_of_vectors_of_whole_prompts_is_refused_before_anything_is_computed(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    run = command(Path(made.location), diffusion, tmp_path / "run", 2, network="reader")
    ran = surd(*run)
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert "network: reader reads one per token" in ran.err
    assert "--layer 3 --pool none" in ran.err
    assert not Path(made.location, "adapter").exists() and not (tmp_path / "run").exists()


def test_texts_that_may_be_drawn_but_were_never_embedded_are_named(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path
) -> None:
    run = command(Path(made.location), diffusion, tmp_path / "run", 2, complex_share=0.2)
    ran = surd(*run)
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert "no vectors of tiny-llm of " in ran.err and "such as 'masterpiece, red cup" in ran.err
    assert ran.err.rstrip().endswith("--texts all")
    assert surd(*run, "--set", "train_adapter.llm_weight=0", "-q").code == 0  # nobody asks for them


def test_an_adapter_with_another_base_is_told_once(
    diffusion: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from surd.models.hub import identity_of

    about = {"training": {"diffusion": diffusion}, "diffusion_identity": identity_of(diffusion)}
    config = AdapterConfig(width=32, heads=4, feed_forward=32)
    adapters.save(Adapter(config), tmp_path / "run", about=about)
    adapter = adapters.load(tmp_path / "run")
    shutil.copytree(diffusion, tmp_path / "moved")
    for name in (diffusion, str(tmp_path / "moved")):
        prompt_inputs(load_pipeline(name), adapter, "two cups")
    assert not caplog.messages
    other = make_pipeline()
    other.unet.conv_in.weight.data.add_(0.01)
    other.save_pretrained(tmp_path / "other")
    for _ in range(2):
        prompt_inputs(load_pipeline(str(tmp_path / "other")), adapter, "two cups")
    (told,) = caplog.messages
    assert f"was trained for {Path(diffusion).name}; this is other, another model" in told
    caplog.clear()
    del about["diffusion_identity"]  # as earlier versions wrote it
    adapters.save(Adapter(config), tmp_path / "old", about=about)
    old = adapters.load(tmp_path / "old")
    prompt_inputs(load_pipeline(diffusion), old, "two cups")
    assert not caplog.messages
    prompt_inputs(load_pipeline(str(tmp_path / "other")), old, "two cups")
    assert len(caplog.messages) == 1


def test_another_commit_of_a_model_of_the_hub_is_another_model(
    surd: Surd, made: Workspace, diffusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached: list[str] = []  # what the cache holds before the model is loaded, and after

    def identity_of(_: str) -> str:
        return cached.pop(0)

    for module in ("run", "settings"):
        monkeypatch.setattr(f"surd.training.{module}.identity_of", identity_of)
    run = command(Path(made.location), diffusion, tmp_path / "run", 2)
    for before, after, steps, code in (
        ("org/model", "org/model@a", 2, 0),
        ("org/model@a", "org/model@b", 3, 2),
        ("org/model@b", "", 3, 2),
        ("org/model", "org/model@a", 3, 0),
    ):
        cached[:] = [before, after]
        ran = surd(*run, "--steps", steps, "-q")
        assert ran.code == code, ran.err
        assert (code == 2) == ("differs in the files of the diffusion model" in ran.err)
