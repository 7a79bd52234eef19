"""What fuzzing kept, and what once went wrong, is read again at every test. See run.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_fuzz import TARGETS

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.rglob("*") if path.is_file())

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of broken files


@pytest.mark.parametrize("name", TARGETS)
def test_every_target_has_files_to_begin_with(name: str) -> None:
    assert [path for path in FILES if path.parent.name == name]


@pytest.mark.parametrize("name", TARGETS)
def test_what_was_kept_is_read_or_refused_with_a_verdict(name: str) -> None:
    for path in FILES:
        if path.parent.name == name:
            try:
                TARGETS[name](path.read_bytes())
            except BaseException as error:
                raise AssertionError(f"{path.name}: {error!r}") from error


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in FILES) < 300_000
