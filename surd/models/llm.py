"""Language models through transformers: the states after some of their blocks, and no more."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from surd.errors import ModelError
from surd.models.gguf import is_gguf, plain_folder
from surd.models.hub import loading, telling
from surd.models.quiet import hush

log = logging.getLogger("surd")

_SAME = {torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.05}
"""How far off, of the norm, states may be that are the same but for rounding. A leak is far above:
30% in a bidirectional Gemma."""
MAP = "map"
"""The device name that spreads one model over all GPUs, through accelerate."""


@dataclass(frozen=True)
class Llm:
    """A causal language model, loaded as deep as needed."""

    tokenize: Callable[[Sequence[str], bool], list[list[int]]]
    """Texts, and whether to add special tokens, to token ids of different lengths."""
    states: Callable[[torch.Tensor, Sequence[int], Sequence[int]], dict[int, torch.Tensor]]
    """Token ids ``[b, s]`` int64 padded on the right, the ``b`` lengths without padding, and
    layers, to ``[b, s, h]`` of each.

    What comes before the padding does not depend on it, which is tried out when a model is loaded.
    Several threads may call it at once. Only layers it was loaded for are there.
    """
    width: int
    """h."""
    pad_id: int
    window: int | None
    """Tokens of the longest text it has positions for; None where it says nothing."""
    vocabulary: int
    """Token ids from here on have no embedding."""


@dataclass(frozen=True)
class LlmShape:
    """What a model's configuration says, without its weights."""

    layers: int
    width: int
    revision: str | None
    """Commit on the hub the configuration came from."""

    def layer_number(self, layer: int) -> int:
        """0 to `layers`; negative ones count from the end. Raises ModelError."""
        number = layer + self.layers + 1 if layer < 0 else layer
        if not 0 <= number <= self.layers:
            raise ModelError(
                f"layer {layer}: the model has layers 0 (embeddings) to {self.layers} "
                f"(-{self.layers + 1} to -1 from the end)"
            )
        return number


def shape_of(name: str, *, gguf_file: str | None = None, revision: str | None = None) -> LlmShape:
    """Number and width of a model's layers. Raises ModelError in one line."""
    with one_line(name, gguf_file):
        config = _config(*located(name, gguf_file, revision, torch.float32))
        text = config.get_text_config()
        commit = getattr(config, "_commit_hash", None)
        return LlmShape(text.num_hidden_layers, text.hidden_size, commit)


def load_llm(
    name: str,
    layers: Iterable[int],
    *,
    gguf_file: str | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    quantize: str | None = None,
) -> Llm:
    """Load a model's embeddings and its blocks up to the deepest of `layers`.

    Blocks beyond are never read, nor is the language modelling head. `layers` are numbers 0 to
    the model's count. Raises ModelError in one line.
    """
    from transformers import AutoTokenizer

    layers = sorted(set(layers))
    with one_line(name, gguf_file):
        found, revision = located(name, gguf_file, revision, dtype)
        config = _config(found, revision)
        total = config.get_text_config().num_hidden_layers
        model = _load_model(found, revision, config, max(layers), device, dtype, quantize)
        tokenizer = AutoTokenizer.from_pretrained(found, revision=revision)
    model.eval().requires_grad_(False)
    blocks = model.get_submodule(model.surd_blocks) if model.surd_blocks else None
    if blocks is None:
        log.warning("%s: found no list of blocks in this architecture; computing all of it", name)
    noted = _note(blocks, [layer for layer in layers if layer < total]) if blocks else None
    vocabulary = model.get_input_embeddings().weight.shape[0]
    pad_id = tokenizer.pad_token_id or 0

    def tokenize(texts: Sequence[str], special_tokens: bool) -> list[list[int]]:
        ids: list[list[int]] = tokenizer(
            list(texts), add_special_tokens=special_tokens, verbose=False
        ).input_ids
        return ids

    @torch.inference_mode()
    def states(
        ids: torch.Tensor, lengths: Sequence[int], wanted: Sequence[int], *, masked: bool = False
    ) -> dict[int, torch.Tensor]:
        given: dict[str, Any] = {"input_ids": ids.to(model.device), "use_cache": False}
        if masked:
            ends = torch.tensor(lengths)[:, None]
            given["attention_mask"] = (torch.arange(ids.shape[1]) < ends).long().to(model.device)
        if noted is None:
            out = model(**given, output_hidden_states=True)
            return {layer: out.hidden_states[layer] for layer in wanted}
        noted.layers = {}
        out = model(**given)
        noted.layers[total] = out.last_hidden_state
        return {layer: noted.layers[layer] for layer in wanted}

    llm = Llm(
        tokenize,
        states,
        config.get_text_config().hidden_size,
        pad_id if pad_id < vocabulary else 0,
        getattr(config.get_text_config(), "max_position_embeddings", None),
        vocabulary,
    )
    with one_line(name, gguf_file):
        return _tried(name, llm, partial(states, masked=True), layers, dtype)


