"""ComfyUI: prompts out of a graph, from each sampler back along what its conditioning hangs on.

The way is told by the kinds of inputs (:mod:`.comfy_graph`). Every node is read once per role, and
no way is followed further than people build, so no graph is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Literal

from surd.text.generation import fields as plain_fields
from surd.text.generation import found
from surd.text.generation.comfy_graph import (
    AFTER,
    BEFORE,
    CONDITIONING,
    DELIMITER,
    DISPLAYED,
    MODELS,
    NUMBERS,
    OTHER,
    PARTS,
    PIPE,
    ROLES,
    SAMPLING,
    TEXTS,
    TOGETHER,
    Graph,
    Inputs,
    Link,
    Node,
    chosen,
    is_graph,
    is_holding,
    is_joining,
    is_language_model,
    parse,
)
from surd.text.generation.found import Generation

MAX_HOPS = 100
MAX_OUTPUT = 8
MAX_JOINED_CHARS = 200_000
"""Texts that nodes join are not followed beyond this."""

Role = Literal["positive", "negative"]
Texts = tuple[str, ...]
"""Empty: none found. A text of no characters: none given."""

_DELIMITERS = {"newline": "\n", "space": " ", "comma": ", ", "none": "", "tab": "\t"}
_DELIMITERS |= {r"\n": "\n", r"\t": "\t"}


def read(fields: Mapping[str, Any]) -> Generation | None:
    """Read a graph, or an object that holds one as ``prompt``, with or without its ``workflow``."""
    for _ in range(3):
        inner = found.as_object(fields.get("prompt"))
        if is_graph(fields) or not inner:
            break
        fields = inner
    if not is_graph(fields):
        return None
    extra = plain_fields.read(found.as_object(fields.get("extraMetadata")))
    graph = parse(fields)
    walk = _Walk(graph)
    samplers = _samplers(graph)
    prompt = walk.prompt(samplers, "positive") if samplers else walk.without_sampler()
    negative = walk.prompt(samplers, "negative") or None
    if extra is not None:  # Civitai's generator says beside the graph what it was asked for
        prompt, negative = extra.prompt, extra.negative_prompt
    return Generation(
        generator="ComfyUI",
        prompt=prompt,
        negative_prompt=negative if negative != prompt else None,
        model=next(filter(None, map(walk.model, samplers or list(graph.values()))), None),
        settings=walk.settings(samplers),
    )


def _samplers(graph: Graph) -> list[Node]:
    """Nodes with a conditioning and what sampling needs; those that say so in their names first."""
    samplers = []
    for node in graph.values():
        named = "sampler" in node.kind.lower()
        conditioned = any(
            (
                isinstance(value, Link)
                and (_is_role(name) or CONDITIONING.fullmatch(name) or _pipe(name))
            )
            or (isinstance(value, str) and ROLES["positive"].fullmatch(name))
            for name, value in node.inputs.items()
        )
        if conditioned and len(SAMPLING & node.inputs.keys()) >= (1 if named else 2):
            samplers.append(node)
    return sorted(samplers, key=lambda node: "sampl" not in node.kind.lower())


def _is_role(name: str) -> bool:
    return ROLES["positive"].fullmatch(name) is not None or (
        ROLES["negative"].fullmatch(name) is not None
    )


def _pipe(name: str) -> bool:
    return PIPE.fullmatch(name) is not None


class _UnansweredError(Exception):
    """A text hangs on what a language model answered, which is not in the graph.

    Less than the whole text is no prompt, so this goes up to where there is another way.
    """


class _Walk:
    """One graph, and what was found on the ways through it."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[tuple[str, Role, int], Texts | None] = {}
        self._hops = 0

    def prompt(self, samplers: list[Node], role: Role) -> str | None:
        """The distinct prompts of all samplers, longest first; None where none was found."""
        each = []
        for node in samplers:
            with suppress(_UnansweredError):
                each.append(self._of_sampler(node, role))
        prompts = {found.join(map(str.strip, texts)) for texts in each if texts}
        ordered = sorted(prompts, key=lambda text: (-len(text), text))
        return found.join(ordered) if prompts else None

    def _of_sampler(self, node: Node, role: Role, hops: int = 5) -> Texts:
        own = [name for name in node.inputs if ROLES[role].fullmatch(name)]
        if own:
            return self._each(own, node.inputs, role)
        guider = node.inputs.get("guider")
        if isinstance(guider, Link) and guider.node in self._graph and hops:
            return self._of_sampler(self._graph[guider.node], role, hops - 1)
        # Pipes pass on prompts of either kind, a conditioning of no kind is a positive one.
        both = [name for name in node.inputs if _pipe(name) or name.startswith("text_embed")]
        if role == "positive":
            both += [name for name in node.inputs if CONDITIONING.fullmatch(name)]
        return self._first(both, node.inputs, role)

    def without_sampler(self) -> str | None:
        """The prompt of a node that draws by itself, such as those of paid services; else the
        longest text that any encoder was given, but for negative ones."""
        negative = {
            value.node
            for node in self._graph.values()
            for name, value in node.inputs.items()
            if isinstance(value, Link) and ROLES["negative"].fullmatch(name)
        }
        nodes = [node for key, node in self._graph.items() if key not in negative]
        drawing = [n for n in nodes if "seed" in n.inputs and "prompt" in n.inputs]
        encoding = [n for n in nodes if isinstance(n.inputs.get("clip"), Link)]
        for some in (drawing, encoding):
            texts = [""]
            for node in some:
                with suppress(_UnansweredError):
                    texts.append(found.join(self._of_node(node, "positive", drawing=True)))
            if any(texts):
                return max(texts, key=len).strip()
        return None

    # --- texts ---------------------------------------------------------------------------------

    def _texts(self, value: Any, role: Role) -> Texts:
        """Texts of an input: itself, or those of the node it is linked to."""
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, Link) or value.node not in self._graph:
            return ()
        key = (value.node, role, min(value.output, MAX_OUTPUT))
        if key not in self._known and self._hops < MAX_HOPS:
            self._known[key] = ()  # what is found on the way round in a circle
            self._hops += 1
            try:
                self._known[key] = self._of_node(self._graph[value.node], role, key[2])
            except _UnansweredError:
                self._known[key] = None
            finally:
                self._hops -= 1
        texts = self._known.get(key, ())
        if texts is None:
            raise _UnansweredError
        return texts

    def _each(self, names: Iterable[str], inputs: Inputs, role: Role) -> Texts:
        texts = [text for name in names for text in self._texts(inputs[name], role)]
        return tuple(dict.fromkeys(texts))

    def _first(self, names: Iterable[str], inputs: Inputs, role: Role) -> Texts:
        """Texts of the first input that has words, else of the first that has any."""
        found_empty: Texts = ()
        unanswered = False
        for name in names:
            try:
                texts = self._texts(inputs[name], role)
            except _UnansweredError:
                unanswered = True
                continue
            if any(text.strip() for text in texts):
                return texts
            found_empty = found_empty or texts
        if unanswered:
            raise _UnansweredError
        return found_empty

    def _of_node(self, node: Node, role: Role, output: int = 0, *, drawing: bool = False) -> Texts:
        if "zeroout" in node.kind.lower():
            return ()
        against = ROLES["negative" if role == "positive" else "positive"]
        inputs = {
            name: value
            for name, value in node.inputs.items()
            if isinstance(value, str | Link | bool | int) and not against.fullmatch(name)
        }
        if names := chosen(inputs, self.value):
            return self._each(names, inputs, role)
        ways: list[Callable[[Inputs, Role], Texts]]
        ways = [self._of_role, self._conditioned, self._encoded_together, self._displayed]
        if drawing or not is_language_model(node):
            if is_joining(node):
                ways.append(partial(self._concatenated, joining=True))
            elif is_holding(node):
                ways.append(partial(self._held, output=output))
            else:
                ways.append(self._concatenated)
            ways += [self._named, self._passed_on, self._any]
        found_empty: Texts = ()
        for way in ways:
            texts = way(inputs, role)
            if any(text.strip() for text in texts):
                return texts
            found_empty = found_empty or texts
        if is_language_model(node) and not drawing:
            raise _UnansweredError
        return found_empty

    def _of_role(self, inputs: Inputs, role: Role) -> Texts:
        return self._each((name for name in inputs if ROLES[role].fullmatch(name)), inputs, role)

    def _conditioned(self, inputs: Inputs, role: Role) -> Texts:
        links = [n for n, v in inputs.items() if isinstance(v, Link) and CONDITIONING.fullmatch(n)]
        return self._each(links, inputs, role)

    def _encoded_together(self, inputs: Inputs, role: Role) -> Texts:
        return self._each((name for name in TOGETHER if _is_text(inputs.get(name))), inputs, role)

    def _displayed(self, inputs: Inputs, role: Role) -> Texts:
        """What a node showed of a linked text, which may have been another in the next run."""
        shown = [name for name in inputs if DISPLAYED.fullmatch(name)]
        linked = [n for n, v in inputs.items() if isinstance(v, Link) and n not in shown]
        if not linked or any(isinstance(inputs[name], Link) for name in shown):
            return ()
        return self._first((n for n in shown if isinstance(inputs[n], str)), inputs, role)

    def _held(self, inputs: Inputs, role: Role, output: int) -> Texts:
        """Of a node that only holds texts, the one of an output."""
        names = [name for name in inputs if name in TEXTS or PARTS.fullmatch(name)]
        return self._each(names[output : output + 1], inputs, role)

    def _concatenated(self, inputs: Inputs, role: Role, *, joining: bool = False) -> Texts:
        """Texts whose names say that they belong together; all texts of a node that joins them."""
        texts = [name for name, value in inputs.items() if _is_text(value)]
        before = [name for name in texts if BEFORE.fullmatch(name)]
        after = [name for name in texts if AFTER.fullmatch(name)]
        parts = [n for n in texts if PARTS.fullmatch(n) or (joining and n in TEXTS)]
        if before or after:
            parts = parts or [name for name in TEXTS if name in texts][:1]
        if not before and not after and len(parts) < 2:
            return ()
        pieces = [", ".join(self._texts(inputs[n], role)) for n in (*before, *parts, *after)]
        if not any(pieces) or sum(map(len, pieces)) > MAX_JOINED_CHARS:
            return ()
        delimiter = next((self.value(v) for n, v in inputs.items() if DELIMITER.fullmatch(n)), None)
        return (_concatenate([piece for piece in pieces if piece], delimiter),)

    def _named(self, inputs: Inputs, role: Role) -> Texts:
        texts = self._first((name for name in TEXTS if _is_text(inputs.get(name))), inputs, role)
        find, replace = self.value(inputs.get("find")), self.value(inputs.get("replace"))
        if isinstance(find, str) and find and isinstance(replace, str):
            made = tuple(text.replace(find, replace) for text in texts)
            return made if sum(map(len, made)) <= MAX_JOINED_CHARS else texts
        return texts

    def _passed_on(self, inputs: Inputs, role: Role) -> Texts:
        links = [n for n, v in inputs.items() if isinstance(v, Link) and not OTHER.fullmatch(n)]
        return self._first(sorted(links, key=_pipe), inputs, role)

    def _any(self, inputs: Inputs, role: Role) -> Texts:
        texts = [
            value
            for name, value in inputs.items()
            if isinstance(value, str) and " " in value.strip() and not OTHER.fullmatch(name)
        ]
        return (max(texts, key=len),) if texts else ()

    # --- settings ------------------------------------------------------------------------------

    def value(self, value: Any) -> Any:
        """A number or a text, followed through the nodes that hold nothing else."""
        for _ in range(10):
            if not isinstance(value, Link):
                return value
            node = self._graph.get(value.node)
            if node is None:
                return None
            names = ("value", "int", "float", "number", "seed", "noise_seed", "boolean", *TEXTS)
            values = (node.inputs[name] for name in names if name in node.inputs)
            value = next(values, next(iter(node.inputs.values()), None))
        return None

    def model(self, start: Node) -> str | None:
        """Name of the checkpoint behind a node."""
        waiting, seen = [start], 0
        visited: set[str] = set()
        while waiting and seen < MAX_HOPS:
            node, seen = waiting.pop(), seen + 1
            name = found.first(node.inputs, MODELS)
            if name:
                return name
            links = [
                value.node
                for name, value in node.inputs.items()
                if isinstance(value, Link)
                and ("model" in name or name == "guider" or _pipe(name) or name in ("any", ""))
                and value.node in self._graph
                and value.node not in visited
            ]
            visited.update(links)
            waiting += [self._graph[key] for key in reversed(links)]
        return None

    def settings(self, samplers: list[Node]) -> dict[str, Any]:
        """Settings of the first sampler, those of its pieces among them, and the picture's size."""
        if not samplers:
            return {}
        pieces = [samplers[0]]
        for name in ("sigmas", "sampler", "noise", "guider"):
            pieces += self._linked(samplers[0].inputs.get(name))
        numbers: dict[str, Any] = {}
        for node in reversed(pieces):
            for name, value in node.inputs.items():
                value = self.value(value) if name in NUMBERS else value
                if isinstance(value, str | int | float) and not _is_role(name):
                    numbers[name] = value
        return found.settings({**self._size(samplers[0]), **numbers})

    def _linked(self, value: Any) -> list[Node]:
        return (
            [self._graph[value.node]]
            if isinstance(value, Link) and value.node in self._graph
            else []
        )

    def _size(self, sampler: Node) -> dict[str, Any]:
        node: Node | None = sampler
        for _ in range(20):
            if node is None:
                break
            size = self._size_of(node)
            if size:
                return size
            links = [
                v for n, v in node.inputs.items() if "latent" in n or n == "samples" or _pipe(n)
            ]
            node = next((some for link in links for some in self._linked(link)), None)
        empty = (
            n
            for n in self._graph.values()
            if "empty" in n.kind.lower() and "latent" in n.kind.lower()
        )
        return next(filter(None, map(self._size_of, empty)), {})

    def _size_of(self, node: Node) -> dict[str, Any]:
        for prefix in ("", "empty_latent_"):
            size = {
                side: self.value(node.inputs.get(prefix + side)) for side in ("width", "height")
            }
            if all(isinstance(side, int) for side in size.values()):
                return size
        return {}


def _is_text(value: Any) -> bool:
    return isinstance(value, str | Link)


def _concatenate(pieces: list[str], delimiter: Any) -> str:
    """``pieces`` with the delimiter between them; without one, a comma where nothing else is."""
    if isinstance(delimiter, str):
        return _DELIMITERS.get(delimiter.strip().lower(), delimiter).join(pieces)
    joined = pieces[0]
    for piece in pieces[1:]:
        parted = joined[-1:] in " \n,.;" or piece[:1] in " \n,.;"
        joined += piece if parted else ", " + piece
    return joined
