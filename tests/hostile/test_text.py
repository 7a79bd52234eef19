"""Prompts of strangers: terminals, pages and paths see text, and nothing that acts."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import Ran
from hypothesis import given, settings
from hypothesis import strategies as st
from support import pictures
from support_faults import small_settings
from support_publish import RECIPE, make_workspace, samples

from surd.cli.printing import log_to_stderr, print_json, say, shown, warn
from surd.demo.site import Site

Surd = Callable[..., Ran]
HOSTILE = [
    "\x1b[2J\x1b[31mred\x1b]0;owned\x07",
    "\x9b31mred",
    "safe\rsurd: all is well",
    "gpj.\u202eevil\u2066 isolate \u2069",
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "$(touch pwned) `touch pwned` ; touch pwned",
    "../../../etc/passwd",
    "zero\u200bwidth\ufeff and nul \x00 and \ud800 lone",
    "=cmd|'/C calc'!A0",
    "{{7*7}} {% raw %} ${7*7}",
    "%s %n {0} {prompt}",
]


def assert_harmless(text: str) -> None:
    """Nothing in it steers a terminal or turns the direction of what follows."""
    for character in text:
        acts = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn")
        assert character == "\n" or not acts, f"{character!r} in {text[:200]!r}"


@pytest.fixture(scope="module")
def site() -> Site:
    shown_there = [
        replace(picture, prompt=f"a cat, {text}", username=text, negative_prompt=text)
        for picture, text in zip(pictures(len(HOSTILE)), HOSTILE, strict=True)
    ]
    return Site(shown_there)


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_is_said_is_harmless(capsys: pytest.CaptureFixture[str], text: str) -> None:
    say(f"a line of {text}\nand another")
    told = capsys.readouterr().out
    assert_harmless(told)
    assert told.count("\n") == 2
    print_json({"a": text, text: [text]})
    told = capsys.readouterr().out
    assert_harmless(told)
    assert json.loads(told) == {"a": text, text: [text]}


def test_a_workspace_whose_recipe_has_a_name_that_acts_is_told_harmlessly(
    surd: Surd, tmp_path: Path
) -> None:
    make_workspace(tmp_path, [samples(2)], recipe=RECIPE | {"name": HOSTILE[0]})
    for options in ((), ("--json",)):
        ran = surd("status", tmp_path, *options)
        assert ran.code == 0
        assert "owned" in ran.out
        assert_harmless(ran.out + ran.err)


def test_terminals_see_no_control_characters_of_strangers(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    with site:
        built = surd("build", "civitai", "-o", tmp_path, *small_settings(site, until="prompts"))
    assert built.code == 0
    said = [built]
    said += [surd("inspect", tmp_path), surd("inspect", tmp_path, "cat"), surd("status", tmp_path)]
    for id_ in pq.read_table(tmp_path / "samples", columns=["id"])["id"].to_pylist():
        said.append(surd("inspect", tmp_path, id_))
    said.append(surd("inspect", tmp_path, "\x1b[31m no such \u202e words"))
    for ran in said:
        assert_harmless(ran.out)
        assert_harmless(ran.err)
    names = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert not [name for name in names if "cat" in name or "pwned" in name]
    assert not (tmp_path / "pwned").exists() and not Path("pwned").exists()


def test_cleaned_prompts_hold_words_and_nothing_that_acts(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    with site:
        surd("build", "civitai", "-o", tmp_path, *small_settings(site, until="prompts"))
    rows = pq.read_table(tmp_path / "prompts", columns=["complex_prompt", "status"]).to_pylist()
    refused = [row for row in rows if row["status"] == "not_text"]
    assert 0 < len(refused) < len(rows) / 2  # those that steer a terminal
    for row in rows:
        if row in refused:
            assert row["complex_prompt"] is None
        else:
            assert row["complex_prompt"].startswith("a cat")
            assert_harmless(row["complex_prompt"])


@given(st.text())
@settings(max_examples=200)
def test_any_text_is_shown_on_one_line_without_effects(text: str) -> None:
    assert_harmless(shown(text))
    assert "\n" not in shown(text)
    assert_harmless(shown([text, {"prompt": text}]))


@given(st.text())
@settings(max_examples=100)
def test_any_warning_and_any_line_of_a_log_is_harmless(text: str) -> None:
    with contextlib.redirect_stderr(io.StringIO()) as told:
        warn(text)
    assert told.getvalue().startswith("surd: ")
    assert_harmless(told.getvalue())


def test_a_log_with_a_prompt_in_it_is_harmless(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    log_to_stderr()
    logging.getLogger("surd").warning("no vector: %s", "; ".join(HOSTILE))
    said = capsys.readouterr().err
    assert said.startswith("surd: no vector: \\x1b[2J")
    assert_harmless(said)
