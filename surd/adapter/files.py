"""Adapters on disk: safetensors with a configuration, and the published checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file, save_file

from surd.adapter.lora import AnyAdapter, Lora, LoraConfig, sizes_in
from surd.adapter.module import Adapter, AdapterConfig, Base
from surd.errors import ModelError, one_line
from surd.store.storage import Storage, local_path
from surd.untrusted import open_regular, parse_json, read_regular

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PROJECTION = "llm_projection."
"""Before the names of the language model's projection, which lies beside the adapter's weights."""

_OFFICIAL = {
    "transformer_encoder.": "encoder.",
    "attention.query_layer.": "query.",
    "attention.key_layer.": "key.",
    "attention.output_layer.": "mlp.",
    "fc.": "out.",
}
_OFFICIAL_UNUSED = ("encoder_layer.", "attention.value_layer.")
"""In the published checkpoints, and never looked at by the published forward."""
_LAYERS = "transformer_encoder.layers."
_WIDE, _HIDDEN = "fc.weight", f"{_LAYERS}0.linear1.weight"
"""Their first axes are the width, and that of the feed-forward network."""


def save(
    adapter: AnyAdapter,
    folder: str | Path,
    *,
    projection: torch.nn.Linear | None = None,
    about: Mapping[str, Any] | None = None,
) -> None:
    """Write weights and configuration, each as a whole; `about` goes into the configuration.

    `projection` is what the language model's vectors went through while training. Raises ModelError
    for weights that are not finite, and WorkspaceError where the folder cannot be written.
    """
    storage = Storage(str(local_path(folder)))
    weights = {name: value.contiguous() for name, value in adapter.state_dict().items()}
    if projection is not None:
        named = projection.state_dict().items()
        weights |= {PROJECTION + name: value.contiguous() for name, value in named}
    _check_finite(weights, f"{folder}: nothing was written")
    own = {name: value for name, value in asdict(adapter.config).items() if value is not None}
    config = {"format": "surd-adapter-1", **own, **(about or {})}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    with storage.writing(WEIGHTS_FILE) as temporary:
        save_file(weights, temporary, {"format": "pt"})
    storage.write_bytes(CONFIG_FILE, text.encode())


def load(
    folder: str | Path, *, device: str | torch.device = "cpu", llm: str | None = None
) -> AnyAdapter:
    """The adapter in a folder, ready to use: evaluation mode, no gradients.

    `llm` is another name or folder of the language model that it reads. Raises ModelError.
    """
    folder = local_path(folder)
    config = read_config(folder)
    try:
        open_regular(folder / WEIGHTS_FILE).close()  # safetensors would wait for a pipe's writer
        weights = load_file(folder / WEIGHTS_FILE)
        adapter = _made(folder / CONFIG_FILE, config, weights)
        own = {name: value for name, value in weights.items() if not name.startswith(PROJECTION)}
        adapter.load_state_dict(own)
        _check_finite(weights, str(folder / WEIGHTS_FILE))
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: {WEIGHTS_FILE} is missing") from error
    except ModelError:
        raise
    except Exception as error:  # safetensors and torch raise kinds of their own
        reason = one_line(error)
        raise ModelError(
            f"{folder / WEIGHTS_FILE}: does not hold this adapter's weights: {reason}"
        ) from error
    adapter.base = _base(config)
    if isinstance(adapter, Adapter) and adapter.config.language_model is not None:
        from surd.adapter.language import Language  # others do not need its libraries

        with _telling_field(folder / CONFIG_FILE, "language_model"):
            adapter.language = Language(adapter.config.language_model, llm, device)
    elif llm is not None:
        raise ModelError(f"{folder}: this adapter reads no language model; leave out --llm")
    return adapter.to(device).eval().requires_grad_(False)


def _made(path: Path, config: Mapping[str, Any], weights: Mapping[str, torch.Tensor]) -> AnyAdapter:
    """What the configuration at `path` describes, without its weights, of which a LoRA takes the
    sizes. Raises ModelError, and ValueError where the two do not belong together."""
    kind = LoraConfig if config.get("network") == "lora" else AdapterConfig
    known = {field.name for field in fields(kind)}
    settings = {name: value for name, value in config.items() if name in known}
    with _telling_field(path):
        found: Any = TypeAdapter(kind).validate_python(settings)
    if isinstance(found, LoraConfig):
        return Lora(found, sizes_in(weights))
    _check_claims(found, weights)
    return Adapter(found)


@contextmanager
def _telling_field(path: Path, *above: str) -> Iterator[None]:
    """Turn pydantic's errors in the block into a ModelError about a field of the file at `path`,
    which lies below those `above` it."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, (*above, *first["loc"])))
        raise ModelError(
            f"{path}: {where}: {first['msg']}; use the file as it was saved"
        ) from error


