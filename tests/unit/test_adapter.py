"""The adapter's network, its losses and its files."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support_rounding import assert_only_rounded, rounding
from torch import nn
from torch.nn import functional

from surd import adapter as adapters
from surd.adapter.files import load_projection, read_config
from surd.adapter.module import Adapter, AdapterConfig, LanguageModel
from surd.errors import ModelError
from surd.training.losses import distance

SMALL = {"width": 16, "heads": 4, "feed_forward": 32}
LAYOUT = Path(__file__).parents[2].parent / "shared/real/official_adapter_state_dict.json"


@pytest.fixture(autouse=True)
def _repeatable(one_thread: None) -> None:
    torch.manual_seed(0)


def make(**settings: Any) -> Adapter:
    """An adapter that has learnt something, in evaluation mode."""
    adapter = Adapter(AdapterConfig(**{**SMALL, **settings}))
    nn.init.normal_(adapter.out.weight, std=0.3)
    nn.init.normal_(adapter.out.bias, std=0.3)
    return adapter.eval()


def official_state(width: int = 16, depth: int = 2, feed_forward: int = 32) -> dict[str, Any]:
    """Random weights in the layout of the published checkpoints."""
    layer = {
        "self_attn.in_proj_weight": (3 * width, width),
        "self_attn.in_proj_bias": (3 * width,),
        "self_attn.out_proj.weight": (width, width),
        "self_attn.out_proj.bias": (width,),
        "linear1.weight": (feed_forward, width),
        "linear1.bias": (feed_forward,),
        "linear2.weight": (width, feed_forward),
        "linear2.bias": (width,),
        **{f"norm{n}.{kind}": (width,) for n in (1, 2) for kind in ("weight", "bias")},
    }
    square = {"weight": (width, width), "bias": (width,)}
    shapes: dict[str, tuple[int, ...]] = {}
    for prefix in ("encoder_layer", *(f"transformer_encoder.layers.{i}" for i in range(depth))):
        shapes |= {f"{prefix}.{name}": shape for name, shape in layer.items()}
    linears = ("query_layer", "key_layer", "value_layer", "output_layer.0", "output_layer.2")
    for name in (*(f"attention.{linear}" for linear in linears), "fc"):
        shapes |= {f"{name}.{kind}": shape for kind, shape in square.items()}
    return {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}


def published_forward(
    state: dict[str, Any], x: torch.Tensor, heads: int, weight: float
) -> list[torch.Tensor]:
    """By hand, from the published description: attention across the first axis, norm after."""

    def linear(value: torch.Tensor, name: str) -> torch.Tensor:
        return value @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    q = x
    depth = len({name.split(".")[2] for name in state if name.startswith("transformer_encoder")})
    for number in range(depth):
        at = f"transformer_encoder.layers.{number}"
        mixed = (
            q @ state[f"{at}.self_attn.in_proj_weight"].T + state[f"{at}.self_attn.in_proj_bias"]
        )
        first, second, d = q.shape
        parts = [p.reshape(first, second, heads, d // heads) for p in mixed.chunk(3, dim=-1)]
        queries, keys, values = (p.permute(1, 2, 0, 3) for p in parts)  # [second, heads, first, …]
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(d // heads)
        seen = (scores.softmax(-1) @ values).permute(2, 0, 1, 3).reshape(first, second, d)
        q = q + linear(seen, f"{at}.self_attn.out_proj")
        q = functional.layer_norm(q, (d,), state[f"{at}.norm1.weight"], state[f"{at}.norm1.bias"])
        hidden = linear(linear(q, f"{at}.linear1").relu(), f"{at}.linear2")
        q = functional.layer_norm(
            q + hidden, (d,), state[f"{at}.norm2.weight"], state[f"{at}.norm2.bias"]
        )
    scores = linear(q, "attention.query_layer") @ linear(x, "attention.key_layer").transpose(-1, -2)
    a = (scores / math.sqrt(x.shape[-1])).softmax(-1) @ x + x
    o = linear(linear(a, "attention.output_layer.0").relu(), "attention.output_layer.2") + a
    o = linear(o, "fc")
    return [weight * o + (1 - weight) * x, q, o]


@torch.no_grad()
def assert_as_published(
    adapter: Adapter, state: dict[str, torch.Tensor], x: torch.Tensor, heads: int
) -> None:
    computed = published_forward(state, x, heads, 0.1)
    twice = {name: weight.double() for name, weight in state.items()}
    exact = published_forward(twice, x.double(), heads, 0.1)
    for mine, theirs, right in zip(adapter(x), computed, exact, strict=True):
        assert_only_rounded(mine, right, rounding(theirs, right))


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_a_published_checkpoint_gives_what_the_published_code_gives(
    batch: int, tmp_path: Path
) -> None:
    state = official_state()
    torch.save(state, tmp_path / "adapter.pt")
    adapter = adapters.from_official(tmp_path / "adapter.pt", adapter_weight=0.1, heads=4)
    x = torch.randn(batch, 7, 16)
    assert_as_published(adapter, state, x, 4)


def test_the_published_layout_is_read_at_full_size(tmp_path: Path) -> None:
    if not LAYOUT.is_file():
        pytest.skip(f"{LAYOUT.name} is not at hand")
    shapes = json.loads(LAYOUT.read_text())
    folder = tmp_path / "test_llm13B_llml39_lr1e-05_llmw1e-05_promptw1e-05_adapterw0.1"
    folder.mkdir()
    state = {name: torch.randn(shape) * 0.02 for name, shape in shapes.items()}
    torch.save(state, folder / "adapter_checkpoint5000.pt")
    adapter = adapters.from_official(folder / "adapter_checkpoint5000.pt")
    assert (adapter.config.width, adapter.config.depth, adapter.config.weight) == (768, 2, 0.1)
    x = torch.randn(2, 77, 768)
    assert_as_published(adapter, state, x, 8)


@pytest.mark.parametrize("network", ["sur", "encoder"])
def test_at_the_start_the_output_depends_on_no_prompt(network: Any) -> None:
    x = torch.randn(2, 5, 16)
    fresh = Adapter(AdapterConfig(**SMALL, network=network))
    mixed, _, output = fresh(x)
    # the published code zeroes the weight of its last layer, and leaves its bias as torch draws it
    assert not fresh.out.weight.any() and bool(fresh.out.bias.any()) == (network == "sur")
    torch.testing.assert_close(output, fresh.out.bias.expand_as(x), rtol=0, atol=0)
    torch.testing.assert_close(mixed, 0.9 * x + 0.1 * fresh.out.bias)
    residual = Adapter(AdapterConfig(**SMALL, network=network, blend="residual"))
    torch.testing.assert_close(residual(x).embeddings, x + 0.1 * residual.out.bias)


@pytest.mark.parametrize("network", ["sur", "encoder"])
def test_tokens_attend_to_their_prompt_and_not_to_the_prompts_beside_it(network: Any) -> None:
    x = torch.randn(3, 5, 16)
    tokens, batch = make(network=network), make(network=network, attend="batch")
    batch.load_state_dict(tokens.state_dict())
    torch.testing.assert_close(tokens(x)[0][:1], tokens(x[:1])[0])
    assert (batch(x)[0][:1] - batch(x[:1])[0]).abs().max() > 1e-3
    changed = x.clone()
    changed[:, 0] = torch.randn(3, 16)
    assert (tokens(changed).features[:, 4] - tokens(x).features[:, 4]).abs().max() > 1e-3
    assert (batch(changed).features[:, 4] - batch(x).features[:, 4]).abs().max() == 0


@pytest.mark.parametrize("network", ["sur", "encoder"])
def test_each_loss_reaches_what_it_should_teach(network: Any) -> None:
    adapter = make(network=network).train()
    x, aim, llm = torch.randn(2, 5, 16), torch.randn(2, 5, 16), torch.randn(2, 1, 16)
    every = {name for name, _ in adapter.named_parameters()}

    def taught(loss: torch.Tensor) -> set[str]:
        adapter.zero_grad(set_to_none=True)
        loss.backward()
        named = adapter.named_parameters()
        return {name for name, p in named if p.grad is not None and p.grad.any()}

    never = {"key.bias"}  # adds the same to every score of a query, which softmax takes out again
    encoder = {name for name in every if name.startswith("encoder.")}
    denoising = functional.mse_loss(
        adapter(x).embeddings @ torch.randn(16, 3), torch.randn(2, 5, 3)
    )
    assert taught(denoising) >= every - never
    assert taught(distance(adapter(x).embeddings, aim)) >= every - never
    assert taught(distance(adapter(x).features, llm)) == encoder


@pytest.mark.parametrize("network", ["sur", "encoder"])
def test_a_gate_says_of_each_prompt_how_much_of_the_adapter_it_needs(
    tmp_path: Path, network: Any
) -> None:
    adapter = make(network=network, blend="residual", weight=1.0, gate=True)
    without = make(network=network, blend="residual", weight=1.0)
    gate = adapter.gate
    assert gate is not None
    without.load_state_dict({k: v for k, v in adapter.state_dict().items() if "gate" not in k})
    x = torch.randn(3, 5, 16)
    shares = torch.sigmoid(gate(without(x).features.mean(1)))  # [3, 1]
    assert shares.std() > 0.01
    torch.testing.assert_close(adapter(x).output, shares[:, None] * without(x).output)
    torch.testing.assert_close(adapter(x[:1]).output, adapter(x).output[:1])
    with torch.no_grad():
        gate.bias.fill_(-100)
    torch.testing.assert_close(adapter(x).embeddings, x)
    adapters.save(adapter, tmp_path)
    torch.testing.assert_close(adapters.load(tmp_path)(x).embeddings, x)


def test_the_distance_falls_on_a_fixed_batch() -> None:
    adapter = make(dropout=0.0).train()
    x, aim, llm = torch.randn(4, 5, 16), torch.randn(4, 5, 16), torch.randn(4, 1, 16)
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-3)
    history = []
    for _ in range(30):
        found = adapter(x)
        terms = distance(found.embeddings, aim), distance(found.features, llm)
        history.append([float(term.detach()) for term in terms])
        optimizer.zero_grad()
        torch.stack(terms).sum().backward()
        optimizer.step()
    assert history[-1][0] < history[0][0] and history[-1][1] < history[0][1]
    assert distance(aim, aim) == pytest.approx(0, abs=1e-5)


def test_the_published_distance_is_kl_by_its_definition() -> None:
    found, aim = torch.randn(3, 5, 16), torch.randn(3, 1, 16)
    p, q = found.softmax(-1), aim.softmax(-1)
    right = (p * (p / q).log()).sum() / 3
    assert distance(found, aim) == pytest.approx(float(right), rel=1e-5)


@pytest.mark.parametrize("network", ["sur", "encoder"])
def test_an_adapter_comes_back_as_it_was_saved(tmp_path: Path, network: Any) -> None:
    adapter = make(network=network, blend="residual", weight=0.3)
    projection = nn.Linear(24, 16)
    adapters.save(adapter, tmp_path / "run", projection=projection, about={"llm": "m", "layer": 3})
    again = adapters.load(tmp_path / "run")
    assert again.config == adapter.config and not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    x = torch.randn(2, 5, 16)
    for one, other in zip(adapter(x), again(x), strict=True):
        torch.testing.assert_close(one, other)
    for name, weight in adapter.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)
    read = load_projection(tmp_path / "run")
    assert read is not None and torch.equal(read.weight, projection.weight)
    about = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert (about["llm"], about["layer"]) == ("m", 3)
    adapters.save(adapter, tmp_path / "bare")
    assert load_projection(tmp_path / "bare") is None


def test_what_is_no_adapter_is_one_line(tmp_path: Path) -> None:
    def refused(match: str, load: Any, *arguments: Any, **named: Any) -> None:
        with pytest.raises(ModelError, match=match) as caught:
            load(*arguments, **named)
        assert "\n" not in str(caught.value)

    refused("no adapter here", adapters.load, tmp_path)
    layer = replace(LLM, layer=-1)
    refused("language_model.layer: -1", make, network="reader", language_model=layer)
    adapters.save(make(), tmp_path / "cut")
    path = tmp_path / "cut" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:50])
    refused("does not hold this adapter's weights", adapters.load, tmp_path / "cut")
    path.unlink()
    refused("adapter_model.safetensors is missing", adapters.load, tmp_path / "cut")
    about = tmp_path / "cut" / "adapter_config.json"
    saved = json.loads(about.read_text())
    for training in (5, {"diffusion": 5}, {"diffusion": "sd", "llm": ["a"]}):
        about.write_text(json.dumps({**saved, "training": training}))
        refused("adapter_config.json: training: does not name", read_config, tmp_path / "cut")
    official = adapters.from_official
    refused("no such file", official, tmp_path / "x.pt", adapter_weight=0.1)
    torch.save(official_state(), tmp_path / "adapter.pt")
    refused("pass adapter_weight", official, tmp_path / "adapter.pt")
    (tmp_path / "text.pt").write_text("hello")
    refused("not a checkpoint", official, tmp_path / "text.pt", adapter_weight=0.1)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    refused("no fc.weight", official, tmp_path / "other.pt", adapter_weight=0.1)
    torch.save({"fc.weight": torch.zeros(16, 16)}, tmp_path / "other.pt")
    refused("no transformer_encoder", official, tmp_path / "other.pt", adapter_weight=0.1)


LLM = LanguageModel("tiny", "tiny", layer=3, width=12, max_tokens=16)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("weight", "x"), ("heads", None), ("network", "other"), ("dropout", [1])],
        *[("language_model", 1), ("language_model.name", 5), ("language_model.layer", "x")],
        *[("language_model.template", "no place"), ("language_model.max_tokens", 0)],
        *[("language_model.gguf_file", 1), ("language_model.special_tokens", 7)],
    ],
)
def test_a_configuration_with_a_wrong_value_names_its_field(
    tmp_path: Path, field: str, value: object
) -> None:
    adapters.save(make(network="reader", language_model=LLM), tmp_path)
    path = tmp_path / "adapter_config.json"
    config = json.loads(path.read_text())
    above, _, name = field.rpartition(".")
    (config[above] if above else config)[name] = value
    path.write_text(json.dumps(config))
    with pytest.raises(ModelError) as caught:
        adapters.load(tmp_path)
    assert str(caught.value).startswith(f"{path}: {field}: ")
    assert "\n" not in str(caught.value)


def llm_states(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """States ``[n, t, 12]`` of so many tokens each, and their mask."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), 12), mask


