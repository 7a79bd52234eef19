"""What surd's errors have in common: they cross processes, and name commands that there are."""

from __future__ import annotations

import ast
import importlib
import inspect
import pickle
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from support_docs import ROOT
from typer.main import get_command

from surd.cli.app import app
from surd.errors import RecipeError, SurdError, command
from surd.recipe.load import find_recipe, load_recipe, override_recipe
from surd.recipe.pipeline import STAGES
from surd.store.schema import MADE_BY
from surd.store.workspace import DamagedPartError

# Across processes


@cache
def trees() -> list[tuple[Path, ast.Module]]:
    """Every file of surd, parsed."""
    paths = sorted((ROOT / "surd").rglob("*.py"))
    return [(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


def all_errors() -> list[type[Exception]]:
    """Every exception that surd defines."""
    found: list[type[Exception]] = []
    for path, tree in trees():
        if not any(isinstance(node, ast.ClassDef) for node in tree.body):
            continue
        there = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
        found += [
            value
            for value in vars(there).values()
            if isinstance(value, type)
            and issubclass(value, Exception)
            and value.__module__ == there.__name__
        ]
    return found


def an_example(kind: type[Exception]) -> Exception:
    """One made from what its constructor asks for."""
    if kind.__init__ in (Exception.__init__, ValueError.__init__, OSError.__init__):
        return kind("what, where and the mend")
    parameters = list(inspect.signature(kind).parameters.values())
    values: list[object] = [7 if "int" in str(p.annotation) else p.name for p in parameters]
    return kind(*values)


def test_every_error_is_the_same_in_another_process() -> None:
    kinds = all_errors()
    assert len(kinds) > 10
    for kind in kinds:
        error = an_example(kind)
        there = pickle.loads(pickle.dumps(error))
        assert type(there) is kind
        assert str(there) == str(error) != "", kind
        assert vars(there) == vars(error), kind


def test_the_errors_that_are_asked_are_all_there_are() -> None:
    def below(kind: type[SurdError]) -> set[type[SurdError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {kind for kind in below(SurdError) if kind.__module__.startswith("surd.")}
    assert ours <= set(all_errors()) and DamagedPartError in ours


# The commands they name

_GROUP: Any = get_command(app)
_VALUE = "1"
"""Stands in for what is not known before the message is made: a name, a path or a number."""
_OTHERS = re.compile(r"pip install|index-url|ray (?:job|start)|var\(--|^---")
"""Options of other programs, of pages, front matter."""


@cache
def messages() -> list[tuple[str, str]]:
    """Every text in the code but docstrings: where it is, and what it says."""
    return list(_messages())


def _messages() -> Iterator[tuple[str, str]]:
    for path, tree in trees():
        nodes = list(ast.walk(tree))
        apart = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        apart |= {id(v) for node in nodes if isinstance(node, ast.JoinedStr) for v in node.values}
        for node in nodes:
            if id(node) in apart:
                continue
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield where, node.value
            elif isinstance(node, ast.JoinedStr):
                yield where, "".join(map(_known, node.values))


def _known(node: ast.expr) -> str:
    return str(node.value) if isinstance(node, ast.Constant) else _VALUE


def made_commands() -> Iterator[tuple[str, list[str]]]:
    """Where :func:`surd.errors.command` is called, and with which words."""
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command":
                words = [_known(word) for word in node.args if not isinstance(word, ast.Starred)]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", words


def written_commands(text: str) -> list[list[str]]:
    """Those that stand whole in a message, after a colon."""
    found = re.findall(r': surd ((?:"[^"]*"|[^;,`"\n(])+)', text)
    return [shlex.split(one) for one in found]


def check(words: list[str]) -> None:
    """Raises ValueError where the command line would refuse them."""
    name, *arguments = words
    if name not in _GROUP.commands:
        raise ValueError(f"no such command: {name}")
    try:
        _GROUP.commands[name].make_context(name, arguments)
    except Exception as error:  # click's UsageError, or that of a copy which typer brings
        raise ValueError(f"{shlex.join(words)}: {error}") from error


def test_a_command_that_a_message_tells_to_run_is_one_that_surd_takes() -> None:
    whole = [
        *(one for one in made_commands() if one[1][0] != _VALUE),
        *((where, words) for where, text in messages() for words in written_commands(text)),
    ]
    assert len(whole) > 30
    wrong = []
    for where, words in whole:
        try:
            check(words)
        except ValueError as error:
            wrong.append(f"{where}: {error}")
    assert wrong == []


def test_stages_that_messages_name_are_commands() -> None:
    named = {*MADE_BY.values(), *(stage.name for stage in STAGES)}
    for name in named:
        check([name, "my-data"])


def test_commands_that_messages_speak_of_are_there() -> None:
    spoken = [
        (where, name)
        for where, text in messages()
        for name in re.findall(r"\b(?:run|with|only|what) surd (?!on\b)([a-z][a-z-]*)", text)
    ]
    assert len(spoken) > 10
    assert [one for one in spoken if one[1] not in _GROUP.commands] == []


def test_options_that_messages_speak_of_are_there() -> None:
    known = {
        option
        for one in _GROUP.commands.values()
        for below in getattr(one, "commands", {"": one}).values()
        for parameter in below.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    spoken = [
        (where, option)
        for where, text in messages()
        if " " in text and not _OTHERS.search(text)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)
    ]
    assert len(spoken) > 30
    assert [one for one in spoken if one[1] not in known | {"--help", "--version"}] == []


def test_keys_that_messages_tell_to_set_are_there() -> None:
    recipes = [load_recipe(find_recipe(name)) for name in ("demo", "folder")]
    keys = {
        key for _, text in messages() for key in re.findall(r"--set ([a-z_]+\.[a-z_.\d]+)=", text)
    }
    assert "demo_site.port" in keys
    unknown = []
    for key in keys:
        errors = []
        for recipe in recipes:
            try:
                override_recipe(recipe, [f"{key}=1"])
            except RecipeError as error:  # 1 may be no value of it
                errors += [key] if "unknown key" in str(error) else []
        unknown += [key] if len(errors) == len(recipes) else []
    assert unknown == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["bild", "-o", "x"], "no such command"),
        (["build", "-p", "x"], "No such option"),
        (["publish"], "Missing"),
        (["build", "-o", "x", "--until"], "requires an argument"),
    ],
)
def test_a_command_that_is_wrong_would_be_found(words: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check(words)


def test_commands_are_found_where_messages_have_them() -> None:
    text = 'x: no; run: surd score a --set b=c, or surd d; draw: surd generate --adapter R "two e"'
    assert written_commands(text) == [
        ["score", "a", "--set", "b=c"],
        ["generate", "--adapter", "R", "two e"],
    ]


def test_a_command_can_be_copied_whatever_the_folder_is_called(tmp_path: Path) -> None:
    shown = command("filter", tmp_path / "it's mine; rm", "--set", "a=[1, 2]")
    assert shlex.split(shown) == [
        "surd", "filter", str(tmp_path / "it's mine; rm"), "--set", "a=[1, 2]",
    ]  # fmt: skip