def _check_claims(config: AdapterConfig, weights: Mapping[str, torch.Tensor]) -> None:
    """Raises ValueError where the configuration asks for more than there are weights: it would be
    built before it is compared."""
    most = max((max(value.shape, default=0) for value in weights.values()), default=0)
    language = config.language_model
    claims = {name: getattr(config, name) for name in ("width", "feed_forward", "heads")}
    claims["language_model.width"] = language.width if language else 0
    limits = dict.fromkeys(claims, most) | {"depth": len(weights)}
    for name, value in (claims | {"depth": config.depth}).items():
        if not 0 <= value <= limits[name]:
            raise ValueError(f"{name} is {value}, but the weights have at most {limits[name]}")


def _base(config: Mapping[str, Any]) -> Base | None:
    training = config.get("training")
    name = training.get("diffusion") if isinstance(training, Mapping) else None
    return Base(str(name), str(config.get("diffusion_identity", name))) if name else None


def _check_finite(weights: Mapping[str, torch.Tensor], where: str) -> None:
    """Raises ModelError for NaN or infinity: all pictures would be black."""
    for name, value in weights.items():
        if not value.isfinite().all():
            raise ModelError(
                f"{where}: {name} holds NaN or infinity, so the training diverged; train again "
                "with a smaller learning rate"
            )


def load_projection(folder: str | Path) -> torch.nn.Linear | None:
    """What the language model's vectors go through, ``[h]`` to ``[d]``; None where none is kept."""
    weights = load_file(local_path(folder) / WEIGHTS_FILE)
    own = {k.removeprefix(PROJECTION): v for k, v in weights.items() if k.startswith(PROJECTION)}
    if not own:
        return None
    linear = torch.nn.Linear(own["weight"].shape[1], own["weight"].shape[0])
    linear.load_state_dict(own)
    return linear


def read_config(folder: str | Path) -> dict[str, Any]:
    """What was saved beside the weights. Raises ModelError."""
    path = local_path(folder) / CONFIG_FILE
    try:
        config = parse_json(read_regular(path))
    except FileNotFoundError:
        runs = sorted(str(one.parent) for one in path.parent.glob(f"adapter/*/{CONFIG_FILE}"))
        if runs:
            raise ModelError(
                f"{folder}: a workspace, not the folder of an adapter; name one of its adapters: "
                f"{', '.join(runs)}"
            ) from None
        raise ModelError(
            f"{folder}: no adapter here (no {CONFIG_FILE}); train one with: surd train-adapter DIR"
        ) from None
    except NotADirectoryError:
        raise ModelError(f"{folder}: is a file; name the folder of the adapter") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if not isinstance(config, dict) or config.get("format") != "surd-adapter-1":
        raise ModelError(f"{path}: not an adapter configuration that this version of surd can read")
    told = config.get("training", {})
    keys = ("diffusion", "llm")
    if not isinstance(told, dict) or not all(isinstance(told.get(key, ""), str) for key in keys):
        raise ModelError(
            f"{path}: training: does not name the models by texts; use the file as it was saved"
        )
    return config


def from_official(
    path: str | Path, adapter_weight: float | None = None, *, heads: int = 8
) -> Adapter:
    """A published ``adapter*.pt``, with the published forward; evaluation mode, no gradients.

    `adapter_weight` is not in the file: without it, it is taken from the folder's name as the
    published trainer writes it (``…_adapterw0.1/``). Raises ModelError.
    """
    path = local_path(path)
    weight = adapter_weight if adapter_weight is not None else _weight_in(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except Exception as error:  # unpickling raises whatever the file makes it
        raise ModelError(f"{path}: not a checkpoint that holds tensors") from error
    for name in (_WIDE, _HIDDEN):
        if not isinstance(state, Mapping) or name not in state:
            raise ModelError(f"{path}: not a published SUR-adapter: it has no {name}")
    config = AdapterConfig(
        width=state[_WIDE].shape[0],
        depth=len({key.split(".")[2] for key in state if key.startswith(_LAYERS)}),
        heads=heads,
        feed_forward=state[_HIDDEN].shape[0],
        weight=weight,
        attend="batch",
    )
    adapter = Adapter(config)
    renamed = {_renamed(key): value for key, value in state.items() if not _unused(key)}
    try:
        adapter.load_state_dict(renamed)
    except RuntimeError as error:
        reason = one_line(error)
        raise ModelError(f"{path}: not a published SUR-adapter: {reason}") from error
    _check_finite(adapter.state_dict(), str(path))
    return adapter.eval().requires_grad_(False)


def _weight_in(path: Path) -> float:
    found = re.search(r"_adapterw([0-9.eE-]*[0-9])", path.parent.name)
    if found is None:
        raise ModelError(
            f"{path}: the adapter weight is neither in the file nor in its folder's name "
            "(…_adapterw0.1); pass adapter_weight=0.1"
        )
    return float(found.group(1))


def _unused(key: str) -> bool:
    return key.startswith(_OFFICIAL_UNUSED)


def _renamed(key: str) -> str:
    for old, new in _OFFICIAL.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key
