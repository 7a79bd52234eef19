"""Text of files whose encoding nobody wrote down: found, or refused; never guessed into nonsense.

Marks and strict UTF-8 decide nearly all files. Of the rest, UTF-16 shows by its zero bytes, and
Western European text by words that are mostly ASCII. What remains is charset-normalizer's to tell,
and believed where the characters are those that people of that script write all the time.
"""

from __future__ import annotations

import codecs
import logging
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE_BYTES = 1 << 16
CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
"""Control characters that no text has: all but tabs and the ends of lines and pages."""
_WESTERN = re.compile(r"[\t-\r -~\xa0-\xff€…ŠšŒœŽžŸ‘’“”•–—™]+")
_WORD = re.compile(r"[^\W\d_]+")
_RARE = re.compile(r"[¡¢¤¥¦¨¬¯¶¸¹¼½¾×÷þÞðÐ]{2}|[a-zß-ÿ][A-ZÀ-Þ]{2}|\w[¤¦¨¬¯¶¸]\w")
_NO_WORDS = frozenset("ªºþÞðÐßÿŸµƒ")
_EUROPEAN = re.compile(r"[\t-\r -~\xa0-\u024f\u0370-\u045f\u2010-\u2026€™\ufeff]")
_CYRILLIC = re.compile(r"[А-Яа-яЁёІіЇїЄєҐґЎў«»–—“”„…№\s]")
_COMMON_BYTES = {
    "cp932": (r"[ぁ-んァ-ヶー、。・「」！？　]", "shift_jis", 0x88, 0x97),
    "gb18030": (r"[，。、；：！？（）“”《》　]", "gb2312", 0xB0, 0xD7),
    "cp949": (r"[　]", "euc_kr", 0xB0, 0xC8),
    "big5": (r"[，。、；：！？（）「」　]", "big5", 0xA4, 0xC6),
}
"""Encoding -> its signs, and the narrower encoding's first bytes that have the usual characters:
JIS X 0208 level 1, GB 2312 level 1, the syllables of KS X 1001, Big5 level 1."""


def decode_text(data: bytes) -> str:
    """The text of a small file. Raises ValueError, which says why it is none."""
    name = encoding_of(data)
    try:
        text = data.decode(name)
    except UnicodeDecodeError as error:
        where = f"byte {error.start:,}"
        raise ValueError(f"not valid {name.upper()} at {where}; save it as UTF-8") from error
    if CONTROL.search(text):
        raise ValueError("holds control characters, so it is no text")
    return text.removeprefix("\ufeff")


def encoding_of(data: bytes, *, whole: bool = True) -> str:
    """The name of the codec that reads ``data``, the start of a file unless it is ``whole``.

    Raises ValueError for bytes that are no text in any encoding that is known here.
    """
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    sample = data[:_SAMPLE_BYTES]
    if b"\0" in sample:
        return _with_zeros(sample)
    as_utf8 = _decoded(data, "utf-8", whole=whole)
    if as_utf8 is not None and not CONTROL.search(as_utf8):
        return "utf-8"
    found = _western(sample) or _guessed(sample)
    if found is None:
        known = "not text in an encoding that surd knows"
        why = known if as_utf8 is None else "holds control characters, so it is no text"
        raise ValueError(f"{why}; save it as UTF-8")
    return found


def _decoded(data: bytes, name: str, *, whole: bool = False) -> str | None:
    """None where the codec does not fit. A character cut off at the end is a fault of the whole."""
    try:
        return codecs.getincrementaldecoder(name)().decode(data, final=whole)
    except UnicodeDecodeError:
        return None


def _with_zeros(sample: bytes) -> str:
    """UTF-16, whose characters below 256 have one zero byte each, on the same side."""
    first, second = sample[0::2].count(0), sample[1::2].count(0)
    name = "utf-16-be" if first > second else "utf-16-le"
    text = _decoded(sample, name)
    if min(first, second) == 0 and text and _is_wide_text(text):
        return name
    raise ValueError("holds zero bytes, so it is no text; save it as UTF-8")


def _is_wide_text(text: str) -> bool:
    """Whether nearly all of it is in Europe's letters and signs, or usual in East Asia."""
    others = "".join(char for char in text if not _EUROPEAN.fullmatch(char))
    if CONTROL.search(text) or (len(others) == 1 and len(text) < 20):
        return False
    return not others or max(_common_share(others, name) for name in _COMMON_BYTES) >= 0.9


def _western(sample: bytes) -> str | None:
    """cp1252, where each word is of ASCII letters for the most part, or a single letter."""
    text = _decoded(sample, "cp1252")
    if text is None or not _WESTERN.fullmatch(text) or _is_nearly_utf8(sample):
        return None
    high = [word for word in _WORD.findall(text) if not word.isascii()]
    fit = all(
        sum(char.isascii() for char in word) >= len(word) // 2 and word not in _NO_WORDS
        for word in high
    )
    prose = sum(char.isalpha() or char.isspace() for char in text) * 2 >= len(text)
    return "cp1252" if fit and prose and not _RARE.search(text) else None


def _is_nearly_utf8(sample: bytes) -> bool:
    """UTF-8 with some bytes damaged."""
    text = sample.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    return sum(not char.isascii() for char in text) > 2 * bad


def _guessed(sample: bytes) -> str | None:
    from charset_normalizer import from_bytes

    logging.getLogger("charset_normalizer").setLevel(logging.WARNING)
    names = [name for name in _COMMON_BYTES if _common_share(_decoded(sample, name), name) >= 0.9]
    cyrillic = _decoded(sample, "cp1251")
    if cyrillic is not None and _is_russian(cyrillic):
        names.append("cp1251")
    if len(names) > 1:
        found = from_bytes(sample, cp_isolation=names, enable_fallback=False)
        chaos = {match.encoding: match.chaos for match in found}
        names.sort(key=lambda name: chaos.get(name, 1.0))
    if names:
        return names[0]
    for name in ("utf-16-le", "utf-16-be"):  # without a single character below 256
        text = _decoded(sample, name, whole=True)
        if text and not text.isascii() and _is_wide_text(text):
            return name
    return None


def _common_share(text: str | None, name: str) -> float:
    """Of the characters that are not ASCII, how many are among the usual ones of ``name``."""
    if text is None or CONTROL.search(text):
        return 0.0
    signs, narrow, first, last = _COMMON_BYTES[name]
    others = [char for char in text if not char.isascii()]
    common = 0
    for char in others:
        encoded = char.encode(narrow, "ignore")
        common += bool(re.match(signs, char)) or (len(encoded) == 2 and first <= encoded[0] <= last)
    return common / len(others) if others else 0.0


def _is_russian(text: str) -> bool:
    """Cyrillic words, whole ones, whose capitals stand where capitals do."""
    others = [char for char in text if not char.isascii()]
    words = [word for word in _WORD.findall(text) if not word.isascii()]
    return (
        not CONTROL.search(text)
        and any(len(word) >= 3 for word in words)
        and all(_CYRILLIC.fullmatch(char) for char in others)
        and all(word.islower() or word.istitle() or word.isupper() for word in words)
        and not any(char.isascii() for word in words for char in word)
    )
