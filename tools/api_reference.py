"""The names to import, as Markdown: ``python -m tools.api_reference > docs/api.md``.

Signatures and words are those of the code; what an attribute says of itself stands below it as a
string, which only the source has.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from itertools import pairwise
from typing import Any

_INTRO = """\
# Python

Four names are public and keep their place: `surd.frame`, `surd.load_embeddings`,
`surd.load_adapter` and `surd.Workspace`. `import surd` loads neither torch nor pandas before they
are used. The other names on this page are what these return and what the pages use besides; their
modules may change between versions. Everything else is done by [commands](cli.md), which read and
write the same workspace; [the notebook](notebook.ipynb) shows both together. This page is generated
from the docstrings.

In shapes, *b* is the batch, *s* the tokens of a text, *d* and *h* the widths of the diffusion
model's text embeddings and of the language model's states.
"""

SECTIONS = {
    "Public names": ("surd.frame", "surd.load_embeddings", "surd.load_adapter", "surd.Workspace"),
    "What they return": (
        "surd.llm.embeddings.Embeddings",
        "surd.adapter.Adapter",
        "surd.adapter.Adapted",
    ),
    "More of vectors, adapters and runs": (
        "surd.llm.embeddings.load_texts",
        "surd.llm.embeddings.TextVectors",
        "surd.adapter.encoding.prompt_inputs",
        "surd.adapter.from_official",
        "surd.report.runs.compare.sheet",
    ),
    "Errors": (
        "surd.errors.SurdError",
        "surd.errors.RecipeError",
        "surd.errors.WorkspaceError",
        "surd.errors.SourceError",
        "surd.errors.ModelError",
    ),
}
SHOWN = {
    "surd.Workspace": ("read_manifest", "parts", "part_info", "read", "read_batches", "verify"),
}
"""Members of a class most of whose others are for surd's own writing."""
_WIDTH = 88


class _Written:
    """An annotation as the source writes it, without the quotes of a string."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def api_reference() -> str:
    """The whole page."""
    sections = [_INTRO]
    for title, names in SECTIONS.items():
        sections.append(f"## {title}\n")
        sections += [_entry(name) for name in names]
    return "\n".join(sections)


def _entry(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    thing = getattr(import_module(module), attribute)
    lines = [f"### {name}", "", "```python", _heading(name, thing), "```", "", _text(thing), ""]
    if inspect.isclass(thing):
        for member, signature, text in _members(thing):
            if member in SHOWN.get(name, (member,)):
                lines += [f"- `{signature}`", "", textwrap.indent(text, "    "), ""]
    return "\n".join(lines)


def _heading(name: str, thing: Any) -> str:
    """How it is called; of a class that others make, what it is."""
    if not inspect.isclass(thing) or name in SECTIONS["Public names"]:
        return signature_of(name, thing)
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(thing))).body
    assert isinstance(node, ast.ClassDef)
    return f"class {node.name}({', '.join(map(ast.unparse, node.bases))})"


def signature_of(name: str, function: Any, width: int | None = _WIDTH) -> str:
    """``name(parameter: type = default, …) -> type``; where that is wider, a parameter a line."""
    signature = inspect.signature(function)
    if inspect.isclass(function):
        signature = signature.replace(return_annotation=inspect.Signature.empty)
    else:
        signature = signature.replace(return_annotation=_written(signature.return_annotation))
    parameters = [
        parameter.replace(annotation=_written(parameter.annotation))
        for parameter in signature.parameters.values()
        if parameter.name != "self"
    ]
    signature = signature.replace(parameters=parameters)
    shown = f"{name}{signature}"
    if width is None or len(shown) <= width:
        return shown
    bare = str(signature.replace(parameters=[]))
    starred = any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in parameters)
    each = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not starred:
            each.append("*")
            starred = True
        each.append(str(parameter))
    inside = "".join(f"    {one},\n" for one in each)
    return f"{name}(\n{inside}){bare.removeprefix('()')}"


def _written(annotation: Any) -> Any:
    return _Written(annotation) if isinstance(annotation, str) else annotation


def _members(kind: type) -> Iterator[tuple[str, str, str]]:
    """Name, signature and words of the attributes and methods that say what they are."""
    yield from _attributes(kind)
    for name, member in vars(kind).items():
        if name.startswith("_") and name != "__getitem__":
            continue
        if isinstance(member, property) and member.fget is not None:
            returns = inspect.signature(member.fget).return_annotation
            yield name, f"{name}: {returns}", _text(member)
        elif inspect.isfunction(member):
            yield name, signature_of(name, member, width=None), _text(member)


def _attributes(kind: type) -> Iterator[tuple[str, str, str]]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    for scope in ast.walk(tree):
        if isinstance(scope, ast.ClassDef) or getattr(scope, "name", "") == "__init__":
            body: list[ast.stmt] = scope.body  # type: ignore[attr-defined]
            for statement, after in pairwise(body):
                said = getattr(after, "value", None)
                if not isinstance(after, ast.Expr) or not isinstance(said, ast.Constant):
                    continue
                target: ast.expr
                if isinstance(statement, ast.AnnAssign):
                    target, hint = statement.target, f": {ast.unparse(statement.annotation)}"
                elif isinstance(statement, ast.Assign):
                    target, hint = statement.targets[0], ""
                else:
                    continue
                name = ast.unparse(target).removeprefix("self.")
                if not name.startswith("_"):
                    yield name, name + hint, _markdown(inspect.cleandoc(str(said.value)))


def _text(thing: Any) -> str:
    return _markdown(inspect.getdoc(thing) or "")


def _markdown(docstring: str) -> str:
    """What a docstring marks as code in reStructuredText's ways, in Markdown's."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring)
    return text.replace("``", "`")


if __name__ == "__main__":
    print(api_reference(), end="")
