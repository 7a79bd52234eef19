"""The baseline that needs no training: a language model rewrites each prompt before it is drawn."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from surd.dataset.published import batches, open_published
from surd.errors import SurdError
from surd.models.completion import load_completion
from surd.models.hub import identity_of
from surd.models.names import public_name
from surd.params import SERVED
from surd.progress import track
from surd.store.storage import Storage
from surd.text.chat_answers import unwrapped
from surd.untrusted import parse_json, read_regular

log = logging.getLogger("surd")

Rewrite = Callable[[Sequence[str]], list[str | None]]
"""Simple prompts to complex ones, one for each; an empty one where nothing comes to mind, None
where a server gives no answer."""
Pair = tuple[str, str]
"""A simple prompt and its complex one."""
FOLDER = "rewriting"
_VERSION = 1
"""Raised when the same model and examples give other prompts."""
_EXAMPLES = 8
_AT_ONCE = 64
"""Prompts, after which the file is written again."""
_LONGEST_CHARS = 400
"""Of a complex prompt that is an example: about what a text encoder reads."""
_LONGEST_TOKENS = 100
"""Of what is written."""
_TASK = "Each sentence is rewritten as a prompt for an image generator.\n\n"
_TASK_OF_CHATS = (
    "You rewrite each sentence as a prompt for an image generator, in the manner of the examples. "
    "Answer with the prompt alone."
)


def examples_of(location: str, seed: int = 0) -> list[Pair]:
    """Pairs of a published dataset's training split, never of its test split: always the same ones
    for a seed. Raises SurdError."""
    dataset = open_published(location)
    pairs = {
        (row["simple_prompt"], row["complex_prompt"])
        for table in batches(dataset, "train", ["simple_prompt", "complex_prompt"])
        for row in table.to_pylist()
        if all(row.values()) and len(row["complex_prompt"]) <= _LONGEST_CHARS
    }
    if not pairs:
        raise SurdError(
            f"{location}: its training split has no pair of prompts to show the language model "
            "how to rewrite; name another --dataset"
        )
    return random.Random(seed).sample(sorted(pairs), min(_EXAMPLES, len(pairs)))


def rewriter(
    name: str, examples: Sequence[Pair], *, device: torch.device, dtype: torch.dtype
) -> Rewrite:
    """A language model, here or on a server, that is shown examples (Brown et al. 2020,
    arXiv:2005.14165), and writes the most likely text. Raises ModelError."""
    if name.startswith(SERVED):
        return partial(_by_server, name, examples)
    complete = load_completion(name, device=device, dtype=dtype, most_tokens=_LONGEST_TOKENS)
    shown = _TASK + "".join(f"{_asked(simple)} {complex_}\n\n" for simple, complex_ in examples)

    def rewrite(texts: Sequence[str]) -> list[str | None]:
        return [_each_once(line) for line in complete(shown, [_asked(text) for text in texts])]

    return rewrite


def _by_server(name: str, examples: Sequence[Pair], texts: Sequence[str]) -> list[str | None]:
    """By a chat in which the model has rewritten the examples."""
    from surd.models.served import ask_texts, open_chat
    from surd.net.chat import UnansweredError

    before = [{"role": "system", "content": _TASK_OF_CHATS}]
    for simple, complex_ in examples:
        before += [
            {"role": "user", "content": simple},
            {"role": "assistant", "content": complex_},
        ]
    asked = [[*before, {"role": "user", "content": text}] for text in texts]
    with open_chat(name) as chat:
        found = ask_texts(chat, asked, max_tokens=_LONGEST_TOKENS)
    lost = [some for some in found if isinstance(some, UnansweredError)]
    if lost:
        log.warning("%s: %d of %d prompts: %s", name, len(lost), len(found), lost[0])
    return [
        None
        if isinstance(some, UnansweredError)
        else _each_once(" ".join(unwrapped(some.text).split()))
        for some in found
    ]


def _asked(simple: str) -> str:
    return f"Sentence: {simple}\nPrompt:"


def _each_once(line: str) -> str:
    """The line without tags it has already, which small models repeat to the end."""
    return ", ".join(dict.fromkeys(tag for tag in map(str.strip, line.split(",")) if tag))


def rewritten(
    texts: Sequence[str],
    folder: Path,
    name: str,
    examples: Sequence[Pair],
    load: Callable[[], Rewrite],
    *,
    quiet: bool = False,
) -> dict[str, str]:
    """Text -> what the language model `name` makes of it, kept in a file below `folder`.

    `load` is called where one is missing there. A text of which nothing is made stays as it is; one
    without an answer as well, and is asked again the next time. Raises SurdError.
    """
    file, _ = _place(name, examples)
    found = _read(folder / file)
    missing = [text for text in dict.fromkeys(texts) if text not in found]
    if missing:
        rewrite = load()
        file, about = _place(name, examples)  # the commit of a model is known once it is loaded
        with track("rewrite", len(missing), quiet=quiet) as tick:
            for first in range(0, len(missing), _AT_ONCE):
                some = missing[first : first + _AT_ONCE]
                made = dict(zip(some, rewrite(some), strict=True))
                found |= {text: prompt for text, prompt in made.items() if prompt is not None}
                content = json.dumps(about | {"prompts": found}, indent=2, ensure_ascii=False)
                Storage(str(folder)).write_bytes(file, content.encode() + b"\n")
                tick({"ok": len(some)})
    silent = [text for text in dict.fromkeys(texts) if not found.get(text)]
    if silent:
        log.warning(
            "%s makes nothing of %d prompts, such as '%s'; they are drawn as they are",
            public_name(name),
            len(silent),
            silent[0],
        )
    return {text: found.get(text) or text for text in texts}


def _place(name: str, examples: Sequence[Pair]) -> tuple[str, dict[str, Any]]:
    """The name of the file, and all that what is in it depends on."""
    about = {
        "format": "surd-rewriting-1",
        "version": _VERSION,
        "model": identity_of(name, "config.json"),
        "name": public_name(name),
        "examples": [list(pair) for pair in examples],
    }
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    return f"{FOLDER}/{digest}.json", about


def _read(path: Path) -> dict[str, str]:
    try:
        found = parse_json(read_regular(path))["prompts"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SurdError(f"{path}: cannot be read: {error}; delete it") from error
    if not isinstance(found, Mapping):
        raise SurdError(f"{path}: prompts is not an object; delete it")
    return {str(text): str(prompt) for text, prompt in found.items()}
