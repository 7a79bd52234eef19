"""Tokenizers of each family: few words, and its real special tokens, ids and settings."""

from __future__ import annotations

import functools
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import open_clip.tokenizer
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from tokenizers import processors as post

from real_names.weights import write_json

SENTENCES = (
    "two red cups on a table",
    "a man in a blue coat walks a small dog through the snow at night",
    "a painting of a woman with long green hair, masterpiece, best quality",
    "an old house near the sea under a cloudy sky",
    "three white birds on a branch with flowers",
    "a black cat sleeps on the warm stone in front of a yellow door",
    "Describe this picture in one short sentence. Answer with one word or number.",
    "how many apples are there? what color is the car? is the child running?",
)
WORDS = sorted({w.strip(".,?").lower() for s in SENTENCES for w in s.split()} | {"yes", "no"})
"""What a model with these can say."""
_BERT_SIZE = 30522
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'-():;"


def clip_tokenizer(folder: Path, pad: str = "<|endoftext|>", window: int = 77) -> None:
    """CLIP's own vocabulary, which open_clip brings, in the files of transformers."""
    vocabulary, merges = _clip_words()
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    end = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    bos, eos = ({"content": f"<|{name}oftext|>", **end} for name in ("start", "end"))
    special = {"bos_token": bos, "eos_token": eos, "pad_token": pad, "unk_token": eos}
    write_json(folder / "special_tokens_map.json", special)
    as_tokens = {k: v | {"__type": "AddedToken"} if isinstance(v, dict) else v
                 for k, v in special.items()}  # fmt: skip
    write_json(folder / "tokenizer_config.json", as_tokens | {
        "add_prefix_space": False, "do_lower_case": True, "errors": "replace",
        "model_max_length": window, "name_or_path": "openai/clip-vit-large-patch14",
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
    })  # fmt: skip


@functools.cache
def _clip_words() -> tuple[dict[str, int], list[str]]:
    packed = Path(open_clip.tokenizer.__file__).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(packed.read_bytes()).decode().split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    letters = list(open_clip.tokenizer.bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["".join(merge.split()) for merge in merges]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}, merges


def bert_words() -> list[str]:
    """bert-base-uncased's number of words, its special ones in their places."""
    first = ["[PAD]", *(f"[unused{n}]" for n in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*_LETTERS, *(f"##{letter}" for letter in _LETTERS)]
    known = list(dict.fromkeys([*first, *pieces, *WORDS]))
    rest = (f"[unused{n}]" for n in range(99, _BERT_SIZE))
    return [*known, *itertools.islice(rest, _BERT_SIZE - len(known))]


def bert_tokenizer(folder: Path, window: int = 512, **more: Any) -> None:
    """Of BERT and the BLIPs."""
    folder.mkdir(parents=True, exist_ok=True)
    words = bert_words()
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    tokenizer = Tokenizer(models.WordPiece({w: n for n, w in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = post.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 101), ("[SEP]", 102)],
    )  # fmt: skip
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    special = {
        "cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]",
        "sep_token": "[SEP]", "unk_token": "[UNK]",
    }  # fmt: skip
    tokenizer.add_special_tokens(list(special.values()))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "special_tokens_map.json", special)
    write_json(folder / "tokenizer_config.json", special | {
        "do_basic_tokenize": True, "do_lower_case": True, "model_max_length": window,
        "never_split": None, "strip_accents": None, "tokenize_chinese_chars": True,
        "tokenizer_class": "BertTokenizer", **more,
    })  # fmt: skip


def byte_level(
    special: tuple[str, ...] = (), first: tuple[str, ...] = (), special_from: int = 0
) -> Tokenizer:
    """GPT-2's kind: letters are bytes. `first` have the lowest ids, `special` those from a number
    on, up to which it knows words that nobody writes."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=list(first), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    trained.train_from_iterator(SENTENCES, trainer)
    known = json.loads(trained.to_str())["model"]
    words = known["vocab"] | {f"unused{n}": n for n in range(len(known["vocab"]), special_from)}
    merges = [tuple(merge) for merge in known["merges"]]
    tokenizer = Tokenizer(models.BPE(words, merges))
    tokenizer.pre_tokenizer = trained.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in (*first, *special)])
    return tokenizer


def metaspace_bpe(first: tuple[str, ...], bytes_from: int = 3) -> Tokenizer:
    """Llama's kind, converted from sentencepiece: a blank is a letter, unknown ones are bytes."""
    letters = [*first[:bytes_from], *(f"<0x{n:02X}>" for n in range(256)), *first[bytes_from:]]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=letters, show_progress=False)
    tokenizer.train_from_iterator([s.replace(" ", " ▁").split(" ") for s in SENTENCES], trainer)
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    return tokenizer


def t5_tokenizer(folder: Path, pad: str = "<pad>", **more: Any) -> None:
    """Of T5 and SigLIP: whole words by their probability, an end and no beginning."""
    tokenizer = Tokenizer(models.Unigram(
        [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
        + [(f"▁{word}", -3.0) for word in WORDS], unk_id=2,
    ))  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = post.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    save_fast(folder, tokenizer, **{
        "eos_token": "</s>", "pad_token": pad, "unk_token": "<unk>", "model_max_length": 512,
        "tokenizer_class": "T5Tokenizer", **more,
    })  # fmt: skip


def save_fast(folder: Path, tokenizer: Tokenizer, **config: Any) -> None:
    """tokenizer.json, and tokenizer_config.json as given; vocab and merges beside where asked."""
    folder.mkdir(parents=True, exist_ok=True)
    if config.pop("beside", False):
        tokenizer.model.save(str(folder))
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", config)
