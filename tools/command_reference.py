"""Every command, as Markdown: ``python -m tools.command_reference > docs/cli.md``."""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from typer.models import ArgumentInfo, OptionInfo

from surd.cli.app import COMMANDS

_INTRO = """\
# Commands

`surd COMMAND --help` shows the same text as this page, which is generated from the code. Results go
to standard output and everything else to standard error; `--json` prints one JSON object. Exit
codes: 0 done, 1 done with failed parts or too many failures, 2 something to fix (one line says
what), 130 stopped by Ctrl-C. `surd --version` prints the version.

An option that is not given comes from the environment, if it is there: `SURD_EVALUATE_LIMIT=10` is
`surd evaluate --limit 10`, and `SURD_TRAIN_ADAPTER_STEPS=100` is `surd train-adapter --steps 100`.
"""


@dataclass(frozen=True)
class Parameter:
    """An argument or an option of a command, as its function declares it."""

    names: tuple[str, ...]
    """``--output``, ``-o``; of an argument its metavar."""
    value: str
    """What stands for its value: ``DIR``, ``N``, ``last|mean``; empty for a flag."""
    default: Any
    help: str
    is_argument: bool
    required: bool


def cli_reference() -> str:
    """The whole page."""
    sections = [_INTRO]
    for purpose, commands in COMMANDS.items():
        sections.append(f"## {purpose}\n")
        sections += [_section(name, function) for name, function in commands.items()]
    return "\n".join(sections)


def _section(name: str, function: Callable[..., Any]) -> str:
    parameters = parameters_of(function)
    told, _, example = (inspect.getdoc(function) or "").partition("Example: ")
    lines = [f"### surd {name}", "", told.strip(), "", "```sh", _usage(name, parameters)]
    if example:
        lines += ["", f"{example.strip()}  # for example"]
    lines += ["```", ""]
    if parameters:
        lines += ["| | default | |", "|---|---|---|", *map(_row, parameters), ""]
    return "\n".join(lines)


def parameters_of(function: Callable[..., Any]) -> list[Parameter]:
    """What a command takes, arguments first, in the order of its signature."""
    hints = typing.get_type_hints(function, include_extras=True)
    found = [
        _parameter(name, hints[name], parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    ]
    return sorted(found, key=lambda parameter: not parameter.is_argument)


def _parameter(name: str, hint: Any, default: Any) -> Parameter:
    annotation, *metadata = typing.get_args(hint)
    info = next(one for one in metadata if isinstance(one, ArgumentInfo | OptionInfo))
    required = default is inspect.Parameter.empty
    is_argument = isinstance(info, ArgumentInfo)
    value = info.metavar or _value(annotation, info)
    if is_argument:
        names: tuple[str, ...] = (value,)
    else:
        told = (info.default, *(info.param_decls or ()))  # typer takes the first name for a default
        names = tuple(one for one in told if isinstance(one, str)) or (
            f"--{name.replace('_', '-')}",
        )
    return Parameter(
        names, value, None if required else default, info.help or "", is_argument, required
    )


def _value(annotation: Any, info: ArgumentInfo | OptionInfo) -> str:
    """What stands for a value that has no metavar."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _value(next(one for one in arguments if one is not type(None)), info)
    if origin is list:
        return _value(arguments[0], info)
    if origin is Literal:
        return "|".join(map(str, arguments))
    return {bool: "", int: "N", float: "X", Path: "PATH"}.get(annotation, "TEXT")


def _usage(name: str, parameters: list[Parameter]) -> str:
    words = ["surd", name]
    for one in parameters:
        shown = one.value if one.is_argument else f"{one.names[0]} {one.value}"
        if one.required:
            words.append(shown)
        elif one.is_argument:
            words.append(f"[{shown}]")
    if any(not one.is_argument and not one.required for one in parameters):
        words.append("[OPTIONS]")
    return " ".join(words)


def _row(one: Parameter) -> str:
    value = "" if one.is_argument or not one.value else f" {one.value}"
    shown = ", ".join(f"`{name}{value if name == one.names[0] else ''}`" for name in one.names)
    default = "required" if one.required else ""
    if one.default not in (None, False, ""):
        default = f"`{one.default if isinstance(one.default, str) else json.dumps(one.default)}`"
    return f"| {_cell(shown)} | {default} | {_cell(one.help)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(cli_reference(), end="")
