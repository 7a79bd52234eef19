"""Prompts: from what the source gave to words, networks, weights, language and length."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import islice
from typing import Any

import pyarrow as pa
from pydantic import Field

from surd.params import Params
from surd.stages.base import Batch, Stage, StageFunction
from surd.store.schema import PROMPTS
from surd.text.generation.found import as_object
from surd.text.prompt_syntax import ParsedPrompt, parse


class PromptsParams(Params):
    """How prompts are cleaned and described."""

    repair: bool = Field(
        default=True,
        description="repair mojibake and HTML entities (ftfy), and compose characters (Unicode "
        "NFC)",
    )
    max_chars: int = Field(
        default=10_000,
        ge=1,
        description="longer prompts get the status too_long and are not processed",
    )
    language: bool = Field(default=True, description="guess the language of the prompt")


CountTokens = Callable[[Sequence[str]], list[int]]
GuessLanguage = Callable[[str], str | None]


def open_(params: PromptsParams) -> StageFunction:
    """Load the CLIP vocabulary and the language model; return the function that does the work."""
    from surd.text import clip_tokens

    count_tokens = clip_tokens.load()
    guess_language = _load_language() if params.language else None

    def describe(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            yield _describe(batch.table, params, count_tokens, guess_language)

    return describe


def _describe(
    table: pa.Table,
    params: PromptsParams,
    count_tokens: CountTokens,
    guess_language: GuessLanguage | None,
) -> pa.Table:
    """Columns ``id``, ``prompt`` and ``settings`` -> the columns of the group."""
    told = zip(table["prompt"].to_pylist(), table["settings"].to_pylist(), strict=True)
    rows = [_read(prompt, _generator(settings), params) for prompt, settings in told]
    ok = [row for row in rows if row["status"] == "ok"]
    counts = count_tokens([row["complex_prompt"] for row in ok])
    for row, count in zip(ok, counts, strict=True):
        row["token_count"] = count
        row["language"] = guess_language(row["complex_prompt"]) if guess_language else None
    columns = [
        pa.array([row.get(field.name) for row in rows], type=field.type)
        for field in PROMPTS
        if field.name != "id"
    ]
    return pa.Table.from_arrays([table["id"], *columns], schema=PROMPTS)


def _generator(settings: str | None) -> str | None:
    """The generator that a sample's settings name, whose syntax its prompt has."""
    if settings is None or '"generator"' not in settings:
        return None
    generator = as_object(settings).get("generator")
    return generator if isinstance(generator, str) else None


def _read(prompt: str | None, generator: str | None, params: PromptsParams) -> dict[str, Any]:
    """One row, less what is counted and guessed in batches. What is not there is null."""
    if prompt is None:
        return {"status": "missing"}
    if len(prompt) > params.max_chars:
        return {"status": "too_long"}
    if len(_NO_TEXT.findall(prompt)) * 10 > len(prompt):
        return {"status": "not_text"}
    text, repaired = _repair(prompt) if params.repair else (prompt, False)
    text = _remove_invisible(text)
    if params.repair:
        text = unicodedata.normalize("NFC", text)
    return {"repaired": repaired, **_row(parse(text, generator))}


def _row(parsed: ParsedPrompt) -> dict[str, Any]:
    words = _has_words(parsed.text)
    return {
        "status": "ok" if words else "empty",
        "complex_prompt": parsed.text if words else None,
        "networks": [
            {"kind": network.kind, "name": network.name, "weight": network.weight}
            for network in parsed.networks
        ],
        "weights": [{"text": piece.text, "weight": piece.weight} for piece in parsed.weights],
        "wildcards": list(parsed.wildcards),
        "segments": min(parsed.segments, _MAX_INT16),
    }


_MAX_INT16 = 2**15 - 1


def _has_words(text: str) -> bool:
    """Letters and digits are words, and so is an emoji; punctuation is not."""
    return any(char.isalnum() or unicodedata.category(char) == "So" for char in text)


_NEEDS_NO_REPAIR = re.compile(r"[\t\n -%'-~]*")  # ASCII without "&"
_DECODING = {"encode", "decode", "transcode"}


# Mojibake and entities are accidents on the way here, so they are undone. Curly quotes, ligatures
# and fullwidth letters are how the author wrote it and what the generator read, so they stay; a
# fullwidth bracket is no syntax to a generator. Entities are undone even beside "<", which ftfy
# would take for a sign of HTML: here it opens a network.
@cache
def _repairer() -> Callable[[str], tuple[str, list[Any] | None]]:
    """A line -> the line repaired, and ftfy's steps."""
    import ftfy

    how = ftfy.TextFixerConfig(
        unescape_html=True,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,  # these three are done here, with or without ftfy
        remove_control_chars=False,
        normalization=None,
    )
    return partial(ftfy.fix_and_explain, config=how)


def _repair(text: str) -> tuple[str, bool]:
    """The text repaired, and whether there was mojibake in it."""
    if _NEEDS_NO_REPAIR.fullmatch(text):
        return text, False
    repair = _repairer()
    lines, mojibake = [], False
    for line in text.split("\n"):  # each may have been damaged in its own way
        fixed, steps = repair(line)
        lines.append(fixed)
        mojibake = mojibake or any(
            step.action in _DECODING or step.parameter == "decode_inconsistent_utf8"
            for step in steps or ()
        )
    return "\n".join(lines), mojibake


_NO_TEXT = re.compile("[\x01-\x08\x0e-\x1f\x7f\ufffd\ud800-\uf8ff\ufdd0-\ufdef\ufffe\uffff]")
"""Characters of bytes that were no text, or text of another encoding."""
_EMOJI = "\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_JOINING_SCRIPTS = "\u0600-\u0dff"  # Arabic to Sinhala, which spell with (non-)joiners
_LINE_END = re.compile("\r\n?|[\v\f\x85\u2028\u2029]")
_INVISIBLE = re.compile(
    "(\U0001f3f4[\U000e0020-\U000e007f]+)"  # a flag spelled with tag characters, which stays
    "|[\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0 and C1 controls
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional marks and overrides
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"
    "\ufff9-\ufffb\ufffe\uffff\ud800-\udfff\U000e0000-\U000e007f]"  # no width, no character, no use
    f"|(?<![{_JOINING_SCRIPTS}])\u200c|\u200c(?![{_JOINING_SCRIPTS}])"
    f"|(?<![{_JOINING_SCRIPTS}{_EMOJI}])\u200d|\u200d(?![{_JOINING_SCRIPTS}{_EMOJI}])"
)


def _remove_invisible(text: str) -> str:
    """Without characters that show nothing; every kind of line end becomes a newline."""
    return _INVISIBLE.sub(r"\1", _LINE_END.sub("\n", text))


_MIN_LETTERS = 3


def _load_language() -> GuessLanguage:
    """Load py3langid's model: naive Bayes over byte n-grams."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)

    def guess(text: str) -> str | None:
        if len(list(islice(filter(str.isalpha, text), _MIN_LETTERS))) < _MIN_LETTERS:
            return None
        language, _ = identifier.classify(text)
        return str(language)

    return guess


STAGE = Stage(
    name="prompts",
    group="prompts",
    version=2,
    reads={"samples": ("prompt", "settings")},
    schema=PROMPTS,
    params=PromptsParams,
    open=open_,
    workers="cores",
)
