"""ComfyUI's ``workflow``, the editor's form of a graph, where the ``prompt`` is not there.

Values of widgets stand in a list there, named only where the editor lists them as inputs too.
Subgraphs are unfolded: their nodes' keys are ``outer:inner``, as in a prompt.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from surd.text.generation import comfyui
from surd.text.generation.found import Generation

MAX_NODES = 20_000
_MAX_DEPTH = 10
_MUTED = 2
_AFTER_SEED = ("fixed", "increment", "decrement", "randomize")
_INPUTS, _OUTPUTS = -10, -20
"""Nodes that stand for a subgraph's own inputs and outputs."""

Prompt = dict[str, dict[str, Any]]


def read(fields: Mapping[str, Any]) -> Generation | None:
    """Read a workflow; or an object that holds one as ``workflow``."""
    inner = fields.get("workflow")
    fields = inner if isinstance(inner, Mapping) else fields
    if not isinstance(fields.get("nodes"), list) or not isinstance(fields.get("links"), list):
        return None
    prompt: Prompt = {}
    definitions = fields.get("definitions")
    subgraphs = definitions.get("subgraphs") if isinstance(definitions, Mapping) else None
    known = {str(some.get("id")): some for some in _mappings(subgraphs)}
    _unfold(fields, "", [], known, prompt, _MAX_DEPTH)
    generation = comfyui.read(prompt)
    return generation if generation is None or generation.prompt else None


def _mappings(values: Any) -> Iterator[Mapping[str, Any]]:
    yield from (v for v in (values if isinstance(values, list) else []) if isinstance(v, Mapping))


def _unfold(
    graph: Mapping[str, Any],
    prefix: str,
    given: list[Any],
    known: Mapping[str, Mapping[str, Any]],
    prompt: Prompt,
    depth: int,
) -> dict[int, Any]:
    """Add the nodes of ``graph`` to ``prompt``; returns what its outputs are linked to.

    ``given``: what its inputs are linked to.
    """
    links = dict(_links(graph))
    nodes = [node for node in _mappings(graph.get("nodes")) if node.get("mode") != _MUTED]
    inner_outputs: dict[str, dict[int, Any]] = {}

    def source(link: Any) -> Any:
        origin, slot = links.get(str(link), (None, 0))[:2]
        if origin == _INPUTS:
            return given[slot] if 0 <= slot < len(given) else None
        if str(origin) in inner_outputs:
            return inner_outputs[str(origin)].get(slot)
        return None if origin is None else [f"{prefix}{origin}", slot]

    folded = [node for node in nodes if str(node.get("type")) in known and depth]
    for node in folded:
        key = str(node.get("id"))
        inputs = [source(entry.get("link")) for entry in _mappings(node.get("inputs"))]
        inner = known[str(node.get("type"))]
        inner_outputs[key] = _unfold(inner, f"{prefix}{key}:", inputs, known, prompt, depth - 1)
    for node in nodes:
        if node in folded or len(prompt) >= MAX_NODES:
            continue
        values: dict[str, Any] = dict(_widgets(node))
        for entry in _mappings(node.get("inputs")):
            linked = source(entry.get("link")) if entry.get("link") is not None else None
            if linked is not None:
                values[str(entry.get("name"))] = linked
        key = f"{prefix}{node.get('id')}"
        prompt[key] = {"class_type": str(node.get("type")), "inputs": values}
    targets = (link for link in links.values() if link[2] == _OUTPUTS)
    return {link[3]: [f"{prefix}{link[0]}", link[1]] for link in targets}


def _links(graph: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, int, Any, int]]]:
    """Number of a link -> its origin, the origin's slot, its target, the target's slot."""
    for link in graph["links"] if isinstance(graph.get("links"), list) else []:
        if isinstance(link, list) and len(link) >= 5:
            number, *ends = link[:5]
        elif isinstance(link, Mapping):
            names = ("id", "origin_id", "origin_slot", "target_id", "target_slot")
            number, *ends = (link.get(name) for name in names)
        else:
            continue
        if isinstance(ends[1], int) and isinstance(ends[3], int):
            yield str(number), (ends[0], ends[1], ends[2], ends[3])


def _widgets(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names and values of a node's widgets; without names, its longest text is ``text``."""
    values = node.get("widgets_values")
    if isinstance(values, Mapping):
        yield from ((str(name), value) for name, value in values.items())
        return
    values = [v for v in (values if isinstance(values, list) else []) if v not in _AFTER_SEED]
    names = [
        str(entry.get("name"))
        for entry in _mappings(node.get("inputs"))
        if isinstance(entry.get("widget"), Mapping)
    ]
    if names:
        yield from zip(names, values, strict=False)
    elif texts := [value for value in values if isinstance(value, str)]:
        yield "text", max(texts, key=len)
