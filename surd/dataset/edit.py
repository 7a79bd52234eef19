"""Editing simple prompts: one of them, or many at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from surd.dataset.simple_prompts import candidates_of, simple_prompts
from surd.errors import SurdError
from surd.store import edits
from surd.store.workspace import Workspace
from surd.text import prompt_edits

Change = Callable[[str], str]
_EXAMPLES = 5


@dataclass(frozen=True)
class Outcome:
    """What an edit did, or would do."""

    changed: int
    unchanged: int
    without: int
    """Samples that have no simple prompt yet, which is therefore not changed."""
    emptied: int
    """Samples that would have no word left, and are left as they are."""
    refused: int = 0
    """Samples whose new text would be no prompt, and that are left as they are."""
    examples: list[tuple[str, str, str]] = field(default_factory=list)
    """Id, old text and new text of the first ones."""
    edit: str | None = None
    """Its name; None where nothing was written."""


BULK: dict[str, tuple[int, Callable[..., str]]] = {
    "prefix": (1, prompt_edits.with_prefix),
    "suffix": (1, prompt_edits.with_suffix),
    "trigger": (1, prompt_edits.with_trigger),
    "replace": (2, prompt_edits.replaced),
    "replace-word": (2, prompt_edits.with_word_replaced),
    "rename-tag": (2, prompt_edits.with_tag_renamed),
    "remove-tag": (1, prompt_edits.without_tag),
}
"""Name -> how many words it is given, and what it makes of a text with them."""


def change_of(name: str, *words: str) -> Change:
    """One of BULK with its words. Raises SurdError where the first of them is empty."""
    if not words[0].strip():
        raise SurdError(f"--{name}: is empty; write some words")
    if name == "rename-tag" and not words[1].strip():
        raise SurdError("--rename-tag: the new name is empty; take --remove-tag")
    function = BULK[name][1]
    return lambda text: function(text, *words)


def what_of(action: str, words: Sequence[str]) -> str:
    """An action in words, for the history."""
    if action in BULK:
        return f"{action.replace('-', ' ')} {' with '.join(map(repr, words))}"
    return {"simple": "written", "reset": "back to the proposal"}[action]


def change_all(
    workspace: Workspace,
    change: Change,
    what: str,
    *,
    ids: Collection[str] | None = None,
    containing: str | None = None,
    write: bool = True,
) -> Outcome:
    """Change the simple prompts of some samples, or of all, in one edit.

    `containing`: only those with this text, whatever its case. Raises SurdError before anything is
    written.
    """
    texts: dict[str, str | None] = {}
    examples: list[tuple[str, str, str]] = []
    unchanged = without = emptied = refused = 0
    wanted = None if ids is None else set(ids)
    for id_, old in simple_prompts(workspace, edits.read(workspace)):
        if wanted is not None and id_ not in wanted:
            continue
        if old is None:
            without += 1
            continue
        if containing is not None and containing.casefold() not in old.casefold():
            continue
        new = change(old)
        if not new.strip():
            emptied += 1
            continue
        try:
            cleaned = edits.clean(new)
        except SurdError:
            refused += 1
            continue
        if new == old or cleaned == old:
            unchanged += 1
        else:
            texts[id_] = cleaned
            if len(examples) < _EXAMPLES:
                examples.append((id_, old, cleaned))
    name = edits.write(workspace, texts, what) if write and texts else None
    return Outcome(len(texts), unchanged, without, emptied, refused, examples, name)


def write_one(
    workspace: Workspace, ids: Collection[str], text: str | None, what: str, *, write: bool = True
) -> Outcome:
    """Give samples a text, or with None the one that is proposed."""
    now = dict(simple_prompts(workspace, edits.read(workspace)))
    written = edits.current(workspace)
    new = None if text is None else edits.clean(text)
    changed = {
        id_: new for id_ in ids if (id_ in written if new is None else written.get(id_) != new)
    }
    name = edits.write(workspace, changed, what) if write and changed else None
    examples = [(id_, now[id_] or "", new or "what is proposed") for id_ in changed][:_EXAMPLES]
    return Outcome(len(changed), len(ids) - len(changed), 0, 0, 0, examples, name)


def choose(
    workspace: Workspace, ids: Collection[str], number: int, *, write: bool = True
) -> Outcome:
    """Take the candidate of that number, from 1. Raises SurdError where a sample has fewer."""
    proposals = candidates_of(workspace, list(ids))
    for id_, found in proposals.items():
        if not 1 <= number <= len(found):
            several = f"candidates 1 to {len(found)}" if found else "no candidates yet"
            raise SurdError(f"{workspace.location}: sample {id_} has {several}, not {number}")
    now = dict(simple_prompts(workspace, edits.read(workspace)))
    texts = {id_: found[number - 1] for id_, found in proposals.items()}
    written = edits.current(workspace)
    changed = {id_: text for id_, text in texts.items() if written.get(id_) != text}
    what = f"candidate {number}"
    name = edits.write(workspace, changed, what) if write and changed else None
    examples = [(id_, now[id_] or "", text) for id_, text in changed.items()][:_EXAMPLES]
    return Outcome(len(changed), len(ids) - len(changed), 0, 0, 0, examples, name)
