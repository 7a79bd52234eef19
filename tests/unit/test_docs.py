"""The pages: they build without a warning, and say what the code says."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

import pytest
import pythons
from support_docs import ROOT, anchors, blocks, built, commands, links, slug

import surd
from surd.doctor import libraries
from surd.recipe.json_schema import json_schemas

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "data/**/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("docs") / "site")


def test_the_pages_build_without_a_warning(site: Path) -> None:
    assert {"index.html", "cli.html", "recipes.html"} <= {path.name for path in site.iterdir()}


def test_the_pages_ask_nothing_of_other_sites(site: Path) -> None:
    loads = r'<(?:script|img|iframe)[^>]*\ssrc="?(?:https?:)?//'
    styles = r'<link[^>]*rel="?(?:stylesheet|preconnect)[^>]*//'
    for page in site.rglob("*.html"):
        assert not re.search(f"{loads}|{styles}", page.read_text(encoding="utf-8")), page.name


def test_links_out_of_docs_are_words_on_the_built_pages(site: Path) -> None:
    text = (site / "adapter.html").read_text(encoding="utf-8")
    assert "(data/prompts)" in text and "../data" not in text


def test_a_bar_in_the_code_of_a_table_has_no_backslash_before_it(site: Path) -> None:
    text = (site / "cli.html").read_text(encoding="utf-8")
    assert "<code>--clip-threshold N|pN|auto|null</code>" in text
    assert not re.search(r"<td[^>]*>.*\\\|", text)


@pytest.mark.parametrize(
    ("repository", "shown"),
    [
        (None, "[b](c.md) and data/x and d"),
        (
            "https://host.example/surd/",
            "[b](c.md) and [data/x](https://host.example/surd/blob/HEAD/data/x) and "
            "[d](https://host.example/surd/blob/HEAD/README.md#d)",
        ),
    ],
)
def test_links_out_of_docs_lead_to_the_repository_where_one_is_named(
    repository: str | None, shown: str
) -> None:
    replaced = runpy.run_path(str(ROOT / "docs" / "hooks.py"))["on_page_markdown"]
    page = SimpleNamespace(file=SimpleNamespace(src_uri="tutorials/a.md"))
    config = SimpleNamespace(repo_url=repository)
    text = "[b](c.md) and [data/x](../../data/x) and [d](../../README.md#d)"
    assert replaced(text, page=page, config=config, files=None) == shown


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_files_lead_to_a_file_and_a_heading(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{page.name}: {link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}: no such heading"


def test_a_broken_link_and_a_broken_anchor_would_be_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Who & *what*?\n\n[a](b.md) [c](#d) `[no](link)`\n\n```md\n# no\n[x](y)\n```\n"
    )
    assert links(page) == ["b.md", "#d"]
    assert anchors(page) == {"who--what"} == {slug("Who & *what*?")}


def test_commands_of_a_block_have_neither_comments_nor_continuations(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('# P\n\n```sh\nsurd a   # b\n# c\nsurd "d#e" \\\n  --f\n```\n\n```\nx\n```\n')
    shell, other = blocks(page)
    assert (shell.language, shell.line, other.language) == ("sh", 4, "")
    assert [(one.text, one.line) for one in commands(shell)] == [
        ("surd a", 4),
        ('surd "d#e" --f', 6),
    ]


def test_the_commands_page_is_what_the_code_says() -> None:
    from tools.command_reference import cli_reference

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == cli_reference(), "run: python -m tools.command_reference > docs/cli.md"


def test_every_command_and_option_is_on_the_commands_page() -> None:
    """Asked of the command line itself, not of the page's maker."""
    from typer.main import get_command

    from surd.cli.app import app

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for name, command in _commands(get_command(app)):
        _, found, section = page.partition(f"### surd {name}\n")
        assert found, f"surd {name} is missing"
        section = section.partition("\n##")[0]
        assert f"surd {name}" in section.partition("for example")[0], f"{name} has no example"
        for parameter in command.params:
            shown = [o for o in parameter.opts if o.startswith("--")]
            for option in shown:
                assert f"`{option}" in section, f"surd {name} {option} is missing"


def test_the_python_page_is_what_the_code_says() -> None:
    from tools.api_reference import api_reference

    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == api_reference(), "run: python -m tools.api_reference > docs/api.md"


