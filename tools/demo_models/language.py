"""The tokenizers of the demo world, trained on its own language."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import BertTokenizerFast, CLIPTokenizer

from surd.demo.scenes import Scene, all_scenes, split_of
from surd.demo.vocabulary import WordSet, complex_prompt, negative_prompt, simple_sentence
from surd.text.prompt_syntax import parse
from tools.demo_models.sizes import CONTEXT_TOKENS

_MERGES = 700
_START, _END = "<|startoftext|>", "<|endoftext|>"


def tags(scene: Scene, seed: int) -> str:
    """A complex prompt as the prompts stage leaves it: without weights and LoRA tags."""
    return parse(complex_prompt(scene, seed=seed)).text


def corpus(words: WordSet, contrasts: bool = True) -> Iterator[str]:
    """What the tokenizers learn from: both languages, training scenes only."""
    rng = random.Random(0)
    for scene in all_scenes():
        if split_of(scene) == "train":
            for _ in range(20):
                yield tags(scene, rng.randrange(10**9))
                seed = rng.randrange(10**9)
                yield simple_sentence(scene, seed=seed, words=words, contrasts=contrasts)
            yield negative_prompt(rng.randrange(10**9))


def make_clip_tokenizer(contrasts: bool = True) -> CLIPTokenizer:
    """A CLIPTokenizer (lower-cased byte-level BPE with ``</w>``) with a small vocabulary."""
    learner = Tokenizer(BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_words(), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=2 * len(alphabet) + _MERGES,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    learner.train_from_iterator(corpus("all", contrasts), trainer)
    learnt = json.loads(learner.to_str())["model"]
    pieces = sorted(alphabet) + [f"{char}</w>" for char in sorted(alphabet)]
    merges = [tuple(merge) for merge in learnt["merges"]]
    pieces += [left + right for left, right in merges]
    pieces = [*dict.fromkeys(pieces), _START, _END]  # the end has the highest id: CLIP pools there
    return CLIPTokenizer(
        vocab={piece: index for index, piece in enumerate(pieces)},
        merges=merges,
        model_max_length=CONTEXT_TOKENS,
        pad_token=_END,
        unk_token=_END,
    )


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
