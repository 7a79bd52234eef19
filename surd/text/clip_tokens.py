r"""How many tokens CLIP's text encoder sees in a prompt.

CLIP reads lower-cased byte pair encoding (Radford et al. 2021, arXiv:2103.00020, section 2.4). The
format of its vocabulary file, the cleaning, and the pattern that splits text into words are those
of ``clip/simple_tokenizer.py`` in https://github.com/openai/CLIP; the counts are those of
``open_clip.tokenizer.SimpleTokenizer``. open_clip imports torch, so only its vocabulary file is
used, and a process that counts tokens stays small and starts fast.

Words are split with ``regex``, as CLIP does, and only words not seen before go through the BPE of
``tokenizers``: prompts repeat their words, so this is faster than encoding whole texts, and the
Unicode tables behind ``\p{L}`` are the same ones.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import ftfy
import regex
from tokenizers.models import BPE

_VOCABULARY_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49_152 - 256 - 2  # as CLIP cuts the file, which holds more
_END_OF_WORD = "</w>"
_SPECIAL = ("<start_of_text>", "<end_of_text>")
_WORD = regex.compile(
    "|".join([*_SPECIAL, r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"]),
    regex.IGNORECASE,
)
# ASCII that cleaning may change: HTML entities, and control characters other than tab and newline.
_UNCLEAN = regex.compile(r"[&\x00-\x08\x0b-\x1f\x7f]")
_CACHED_WORD_CHARS = 32


def load() -> Callable[[Sequence[str]], list[int]]:
    """Return a function from texts to their token counts, start and end tokens not counted."""
    count_word = _word_counter(_byte_pair_encoding(_vocabulary_path()))
    count_cached = lru_cache(maxsize=1 << 16)(count_word)

    def count(texts: Sequence[str]) -> list[int]:
        return [
            sum(
                count_cached(word) if len(word) <= _CACHED_WORD_CHARS else count_word(word)
                for word in _WORD.findall(_clean(text))
            )
            for text in texts
        ]

    return count


def _vocabulary_path() -> Path:
    package = find_spec("open_clip")
    for folder in (package.submodule_search_locations if package else None) or []:
        path = Path(folder) / _VOCABULARY_FILE
        if path.is_file():
            return path
    raise ModuleNotFoundError(
        f"counting CLIP tokens needs {_VOCABULARY_FILE} of the package open_clip, "
        "which is not installed: pip install open_clip_torch",
        name="open_clip",
    )


def _byte_symbols() -> list[str]:
    """The character that stands for each byte: itself if printable in Latin-1, else 256 and up."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), 256)} - {0xAD}
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _byte_pair_encoding(path: Path) -> BPE:
    """Read the vocabulary: a version line, then one merge a line, most frequent first."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        lines = file.read().split("\n")[1 : 1 + _MERGES]
    merges = [(left, right) for left, right in (line.split() for line in lines)]
    symbols = _byte_symbols()
    pieces = [
        *symbols,
        *(symbol + _END_OF_WORD for symbol in symbols),
        *(left + right for left, right in merges),
    ]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    return BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=_END_OF_WORD)


def _word_counter(encoding: BPE) -> Callable[[str], int]:
    symbols = _byte_symbols()

    def count(word: str) -> int:
        if word in _SPECIAL:
            return 1
        return len(encoding.tokenize("".join(symbols[byte] for byte in word.encode())))

    return count


def _clean(text: str) -> str:
    if not text.isascii() or _UNCLEAN.search(text):
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()