def test_every_public_name_and_every_import_of_a_page_is_on_the_python_page() -> None:
    """Asked of the package and of the pages, not of the page's maker."""
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    names = {f"surd.{name}" for name in surd.__all__}
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in (one for one in blocks(path) if one.language == "python"):
            imports = re.findall(r"^from (surd[\w.]*) import (.+)$", block.text, re.MULTILINE)
            names |= {f"{module}.{name}" for module, some in imports for name in some.split(", ")}
    for name in names:
        assert f"### {name}\n" in page, f"{name} is missing"


def test_a_signature_on_the_python_page_is_the_sources_own() -> None:
    from tools.api_reference import signature_of

    def short(self: object, a: Path, *, b: str = "x") -> list[int]:
        return []

    assert signature_of("f", short) == "f(a: Path, *, b: str = 'x') -> list[int]"
    assert signature_of("f", short, width=20) == (
        "f(\n    a: Path,\n    *,\n    b: str = 'x',\n) -> list[int]"
    )


def _commands(group: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += _commands(command, f"{prefix}{name} ")
        else:
            found.append((prefix + name, command))
    return found


def test_every_recipe_key_is_on_the_recipes_page() -> None:
    """Asked of the JSON Schema, not of the page's maker."""
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    schema = json_schemas()["recipe"]
    tables = [
        set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE)) for part in page.split("\n## ")
    ]
    for name, model in {"Recipe": schema, **schema["$defs"]}.items():
        assert set(model["properties"]) in tables, f"{name} has no table of all its keys"


def test_paths_that_pages_for_maintainers_name_are_there() -> None:
    pages = [ROOT / "CONTRIBUTING.md", *(ROOT / "docs" / "decisions").glob("*.md")]
    for page in [ROOT / "docs" / "architecture.md", *pages]:
        text = page.read_text(encoding="utf-8")
        for path in re.findall(r"`((?:surd|tools|tests|pipelines|docs)/[\w./*]*)`", text):
            assert list(ROOT.glob(path.rstrip("/"))), f"{page.name}: {path}: no such file"


def test_the_architecture_page_draws_the_layers_that_lint_checks() -> None:
    contract = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (layers,) = re.findall(r"^layers = \[\n(.*?)^\]", contract, re.DOTALL | re.MULTILINE)
    page = ROOT / "docs" / "architecture.md"
    picture = next(block.text for block in blocks(page) if "imports run downwards" in block.text)
    drawn = re.findall(r"^  (\S.*?)  ", picture, re.MULTILINE)
    assert drawn == [name for name in re.findall(r'"(.+)"', layers) if name != "__main__"]


def test_decisions_are_numbered_dated_and_listed_with_their_status() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(
        r"^\| (\d{4}) \| \[(.+)\]\((\w+\.md)#.+\) \| ([\w ]+) \| (\d{4}-\d\d-\d\d) \|$",
        (folder / "index.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert [int(number) for number, *_ in listed] == [*range(1, len(listed) + 1)]
    records = []
    for page in folder.glob("*.md"):
        for number, title, status, by, date in re.findall(
            r"^## (\d{4}) (.+)\n\n"
            r"\*(Accepted|Withdrawn|Superseded by \[(\d{4})\]\S+), (\d{4}-\d\d-\d\d)\.\*$",
            page.read_text(encoding="utf-8"),
            re.MULTILINE,
        ):
            short = f"superseded by {by}" if by else status.lower()
            records.append((number, title, page.name, short, date))
    assert sorted(records) == listed


def test_every_place_names_the_same_oldest_python() -> None:
    oldest = pythons.promised()[0]
    lines = {
        "README.md": f"With Python {oldest} or newer,",
        "Makefile": f"only Python ({oldest} or newer)",
        "pyproject.toml": f'requires-python = ">={oldest}"',
        ".ruff": f'target-version = "py{oldest.replace(".", "")}"',
        ".mypy": f'python_version = "{oldest}"',
    }
    for name, line in lines.items():
        text = (ROOT / ("pyproject.toml" if name[0] == "." else name)).read_text("utf-8")
        assert line in text, f"{name}: {line}"
    assert ".".join(map(str, libraries._PYTHON)) == oldest


def test_a_promised_python_that_is_not_on_the_machine_is_not_taken_for_another() -> None:
    assert pythons.interpreter("3.99") is None
    here = ".".join(map(str, sys.version_info[:2]))
    assert pythons.interpreter(here) == Path(sys.executable)
