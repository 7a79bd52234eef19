"""ComfyUI's graphs as data: nodes, links between them, and what an input's name says of its kind.

Nodes are known by their inputs, since their names are those of hundreds of extensions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Link:
    """A reference to another node's output."""

    node: str
    output: int


Inputs = dict[str, Any]
"""An input's name -> its value, or a Link."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of a graph."""

    kind: str
    """``class_type``."""
    inputs: Inputs


Graph = dict[str, Node]

# What an input is for, by its name in lower case. Nodes of extensions differ in everything else.
CONDITIONING = re.compile(r"cond(?:itioning)?s?(?:[_\d ].*)?|conditioning.*|text_embeds?|guider")
PIPE = re.compile(r".*(?:pipe|context|bundle|ctx|tuple)(?:_?\d*)|script")
OTHER = re.compile(
    r".*(?:model|clip|vae|images?|pixels|samples|latents?|masks?|control_net|controlnet|sigmas|noise"
    r"|upscaler?|width|height|seed|steps|cfg|denoise|_name|lora_stack|loras?|video|audio|prefix_file"
    r"|filename_prefix|frames|device|dtype|detector|sampler|scheduler|latent_image)(?:_opt|_?\d*)"
)
"""Links that no prompt comes along, however long one follows them."""
ROLES = {
    role: re.compile(rf"(?:\w+[ _])?(?:{role}|{role[:3]})(?:_?\d+|[ _][\w ]+)?")
    for role in ("positive", "negative")
}
TEXTS = (
    *("populated_text", "text", "value", "string", "prompt", "prompt_text", "positive"),
    *("positive_prompt", "text_positive", "wildcard_text", "multiline_text", "str", "content"),
    *("caption", "user_prompt", "tags", "result", "input"),
)
"""Names of texts, the likelier ones first."""
TOGETHER = ("text_g", "text_l", "clip_g", "clip_l", "t5xxl", "llama", "qwen25_7b", "mt5xl", "bert")
"""Texts of one encoder with several text models: all of them are the prompt."""
DISPLAYED = re.compile(
    r"(?:text|string|value|output|displayed|preview)_?\d+|.*preview_?text|result"
)
"""What a node showed when it ran."""
PARTS = re.compile(
    r"(?:\w+_)?(?:texts?|strings?|str|prompts?|phrases?|parts?|lines?|tags?|inputs?|segments?|concat)"
    r"[_ ]?(?:[a-z]|\d{1,3}|one|two|three)|[a-d]"
)
BEFORE = re.compile(r"(?:text_|string_)?(?:prefix|prepend)|pre_?text|before")
AFTER = re.compile(r"(?:text_|string_)?(?:suffix|append)|post_?text|after")
DELIMITER = re.compile(r"delimiter|delim|separator|sep|joiner|join_with|concat_with|glue")
JOINS = re.compile(r"concat|join|append|combine|merge|add|affix|fix|build|compos", re.I)
"""What nodes that join texts call themselves."""
ASKING = frozenset(
    """
    temperature, max_tokens, max_new_tokens, system, system_prompt, system_message, top_p, top_k,
    keep_alive, api_key, llm_model, llm, instruction
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)
"""Inputs of nodes that ask a language model."""
SELECTOR = re.compile(
    r"select(?:ed|or|ion)?(?:_?(?:index|input|channel))?|index|input|choice|switch|boolean|bool"
    r"|cond(?:ition)?|which|toggle|use_\w+|pick|number|text_?index|int"
)
SAMPLING = frozenset(
    """
    steps, cfg, seed, noise_seed, sampler_name, scheduler, denoise, latent_image, sigmas, noise,
    sampler, start_at_step, end_at_step, add_noise, samples, optional_latent, cfg_scale
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)
"""Inputs of samplers: two of them beside a conditioning make one."""
NUMBERS = ("seed", "noise_seed", "steps", "cfg", "denoise", "sampler_name", "scheduler")
"""Inputs of samplers that are read also where they are linked."""
MODELS = (
    *("ckpt_name", "base_ckpt_name", "unet_name", "gguf_name", "model_name", "model_path", "model"),
    *("base_model", "checkpoint"),
)


def parse(fields: Mapping[str, Any]) -> Graph:
    """The graph of a ``prompt``; what is no node is left out."""
    graph: Graph = {}
    for key, node in fields.items():
        if isinstance(node, Mapping) and isinstance(node.get("class_type"), str):
            inputs = node.get("inputs")
            given = inputs if isinstance(inputs, Mapping) else {}
            graph[str(key)] = Node(
                node["class_type"],
                {str(name).strip().lower(): _link(value) for name, value in given.items()},
            )
    return graph


def _link(value: Any) -> Any:
    if isinstance(value, list) and len(value) == 2 and type(value[1]) is int:
        return Link(str(value[0]), value[1]) if isinstance(value[0], str | int) else value
    if isinstance(value, Mapping) and "__value__" in value:  # how the editor protects lists
        value = value["__value__"]
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return value


def is_graph(fields: Mapping[str, Any]) -> bool:
    """Whether an object is a ``prompt`` of ComfyUI."""
    return any(isinstance(node, Mapping) and "class_type" in node for node in fields.values())


def is_language_model(node: Node) -> bool:
    """Whether a node asks a language model: what that answered is not in the graph."""
    clip = isinstance(node.inputs.get("clip"), Link)
    asked = isinstance(node.inputs.get("model"), str) or not ASKING.isdisjoint(node.inputs)
    return asked and not clip


def is_joining(node: Node) -> bool:
    """Whether a node says that it joins its texts, in its name or with a delimiter."""
    return bool(JOINS.search(node.kind)) or any(map(DELIMITER.fullmatch, node.inputs))


def is_holding(node: Node) -> bool:
    """Whether a node only holds texts, which then have an output each."""
    parts = any(map(PARTS.fullmatch, node.inputs))
    return parts and all(isinstance(value, str) for value in node.inputs.values())


def chosen(inputs: Inputs, value_of: Callable[[Any], Any]) -> list[str]:
    """Names of the inputs that a switch passes on; empty where this is no switch.

    ``value_of``: what resolves a selector that is linked.
    """
    for name, given in inputs.items():
        if SELECTOR.fullmatch(name):
            others = [other for other in inputs if other != name]
            branch = _branch(others, value_of(given))
            if branch is not None:
                return [branch]
    return []


_YES = re.compile(r"(?:.*_)?(?:true|tt|yes|then)(?:_.*)?")
_NO = re.compile(r"(?:.*_)?(?:false|ff|no|else)(?:_.*)?")
_NUMBERED = re.compile(r"(?:.*\D)?(\d{1,4})")
_LETTERED = re.compile(r".*[_ ]?[ab12]")


def _branch(names: list[str], value: Any) -> str | None:
    if isinstance(value, bool):
        sides = [name for name in names if (_YES if value else _NO).fullmatch(name)]
        pair = [name for name in names if _LETTERED.fullmatch(name)]
        if not sides and len(pair) == 2:
            sides = [pair[0] if value else pair[1]]
        return sides[0] if sides else None
    if isinstance(value, str):
        if value.lower() in names:
            return value.lower()
        value = int(value) if re.fullmatch(r"[0-9]{1,4}", value.strip()) else None
    if isinstance(value, int):
        for name in names:
            numbered = _NUMBERED.fullmatch(name)
            if numbered and int(numbered[1]) == value:
                return name
    return None
