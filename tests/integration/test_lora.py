"""Low-rank updates of the text encoders, trained and used as adapters are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support_publish
import torch
from support_diffusion import MARKS, make_pipeline
from support_training import SMALL, command, data_of, same, weights

from surd import adapter as adapters
from surd.adapter.encoding import prompt_inputs
from surd.adapter.lora import Lora, LoraConfig, lora_of
from surd.dataset.publish.run import publish
from surd.errors import ModelError
from surd.recipe.publish import PublishParams
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.loop import Student

Surd = Callable[..., Any]

pytestmark = MARKS

LORA = {
    **{"denoising_weight": 0, "llm_weight": 0, "prompt_weight": 0, "attention_weight": 1},
    **{"network": "lora", "lora_rank": 2, "accumulate": 1},
}
PROMPTS, NEGATIVE = ["two red cups", "a cat"], ["blurry", "a dog"]


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published, a third of it for validation."""
    folder = tmp_path_factory.mktemp("data") / "w"
    workspace = support_publish.make_workspace(folder, [support_publish.samples(30)])
    publish(workspace, PublishParams(validation=0.34))
    return folder


@pytest.fixture(scope="module")
def trained(split: Path, diffusion: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 4 steps, with checkpoints at 2 and 4."""
    from surd.training.run import run

    folder = tmp_path_factory.mktemp("runs") / "run"
    more = {"steps": 4, "checkpoint_every": 2, "validate_every": 2, "learning_rate": 1e-2}
    params = TrainAdapterParams(**{**SMALL, **LORA, **more, "diffusion": diffusion})
    run(str(split), params, folder, resume=True, quiet=True)
    return folder


def learned(pipeline: Any, rank: int = 3) -> Lora:
    """One that changes what its pipeline's text encoders say."""
    torch.manual_seed(1)
    lora = lora_of(LoraConfig(pipeline.unet.config.cross_attention_dim, rank), pipeline)
    for name, weight in lora.named_parameters():
        torch.nn.init.normal_(weight, std=0.3 if "up" in name else 0.1)
    return lora.requires_grad_(False)


@pytest.mark.parametrize("xl", [False, True])
def test_at_first_it_changes_nothing(xl: bool) -> None:
    pipeline = make_pipeline(xl=xl)
    lora = lora_of(LoraConfig(64 if xl else 32), pipeline)
    found, base = (prompt_inputs(pipeline, one, PROMPTS, NEGATIVE) for one in (lora, None))
    assert all(torch.equal(found[name], base[name]) for name in base)


@pytest.mark.parametrize("xl", [False, True])
def test_diffusers_loads_it_and_encodes_prompts_alike(xl: bool, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    pipeline = make_pipeline(xl=xl, second=48)
    lora = learned(pipeline)
    adapters.save(lora, tmp_path)
    again = adapters.load(tmp_path)
    base = prompt_inputs(pipeline, None, PROMPTS, NEGATIVE)
    plain = prompt_inputs(pipeline, again, PROMPTS, NEGATIVE)
    assert torch.equal(plain["negative_prompt_embeds"], base["negative_prompt_embeds"])
    assert not torch.allclose(plain["prompt_embeds"], base["prompt_embeds"], atol=1e-2)
    both = prompt_inputs(pipeline, again, PROMPTS, NEGATIVE, adapt_negative=True)
    after = prompt_inputs(pipeline, None, PROMPTS, NEGATIVE)
    assert all(torch.equal(after[name], base[name]) for name in base), "the pipeline is as before"
    pipeline.load_lora_weights(tmp_path, weight_name="adapter_model.safetensors")
    theirs = prompt_inputs(pipeline, None, PROMPTS, NEGATIVE)
    for name in ("prompt_embeds", "negative_prompt_embeds"):
        torch.testing.assert_close(both[name], theirs[name], atol=1e-4, rtol=1e-4)
    if xl:
        assert torch.equal(plain["pooled_prompt_embeds"], base["pooled_prompt_embeds"])


def test_it_works_with_a_pipeline_of_half_precision() -> None:
    pipeline = make_pipeline()
    lora = learned(pipeline)
    whole = prompt_inputs(pipeline, lora, PROMPTS)["prompt_embeds"]
    half = prompt_inputs(pipeline.to(torch.bfloat16), lora, PROMPTS)["prompt_embeds"]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), whole, atol=0.2, rtol=0.1)


