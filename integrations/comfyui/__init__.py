"""ComfyUI nodes: load an adapter of surd, and send conditioning through it.

Interface: https://docs.comfy.org/custom-nodes/backend/server_overview
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch

from surd.adapter.encoding import adapt
from surd.adapter.files import CONFIG_FILE, WEIGHTS_FILE, load
from surd.adapter.module import Adapter
from surd.errors import SurdError
from surd.text.prompt_syntax import parse

_FOLDER = "surd"
"""Below ComfyUI's models, or where extra_model_paths.yaml says."""
_WINDOW = 77
"""Tokens that CLIP reads at once; ComfyUI puts the windows of a longer prompt side by side."""

Conditioning = list[list[Any]]
"""Pairs of text embeddings ``[b, s, d]`` and a dict about them."""

folder_paths.add_model_folder_path(_FOLDER, str(Path(folder_paths.models_dir) / _FOLDER))


def _adapters() -> dict[str, Path]:
    """Name -> folder; of equal names the first counts, as for ComfyUI's own models."""
    found: dict[str, Path] = {}
    for root in map(Path, folder_paths.get_folder_paths(_FOLDER)):
        for config in sorted(root.rglob(CONFIG_FILE)):
            found.setdefault(config.parent.relative_to(root).as_posix(), config.parent)
    return found


def _folder(name: str) -> Path:
    adapters = _adapters()
    if name not in adapters:
        raise SurdError(f"{name}: no such adapter; put its folder into ComfyUI's models/{_FOLDER}")
    return adapters[name]


class LoadAdapter:
    """An adapter from ``models/surd``."""

    CATEGORY = "conditioning/surd"
    DESCRIPTION = "Loads an adapter that surd trained, from a folder in models/surd."
    RETURN_TYPES = ("SURD_ADAPTER",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node's fields are."""
        place = "Folder or hub id of the language model that the adapter reads, if it has moved."
        device = "Where the adapter and its language model run: ComfyUI's choice, or the CPU."
        return {
            "required": {"adapter": (sorted(_adapters()),)},
            "optional": {
                "device": (["default", "cpu"], {"tooltip": device}),
                "language_model": ("STRING", {"default": "", "tooltip": place}),
            },
        }

    @classmethod
    def IS_CHANGED(cls, adapter: str, **_: str) -> int:
        """Another number once the adapter was trained anew."""
        return (_folder(adapter) / WEIGHTS_FILE).stat().st_mtime_ns

    def load(
        self, adapter: str, device: str = "default", language_model: str = ""
    ) -> tuple[Adapter]:
        """Raises SurdError where it is damaged, and for a LoRA, which ComfyUI loads itself."""
        chosen = comfy.model_management.text_encoder_device() if device == "default" else device
        folder = _folder(adapter)
        loaded = load(folder, device=chosen, llm=language_model.strip() or None)
        if not isinstance(loaded, Adapter):
            raise SurdError(f"{adapter}: a LoRA; copy its {WEIGHTS_FILE} to models/loras instead")
        return (loaded,)


class EncodeWithAdapter:
    """ComfyUI's CLIP Text Encode, and the adapter after it."""

    CATEGORY = "conditioning/surd"
    DESCRIPTION = "Encodes a prompt with CLIP and sends it through the adapter."
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "encode"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node's fields are."""
        return {
            "required": {
                "clip": ("CLIP",),
                "adapter": ("SURD_ADAPTER",),
                "text": ("STRING", {"multiline": True, "dynamicPrompts": True}),
            }
        }

    def encode(self, clip: Any, adapter: Adapter, text: str) -> tuple[Conditioning]:
        """Raises SurdError where the adapter is made for another model."""
        encoded = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        return (_adapted(encoded, adapter, text),)


class ApplyAdapter:
    """Conditioning of any node through the adapter."""

    CATEGORY = "conditioning/surd"
    DESCRIPTION = "Sends conditioning through the adapter; the pooled output stays as it is."
    RETURN_TYPES = ("CONDITIONING",)
    FUNCTION = "apply"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """What the node's fields are."""
        told = "The prompt, for an adapter that reads a language model; others ignore it."
        return {
            "required": {"conditioning": ("CONDITIONING",), "adapter": ("SURD_ADAPTER",)},
            "optional": {"text": ("STRING", {"default": "", "multiline": True, "tooltip": told})},
        }

    def apply(
        self, conditioning: Conditioning, adapter: Adapter, text: str = ""
    ) -> tuple[Conditioning]:
        """Raises SurdError where the adapter is made for another model, or needs the text."""
        if adapter.config.language_model is not None and not text.strip():
            raise SurdError("this adapter reads a language model: give it the prompt as text")
        return (_adapted(conditioning, adapter, text),)


def _adapted(conditioning: Conditioning, adapter: Adapter, text: str) -> Conditioning:
    """New pairs; those that were given stay as they are, for other nodes have them too.

    A language model reads the words alone, without weights and names of embeddings.
    """
    words = parse(text).text
    return [[_through(adapter, states, words), dict(about)] for states, about in conditioning]


def _through(adapter: Adapter, states: torch.Tensor, words: str) -> torch.Tensor:
    """``[b, s, d]``, each of CLIP's windows by itself, as in training."""
    batch, tokens, width = states.shape
    size = _WINDOW if tokens % _WINDOW == 0 else tokens
    windows = states.reshape(-1, 1, size, width)  # [b * s / size, 1, size, d]
    changed = adapt(adapter, windows, [(words,)] * len(windows))
    return changed.reshape(batch, tokens, width)


NODE_CLASS_MAPPINGS = {
    "SurdLoadAdapter": LoadAdapter,
    "SurdEncodeWithAdapter": EncodeWithAdapter,
    "SurdApplyAdapter": ApplyAdapter,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "SurdLoadAdapter": "Load SUR-adapter",
    "SurdEncodeWithAdapter": "CLIP Text Encode (SUR-adapter)",
    "SurdApplyAdapter": "Apply SUR-adapter",
}
