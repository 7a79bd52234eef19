"""ComfyUI's prompt graphs, mended such that the library sd-parsers walks them right."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_NODES, MAX_SAMPLERS = 2_000, 32
"""The library's walk of a graph takes time in the square of these."""
OTHER_NAMES = {"text": ("text_g", "t5xxl"), "ckpt_name": ("unet_name",)}
"""Names of inputs that the library knows -> others that mean the same."""

Inputs = dict[str, dict[str, Any]]
"""A node's key -> its inputs, each a value or a link to another node's output."""


def mended(graph: Mapping[str, Any]) -> tuple[dict[str, Any], list[list[Any]]]:
    """Nodes of a prompt graph, and their links in the form of the editor's ``workflow``.

    The library takes links from the ``workflow``, which images made through ComfyUI's API lack
    and which groups hide; the prompt graph has them all. It also mixes up the prompts behind a
    node that passes on two; takes the link of a LoRA for a model's name, so that only samplers
    keep theirs; knows fewer names of inputs; and does not know samplers in pieces.
    """
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict)}
    inputs = {key: dict(node.get("inputs") or {}) for key, node in nodes.items()}
    for key, node in nodes.items():
        if str(node.get("class_type")).startswith("SamplerCustom"):
            _gather_sampler(key, inputs)
    samplers = {key for key, values in inputs.items() if {"steps", "cfg"} <= values.keys()}
    if len(nodes) > MAX_NODES or len(samplers) > MAX_SAMPLERS:
        raise ValueError("more nodes than any real graph has")
    _split_two_way(nodes, inputs, samplers)
    links = []
    for key, values in inputs.items():
        found = _links(key, values)
        if nodes[key].get("class_type") != "ConditioningZeroOut":
            links += found
        if key not in samplers and _is_link(values.get("model")):
            del values["model"]
        _add_known_names(values)
    return {key: {**nodes[key], "inputs": inputs[key]} for key in nodes}, links


def _gather_sampler(key: str, inputs: Inputs) -> None:
    """Give a SamplerCustom node what its guider, noise, sampler and sigmas nodes hold."""
    whole: dict[str, Any] = {"sampler_name": None, "steps": None, "cfg": None}
    for name in ("sigmas", "sampler", "noise", "guider"):
        link: Any = inputs[key].get(name)
        whole |= inputs.get(str(link[0]), {}) if _is_link(link) else {}
    if "conditioning" in whole:
        whole["positive"] = whole.pop("conditioning")
    inputs[key] = {**whole, **inputs[key]}


def _split_two_way(nodes: dict[str, Any], inputs: Inputs, samplers: set[str]) -> None:
    """Split each node that passes on a positive and a negative prompt (ControlNet, inpainting).

    The new one, with "-" after its key, passes on the negative; links to that output follow.
    """
    two_way = {
        key
        for key, values in inputs.items()
        if key not in samplers
        and _is_link(values.get("positive"))
        and _is_link(values.get("negative"))
    }
    for key in sorted(two_way):  # a set's own order differs from run to run
        nodes[f"{key}-"] = nodes[key]
        inputs[f"{key}-"] = {k: v for k, v in inputs[key].items() if k != "positive"}
        del inputs[key]["negative"]
    for values in inputs.values():
        for name, value in values.items():
            if _is_link(value):
                negative = value[0] in two_way and value[1] == 1
                values[name] = [f"{value[0]}-" if negative else str(value[0]), value[1]]


def _links(key: str, values: Mapping[str, Any]) -> list[list[Any]]:
    """Links into a node: their number, the source and its output, the node, its input, a type."""
    return [
        [0, *value, key, 0, "CLIP" if name.startswith("clip") else "*"]
        for name, value in values.items()
        if _is_link(value)
    ]


def _add_known_names(values: dict[str, Any]) -> None:
    for name, others in OTHER_NAMES.items():
        known = [values[other] for other in others if isinstance(values.get(other), str)]
        if known:
            values.setdefault(name, known[0])


def _is_link(value: Any) -> bool:
    """A reference to another node's output: its key and the output's number."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)