@pytest.mark.parametrize("xl", [False, True])
def test_every_update_is_learned_from_the_texts_of_the_batch(split: Path, xl: bool) -> None:
    pipeline = make_pipeline(xl=xl)
    params = TrainAdapterParams(**{**SMALL, **LORA})
    data = data_of(split, pipeline, None, params)
    batch = data.batch(0, 1, 0, torch.device("cpu"))
    student = Student(LoraConfig(64 if xl else 32, 2), None, "frozen", pipeline)
    states, features, aim = student(batch)
    assert torch.equal(states, batch.simple) and features is states and aim is None
    states.square().sum().backward()
    names = [name for name, weight in student.named_parameters() if "lora_up" in name]
    assert len(names) == (12 if xl else 24) // 2 * (2 if xl else 1)
    assert all(student.get_parameter(name).grad.abs().max() > 0 for name in names)


def test_its_names_are_those_of_other_programs(trained: Path) -> None:
    found = weights(trained)
    assert {name.rpartition("_layers_0_")[2] for name in found if "_layers_0_" in name} == {
        f"{layer}.lora_{side}.weight"
        for layer in (*(f"self_attn_{one}_proj" for one in ("q", "k", "v", "out")), "mlp_fc1")
        for side in ("up", "down")
    } | {f"mlp_fc2.lora_{side}.weight" for side in ("up", "down")}
    assert all(name.startswith("lora_te_text_model_encoder_layers_") for name in found)
    config = json.loads((trained / "adapter_config.json").read_text())
    assert (config["network"], config["rank"]) == ("lora", 2) and "heads" not in config


def test_it_lowers_the_validation_loss_and_its_card_says_how_to_load_it(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "log.jsonl").open()]
    assert [line["step"] for line in lines if "validation_loss" in line] == [2, 4]
    assert 0 < lines[3]["validation_loss"] < 1
    card = (trained / "README.md").read_text()
    assert 'load_lora_weights(".", weight_name="adapter_model.safetensors")' in card
    assert "SUR-adapter for" not in card


