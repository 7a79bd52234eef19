"""What people do to many prompts at once: words before, words after, replacing, tags.

Each function gives the new text, or the same one where there is nothing to do; so doing it twice
is doing it once.
"""

from __future__ import annotations

import re

_JOINED = re.compile(r"[,.;:!?)\]]")


def with_prefix(text: str, prefix: str) -> str:
    """With the prefix before it, and a space between."""
    prefix = prefix.strip()
    return text if text.casefold().startswith(prefix.casefold()) else f"{prefix} {text}".strip()


def with_suffix(text: str, suffix: str) -> str:
    """With the suffix after it, and a space between unless that begins with punctuation."""
    suffix = suffix.strip()
    if text.casefold().endswith(suffix.casefold()):
        return text
    return f"{text}{'' if _JOINED.match(suffix) else ' '}{suffix}".strip()


def with_trigger(text: str, word: str) -> str:
    """With a trigger word as the first tag, unless it is among the words already."""
    word = word.strip().strip(",").strip()
    there = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
    return text if there else f"{word}, {text}".strip(", ")


def replaced(text: str, old: str, new: str) -> str:
    """With every `old` replaced, also within words; case matters. What `new` contains is not
    replaced again where it stands already."""
    return _replaced(text, re.escape(old), new) if old else text


def with_word_replaced(text: str, old: str, new: str) -> str:
    """As :func:`replaced`, but only where `old` is no piece of a longer word."""
    old = old.strip()
    return _replaced(text, rf"(?<!\w){re.escape(old)}(?!\w)", new.strip()) if old else text


def _replaced(text: str, pattern: str, new: str) -> str:
    there = re.search(pattern, new)
    if there:
        before, after = re.escape(new[: there.start()]), re.escape(new[there.end() :])
        pattern = f"(?<!{before})" * bool(before) + pattern + f"(?!{after})" * bool(after)
    return re.sub(pattern, lambda _: new, text)


def tags(text: str) -> list[str]:
    """Its parts between commas, each once."""
    return list(dict.fromkeys(tag for one in text.split(",") if (tag := one.strip())))


def with_tag_renamed(text: str, old: str, new: str) -> str:
    """With another tag in place of one; case does not matter."""
    found = tags(text)
    if not any(_same(tag, old) for tag in found):
        return text
    return ", ".join(dict.fromkeys(new.strip() if _same(tag, old) else tag for tag in found))


def without_tag(text: str, tag: str) -> str:
    """Without one of its tags; case does not matter."""
    found = tags(text)
    left = [one for one in found if not _same(one, tag)]
    return text if len(left) == len(found) else ", ".join(left)


def _same(one: str, other: str) -> bool:
    return one.casefold() == other.strip().casefold()
