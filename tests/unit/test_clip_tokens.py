"""CLIP token counts: the known ones, and the same as open_clip's for any text."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.text import clip_tokens

Counter = Callable[[Sequence[str]], list[int]]


@pytest.fixture(scope="module")
def count() -> Counter:
    return clip_tokens.load()


@pytest.fixture(scope="module")
def reference() -> Any:
    if importlib.util.find_spec("torch") is None:
        pytest.skip("open_clip's own tokenizer needs torch, which is not installed")
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("   \n", 0),
        ("a", 1),
        ("a photo of a cat", 5),
        ("A PHOTO  of\na cat", 5),
        ("masterpiece, best quality, 1girl", 7),
        ("it's", 2),
        ("8k", 2),
        ("1234", 4),
        ("fish &amp; chips", 3),
        ("<start_of_text>", 1),
        ("😀", 1),
    ],
)
def test_known_counts(count: Counter, text: str, tokens: int) -> None:
    assert count([text]) == [tokens]


def test_texts_are_counted_one_by_one_in_order(count: Counter) -> None:
    assert count([]) == []
    assert count(["a cat", "", "a big cat"]) == [2, 0, 3]


ODD = [
    "masterpiece, (best quality:1.4), 8k uhd, dslr, Fujifilm XT3, by Greg Rutkowski",
    "3girls' don't we'll I'M she'd 'S 'ſ ''s",
    "spring (season), bea (pokemon), upon_body, from_below ^__^ :3",
    "1/2 ½ Ⅷ ² 10,000 １２",
    "“curly” it’s — ﬁne… Ａ",
    "voilÃ  le cafÃ© â€™ â€œ",
    "&lt;b&gt; &amp;amp;lt; &notit; &#128512; &#x0;",
    "日本語のプロンプト、美しい少女 한국어 العربية हिन्दी",
    "👍🏽 👨‍👩‍👧 🏳️‍🌈 ❤️",
    "İstanbul ẞ ǅ Σς",
    "a\x00b\x0bc\x1b[31md\x85e\u2028f\ufeffg\u200b",
    "<start_of_text> !!<end_of_text>?",
    "a" * 300 + "!" * 300 + "é" * 50,
]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_count_as_in_open_clip(count: Counter, reference: Any, text: str) -> None:
    assert count([text]) == [len(reference.encode(text))]


PIECES = [*"aehinorst ,.!'’_0129&;#éß中あ😀\u200d\u0301\x00\n", "the", "ing", "'s", "&amp;", "Ã©"]


@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_any_text_counts_as_in_open_clip(count: Counter, reference: Any, text: str) -> None:
    assert count([text]) == [len(reference.encode(text))]


def test_counting_does_not_import_torch() -> None:
    code = (
        "import sys; from surd.text.clip_tokens import load; load()(['a cat']); print(*sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"torch", "open_clip"} & set(result.stdout.split())


def test_without_open_clip_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_tokens, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install open_clip_torch"):
        clip_tokens.load()