def _tried(name: str, causal: Llm, masked: Any, layers: Sequence[int], dtype: torch.dtype) -> Llm:
    """The model as it may be used: as it is where padding after a text changes nothing in it, as
    in causal models, else with a mask. Raises ModelError where that does not help, and where a
    layer is not as wide as the others."""
    most = max(1, min(4, (causal.window or 7) - 3))
    text = list(range(2, min(2 + most, causal.vocabulary)))
    alone = torch.tensor([text])
    padded = torch.tensor([text + [causal.pad_id] * 3])
    off = 1.0
    for states in (causal.states, masked):
        exact = states(alone, [len(text)], layers)
        found = states(padded, [len(text)], layers)
        for layer, wanted in exact.items():
            if wanted.shape[-1] != causal.width:
                raise ModelError(
                    f"language model {name!r}: its layer {layer} is {wanted.shape[-1]} wide and "
                    f"the others {causal.width}; use one of the others"
                )
        pairs = [(exact[n].float(), found[n][:, : len(text)].float()) for n in layers]
        off = max(float((a - b).norm() / a.norm().clamp(min=1e-12)) for a, b in pairs)
        if not off > _SAME[dtype]:  # or no number, which has a status of its own
            return replace(causal, states=states)
    raise ModelError(
        f"language model {name!r} gives a text other states where padding follows it (off by "
        f"{off:.0%}), even with a mask; use another model"
    )


def _load_model(
    found: str,
    revision: str | None,
    config: Any,
    deepest: int,
    device: str | torch.device,
    dtype: torch.dtype,
    quantize: str | None,
) -> Any:
    from transformers import MODEL_MAPPING

    model_class = MODEL_MAPPING[type(config)]
    if isinstance(model_class, tuple | list):
        model_class = model_class[0]
    placement = "auto" if str(device) == MAP else {"": device}
    how: dict[str, Any] = {"config": config, "revision": revision, "dtype": dtype}
    if quantize is not None:
        from transformers import BitsAndBytesConfig

        how["quantization_config"] = BitsAndBytesConfig(**{f"load_in_{quantize}": True})
    if str(device) != "cpu":
        how["device_map"] = placement
    model, loaded = _shortened(model_class, deepest).from_pretrained(
        found, output_loading_info=True, **how
    )
    if loaded["missing_keys"]:
        raise ModelError(
            f"language model {found!r} lacks weights: {sorted(loaded['missing_keys'])[0]} and "
            f"{len(loaded['missing_keys']) - 1} more; download it again"
        )
    return model


def _shortened(model_class: type[Any], deepest: int) -> type[Any]:
    """The class, building no block after the `deepest`: the loader then skips their weights.

    The configuration stays whole, since what a block does may depend on the count of all.
    """

    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        model_class.__init__(self, config, *args, **kwargs)
        self.surd_blocks = _name_of_blocks(self)
        if self.surd_blocks:
            del self.get_submodule(self.surd_blocks)[max(1, deepest) :]

    # the loader converts old layouts of weights for classes of the library's own modules alone
    own = {"__init__": init, "__module__": model_class.__module__}
    return type(model_class.__name__, (model_class,), own)


def _name_of_blocks(model: Any) -> str | None:
    """The decoder's list of blocks: the first list of as many modules as it has layers, in the
    part that reads text. A vision tower beside it may have as many."""
    text = model.config.get_text_config()
    for owner, part in model.named_modules():
        if not isinstance(getattr(part, "config", None), type(text)):
            continue
        for name, module in part.named_modules(prefix=owner):
            if isinstance(module, nn.ModuleList) and len(module) == text.num_hidden_layers:
                return str(name)
    return None


def _note(blocks: nn.ModuleList, layers: Sequence[int]) -> threading.local:
    """Keep, for each thread, what goes into the first block (0) or comes out of block k.

    It is in ``layers`` of what is returned, which a thread sets to an empty dictionary before it
    runs the model.
    """
    noted = threading.local()

    def note_input(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        noted.layers[0] = args[0] if args else kwargs["hidden_states"]

    def noting_output(layer: int) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, output: Any) -> None:
            noted.layers[layer] = output[0] if isinstance(output, tuple) else output

        return note

    for layer in layers:
        if layer:
            blocks[layer - 1].register_forward_hook(noting_output(layer))
        else:
            blocks[0].register_forward_pre_hook(note_input, with_kwargs=True)
    return noted


def located(
    name: str, gguf_file: str | None, revision: str | None, dtype: torch.dtype
) -> tuple[str, str | None]:
    """Where transformers finds the model in its own format, and at which revision."""
    if is_gguf(name, gguf_file):
        return str(plain_folder(name, gguf_file, revision, dtype)), None
    from surd.models.names import resolve

    return resolve(name), revision


def _config(found: str, revision: str | None) -> Any:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(found, revision=revision)
    if config.is_encoder_decoder:
        raise ModelError(
            f"language model {found!r} ({config.model_type}) has an encoder and a decoder; surd "
            "embeds prompts with models of one stack, such as Llama, Qwen or Gemma"
        )
    return config


@contextmanager
def one_line(name: str, gguf_file: str | None) -> Iterator[None]:
    """Turn what is raised while a language model is loaded into one line, a ModelError."""
    how = telling if is_gguf(name, gguf_file) else loading
    with how("language model", name):
        hush()
        try:
            yield
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"language model {name!r} does not fit into the device's memory; use "
                "--device map, --quantize, or a smaller --layer"
            ) from error