def test_a_reader_that_has_learnt_nothing_gives_the_base_models_embeddings() -> None:
    fresh = Adapter(AdapterConfig(**SMALL, network="reader", blend="residual", language_model=LLM))
    x = torch.randn(2, 7, 16)
    assert torch.equal(fresh(x, *llm_states(4, 6)).embeddings, x)


def test_a_reader_looks_at_every_token_but_the_first_whatever_its_size() -> None:
    adapter, x = make(network="reader", language_model=LLM), torch.randn(1, 7, 16)
    states, mask = llm_states(4)
    plain = adapter(x, states, mask).embeddings
    for token in range(4):
        other = states.clone()
        other[0, token] = torch.randn(12)
        assert torch.equal(adapter(x, other, mask).embeddings, plain) == (token == 0)
    torch.testing.assert_close(adapter(x, 100 * states + 7, mask).embeddings, plain)
    padded = torch.cat([states, torch.randn(1, 3, 12)], dim=1)
    longer = torch.cat([mask, torch.zeros(1, 3, dtype=torch.bool)], dim=1)
    torch.testing.assert_close(adapter(x, padded, longer).embeddings, plain)


def test_a_reader_sees_each_dimension_in_its_own_spread() -> None:
    adapter, x = make(network="reader", language_model=LLM), torch.randn(2, 7, 16)
    states, mask = llm_states(5, 5)
    states[..., 0] = 0  # the others' mean and variance stay as they are without it
    seen = torch.nn.functional.layer_norm(states, (12,))
    plain = adapter(x, states, mask).embeddings
    adapter.llm_mean, adapter.llm_std = seen.mean((0, 1)), seen.std((0, 1)).clamp(min=1e-3)
    standardised = adapter(x, states, mask).embeddings
    assert not torch.allclose(standardised, plain)
    with torch.no_grad():  # the same weights, of a dimension 50 times as large and another's mean
        adapter.llm_mean[3] *= 50
        adapter.llm_std[3] *= 50
        larger = seen.clone()
        larger[..., 3] *= 50
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("surd.adapter.module.normalised", lambda llm: larger)
            torch.testing.assert_close(adapter(x, states, mask).embeddings, standardised)
            larger[..., 3] = 1e6  # no farther than a few deviations
            far = adapter(x, states, mask).embeddings
            larger[..., 3] = 1e7
            torch.testing.assert_close(adapter(x, states, mask).embeddings, far)


def test_a_reader_of_a_text_without_tokens_gives_numbers() -> None:
    adapter, x = make(network="reader", language_model=LLM), torch.randn(3, 7, 16)
    states, mask = llm_states(5, 1, 0)
    found = adapter(x, states, mask).embeddings
    assert found.isfinite().all()
    found.sum().backward()
    grads = [p.grad for p in adapter.parameters() if p.grad is not None]
    assert grads and all(grad.isfinite().all() for grad in grads)


def test_a_reader_is_saved_with_its_language_model(tmp_path: Path) -> None:
    adapter = make(network="reader", language_model=LLM)
    adapters.save(adapter, tmp_path)
    assert adapters.load(tmp_path).config == adapter.config
    x, given = torch.randn(2, 7, 16), llm_states(3, 5)
    with torch.no_grad():
        torch.testing.assert_close(adapters.load(tmp_path)(x, *given)[0], adapter(x, *given)[0])