def test_a_killed_run_ends_with_the_same_weights(
    surd: Surd, split: Path, diffusion: str, trained: Path, tmp_path: Path
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(trained, cut)
    (cut / "adapter_model.safetensors").unlink()
    shutil.rmtree(cut / "checkpoint-000004")
    more = {"checkpoint_every": 2, "validate_every": 2, "learning_rate": 1e-2}
    ran = surd(*command(split, diffusion, cut, 4, **{**LORA, **more}), "-q")
    assert ran.code == 0, ran.err
    assert same(trained, cut)


def test_it_stops_early_draws_along_the_way_and_starts_another(
    surd: Surd, split: Path, diffusion: str, trained: Path, tmp_path: Path
) -> None:
    look = {"validation_prompts": '["a cat"]', "validation_steps": 1, "validate_every": 1}
    more = {**LORA, **look, "early_stopping": 1, "ema": 0.5, "learning_rate": 1e-9}
    run = tmp_path / "next"
    ran = surd(*command(split, diffusion, run, 9, **more), "--from", trained, "-q")
    assert ran.code == 0, ran.err
    base, first = (run / "validation" / name for name in ("base", "step-000001"))
    assert [path.name for path in first.iterdir()] == ["000-0.png"]
    assert (first / "000-0.png").read_bytes() != (base / "000-0.png").read_bytes()
    start, found = weights(trained), weights(run)
    assert all(torch.allclose(found[name], start[name], atol=1e-6) for name in start)
    other = command(split, diffusion, tmp_path / "other", 1, **{**LORA, "lora_rank": 4})
    ran = surd(*other, "--from", trained, "-q")
    assert ran.code == 2 and "add --set train_adapter.lora_rank=2" in ran.err
    encoder = {**LORA, "network": "encoder"}
    ran = surd(*command(split, diffusion, tmp_path / "x", 1, **encoder), "--from", trained, "-q")
    assert ran.code == 2 and "add --set train_adapter.network=lora" in ran.err


def test_it_is_drawn_with_and_measured_and_stands_in_an_ablation(
    surd: Surd, split: Path, diffusion: str, trained: Path, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    ran = surd("generate", "a cat", "--adapter", trained, "--steps", 1, "-o", pictures)
    assert ran.code == 0 and len([*pictures.glob("*.png")]) == 1, ran.err
    how = ("--prompts", "demo:plain", "--limit", 1, "--seeds", 1, "--clip", "none", "-q")
    ran = surd("evaluate", trained, "--steps", 1, *how)
    assert ran.code == 0, ran.err
    ran = surd("generate", "a cat", "--adapter", trained, "--llm", "x", "-o", pictures)
    assert ran.code == 2 and "reads no language model" in ran.err
    told = {**SMALL, **LORA, "diffusion": diffusion, "steps": 1}
    encoder = {**told, "network": "encoder", "gate": True, "complex_share": 0.2, "heads": 4}
    variants = tmp_path / "variants.yaml"
    variants.write_text(json.dumps({"adapter": encoder, "text-encoder LoRA": told}))
    ran = surd("ablate", split, variants, *how)
    assert ran.code == 0, ran.err
    assert "| text-encoder LoRA |" in (split / "adapter/ablation/ablation.md").read_text()


def test_what_it_cannot_do_is_one_line(
    surd: Surd, split: Path, diffusion: str, trained: Path, tmp_path: Path
) -> None:
    wrong = command(split, diffusion, tmp_path / "run", 1, **{**LORA, "llm_weight": 1})
    ran = surd(*wrong, "-q")
    assert ran.code == 2 and "llm_weight: a LoRA has no features" in ran.err
    assert ran.err.count("\n") == 1
    lora = adapters.load(trained)
    with pytest.raises(ModelError, match="which the text encoders of this diffusion model do not"):
        prompt_inputs(make_pipeline(xl=True), lora, PROMPTS)
    run = tmp_path / "empty"
    adapters.save(adapters.Adapter(adapters.AdapterConfig(width=32, heads=4)), run)
    shutil.copy(trained / "adapter_config.json", run)
    with pytest.raises(ModelError, match=r"does not hold this adapter's weights: nothing in it is"):
        adapters.load(run)
    pipeline = make_pipeline()
    mlp = pipeline.text_encoder.encoder.layers[0].mlp
    mlp.fc1, mlp.fc2 = torch.nn.Linear(32, 8), torch.nn.Linear(8, 32)
    with pytest.raises(ModelError, match="use the model it was trained with"):
        prompt_inputs(pipeline, lora, PROMPTS)


@pytest.mark.parametrize("how", [(), ("--no-cache",)])
def test_the_denoising_loss_reaches_it(
    surd: Surd, split: Path, diffusion: str, tmp_path: Path, how: tuple[str, ...]
) -> None:
    more = {**LORA, "denoising_weight": 1, "attention_weight": 0, "gradient_checkpointing": True}
    ran = surd(*command(split, diffusion, tmp_path, 1, **more), *how, "-q")
    assert ran.code == 0, ran.err
    assert all(w.abs().max() > 0 for name, w in weights(tmp_path).items() if "lora_up" in name)


def test_heads_that_it_does_not_have_need_not_divide_anything(
    surd: Surd, split: Path, diffusion: str, tmp_path: Path
) -> None:
    more = {**LORA, "heads": 5, "attend": "batch", "gate": True, "blend": "mix"}
    assert surd(*command(split, diffusion, tmp_path / "one", 2, **more), "-q").code == 0
    assert surd(*command(split, diffusion, tmp_path / "two", 2, **LORA), "-q").code == 0
    assert same(tmp_path / "one", tmp_path / "two")
