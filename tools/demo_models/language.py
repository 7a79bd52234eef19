"""The tokenizers of the demo world, trained on its own language."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

from tokenizers import Regex, pre_tokenizers
from transformers import BertTokenizerFast, CLIPTokenizer

from surd.demo.scenes import Pair, Scene, all_pairs, all_scenes, split_of
from surd.demo.sentences import simple_sentence
from surd.demo.tags import complex_prompt, negative_prompt
from surd.demo.words import WordSet
from surd.text.prompt_syntax import parse
from tools.demo_models.sizes import CONTEXT_TOKENS

_MERGES = 1000
_WORD_END = "</w>"
_START, _END = "<|startoftext|>", "<|endoftext|>"


def tags(scene: Scene | Pair, seed: int) -> str:
    """A complex prompt as the prompts stage leaves it: without weights and LoRA tags."""
    return parse(complex_prompt(scene, seed=seed)).text


def sentence(scene: Scene | Pair, seed: int, words: WordSet, *, plain: bool = False) -> str:
    """What is said of it; where it shall be `plain`, in plain words and without contrasts."""
    if not plain:
        return simple_sentence(scene, seed=seed, words=words)
    return simple_sentence(scene, seed=seed, words=words, manner="plain", ordered=False)


def corpus(words: WordSet, plain: bool = False) -> Iterator[str]:
    """What the tokenizers learn from: both languages, training scenes only."""
    rng = random.Random(0)
    scenes: list[Scene | Pair] = [scene for scene in all_scenes() if split_of(scene) == "train"]
    scenes += rng.sample(all_pairs("train"), len(scenes) // 4)
    for scene in scenes:
        for _ in range(20):
            yield tags(scene, rng.randrange(10**9))
            yield sentence(scene, rng.randrange(10**9), words, plain=plain)
        yield negative_prompt(rng.randrange(10**9))


def make_clip_tokenizer(plain: bool = False) -> CLIPTokenizer:
    """A CLIPTokenizer (lower-cased byte-level BPE with ``</w>``) with a small vocabulary."""
    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_words(), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts = Counter(
        word for text in corpus("all", plain) for word, _ in splitter.pre_tokenize_str(text.lower())
    )
    merges = _merges(counts)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = alphabet + [char + _WORD_END for char in alphabet]
    pieces += [left + right for left, right in merges]
    pieces = [*dict.fromkeys(pieces), _START, _END]  # the end has the highest id: CLIP pools there
    return CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=merges,
        model_max_length=CONTEXT_TOKENS,
        pad_token=_END,
        unk_token=_END,
    )


def _merges(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """The pairs that byte pair encoding merges first; of equally frequent ones, the first by name.

    The tokenizers library's own trainer takes those in an order that changes from call to call.
    """
    words = {word: [*word[:-1], word[-1] + _WORD_END] for word in counts}
    merges: list[tuple[str, str]] = []
    while len(merges) < _MERGES:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, parts in words.items():
            for pair in pairwise(parts):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = {word: _merged(parts, best) for word, parts in words.items()}
    return merges


def _merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    done: list[str] = []
    for part in parts:
        if done and (done[-1], part) == pair:
            done[-1] += part
        else:
            done.append(part)
    return done


def _words() -> Regex:
    return Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")


def make_caption_tokenizer(folder: Path) -> BertTokenizerFast:
    """BLIP's tokenizer (BERT's, with [DEC] and [ENC]) over the words of simple sentences."""
    words = sorted({word for text in corpus("train") for word in _split_words(text)})
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    pieces = [*specials, *words]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    tokenizer = BertTokenizerFast(
        vocab={piece: index for index, piece in enumerate(pieces)}, do_lower_case=True
    )
    tokenizer.add_special_tokens({"bos_token": "[DEC]"})
    return tokenizer


def _split_words(text: str) -> list[str]:
    return [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text.lower())]
