"""Prompts with questions, as the sets that people cite publish them.

Each reader takes a row as its file has it, and `where` that is, for messages. Raises SurdError.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from surd.errors import SurdError, listed
from surd.evaluate.prompt import Prompt, Question

log = logging.getLogger("surd")

Row = Mapping[str, Any]
Located = tuple[str, Row]
"""Where a row stands, and the row."""
DEPENDENT = frozenset(
    {"item_id", "text", "proposition_id", "dependency", "question_natural_language"}
)
"""The columns of DSG's and DPG-Bench's tables: a row is a question."""

_NUMBER = re.compile(r"_?[0-9]+$")
"""Of a prompt within the set it comes from; DSG and TIFA have an underscore, DPG-Bench has none."""


def own(row: Row, where: str, kind: str) -> Prompt:
    """A line of surd's own sets: ``prompt``, and where wanted ``kind``, ``questions``, ``complex``
    and ``scene``."""
    kind_, complex_, about = row.get("kind"), row.get("complex"), row.get("scene")
    return Prompt(
        sentence(row["prompt"], f"{where}: prompt"),
        kind if kind_ is None else sentence(kind_, f"{where}: kind"),
        _questions(row.get("questions"), f"{where}: questions"),
        None if complex_ is None else sentence(complex_, f"{where}: complex"),
        None if about is None else sentence(about, f"{where}: scene"),
    )


def geneval_2(row: Row, where: str) -> Prompt:
    """A line of GenEval 2's ``geneval2_data.jsonl`` (https://arxiv.org/abs/2512.16853).

    ``vqa_list`` are pairs of question and answer; the kind is the number of atoms.
    """
    pairs = row["vqa_list"]
    mend = 'write [["question", "answer"], ...]'
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        raise SurdError(f"{where}: vqa_list: not a list of pairs; {mend}")
    questions = []
    for n, pair in enumerate(pairs):
        asked, answer = (sentence(text, f"{where}: vqa_list[{n}]") for text in pair)
        questions.append(Question(asked, answer))
    atoms = row.get("atom_count", len(questions))
    return Prompt(sentence(row["prompt"], f"{where}: prompt"), f"{atoms} atoms", tuple(questions))


def geneval(row: Row, where: str) -> Prompt:
    """A line of GenEval's ``evaluation_metadata.jsonl`` (https://arxiv.org/abs/2310.11513).

    The paper looks for the objects of ``include`` with a detector; here a model is asked about
    them, so the numbers are not the paper's. The kind is the ``tag``.
    """
    objects = row["include"]
    known = isinstance(objects, list) and all(isinstance(one, dict) for one in objects)
    if not known or not all("class" in one for one in objects):
        raise SurdError(f'{where}: include: not a list of objects; write [{{"class": "dog"}}]')
    names = [sentence(one["class"], f"{where}: include[{n}]") for n, one in enumerate(objects)]
    questions: list[Question] = []
    for name, one in zip(names, objects, strict=True):
        questions.append(_there(name, one.get("count", 1)))
    for place, (name, one) in enumerate(zip(names, objects, strict=True)):
        if "color" in one:
            color = sentence(one["color"], f"{where}: include[{place}].color")
            questions.append(Question(f"What color is the {name}?", color, (place,)))
        if "position" in one:
            relation, other = _position(one["position"], len(names), f"{where}: include[{place}]")
            asked = f"Is the {name} {relation} the {names[other]}?"
            questions.append(Question(asked, "yes", (place, other)))
    kind = sentence(row.get("tag", "all"), f"{where}: tag")
    return Prompt(sentence(row["prompt"], f"{where}: prompt"), kind, tuple(questions))


def _there(name: str, count: object) -> Question:
    if count == 1:
        article = "an" if name[0].lower() in "aeiou" else "a"
        return Question(f"Is there {article} {name} in the image?", "yes")
    return Question(f'How many objects of the kind "{name}" are in the image?', str(count))


def _position(value: object, objects: int, where: str) -> tuple[str, int]:
    if isinstance(value, list) and len(value) == 2:
        relation, other = value
        if isinstance(relation, str) and isinstance(other, int) and 0 <= other < objects:
            return relation, other
    raise SurdError(f'{where}.position: {value!r:.40}; write ["left of", 0], the number of another')


def tifa(rows: Iterable[Located], kind: str) -> Iterator[Prompt]:
    """TIFA v1.0 (https://arxiv.org/abs/2303.11897): ``tifa_v1.0_question_answers.json``, a question
    each, and ``tifa_v1.0_text_inputs.json``, the captions alone.

    The ``choices`` are not offered: an answer counts as it is said. The kind is the set a caption
    comes from, which its ``id`` begins with.
    """
    found: dict[str, tuple[str, list[Question]]] = {}
    for where, row in rows:
        is_asked = "question" in row or "answer" in row
        for name in ("caption", *(("question", "answer") if is_asked else ())):
            if name not in row:
                raise SurdError(f"{where}: {name}: missing; this one has {listed(list(row))}")
        caption = sentence(row["caption"], f"{where}: caption")
        id_ = row.get("id")
        of = _series(id_, kind) if isinstance(id_, str) else kind
        questions = found.setdefault(caption, (of, []))[1]
        if is_asked:
            asked, answer = (sentence(row[n], f"{where}: {n}") for n in ("question", "answer"))
            questions.append(Question(asked, answer))
    for caption, (of, questions) in found.items():
        yield Prompt(caption, of, tuple(questions))


def dependent(rows: Iterable[Located], kind: str) -> Iterator[Prompt]:
    """DSG-1k's ``dsg-1k-anns.csv`` (https://arxiv.org/abs/2310.18235) and DPG-Bench's
    ``dpg_bench.csv`` (https://arxiv.org/abs/2403.05135).

    A row is a question of the prompt ``item_id``, to be answered with yes; ``dependency`` are the
    numbers of those without which it has no meaning, 0 for none. The published tables were written
    by a language model: what names no question of its prompt ("5, outside") is left out, and so
    are rows without a question, or with a number that is taken; a warning counts them.
    """
    items: dict[str, dict[int, Located]] = {}
    lost: list[str] = []
    for where, row in rows:
        some = items.setdefault(sentence(row["item_id"], f"{where}: item_id"), {})
        number = _number(row["proposition_id"], where)
        if not str(row["question_natural_language"]).strip():
            lost.append(f"{where}: question_natural_language: empty")
        elif number in some:
            lost.append(f"{where}: proposition_id: there is a question {number} of this prompt")
        else:
            some[number] = where, row
    for item, some in items.items():
        if not some:
            continue
        places = {number: place for place, number in enumerate(some)}
        questions = [
            Question(
                sentence(row["question_natural_language"], f"{where}: question_natural_language"),
                "yes",
                _needed(str(row["dependency"]), places, where, lost),
            )
            for where, row in some.values()
        ]
        where, first = next(iter(some.values()))
        text = sentence(first["text"], f"{where}: text")
        yield Prompt(text, _series(item, kind), tuple(questions))
    if lost:
        more = f", as are {len(lost) - 1} more such faults" if lost[1:] else ""
        log.warning("%s; left out%s", lost[0], more)


def _needed(text: str, places: Mapping[int, int], where: str, lost: list[str]) -> tuple[int, ...]:
    """The places of the numbers in `text`; what is none of them goes to `lost`."""
    found = []
    for part in text.split(","):
        if not part.strip("- 0."):
            continue
        try:
            found.append(places[_number(part, where)])
        except (KeyError, SurdError):
            lost.append(f"{where}: dependency: {part.strip()!r:.40} is no question of this prompt")
    return tuple(found)


def _number(value: object, where: str) -> int:
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError) as error:
        raise SurdError(f"{where}: proposition_id: {value!r:.40} is not a number") from error


def _series(id_: str, otherwise: str) -> str:
    """``whoops`` of ``whoops_5`` and ``whoops5``: where a prompt comes from, if its id says so."""
    return _NUMBER.sub("", id_) or otherwise


def _questions(value: object, where: str) -> tuple[Question, ...]:
    mend = 'write [{"question": "...", "answer": "..."}]'
    if value is None:
        return ()
    if not isinstance(value, list):
        raise SurdError(f"{where}: not a list; {mend}")
    questions = []
    for index, item in enumerate(value):
        if not isinstance(item, dict) or not {"question", "answer"} <= item.keys():
            raise SurdError(f"{where}[{index}]: needs a question and its answer; {mend}")
        asked = sentence(item["question"], f"{where}[{index}].question")
        questions.append(Question(asked, sentence(item["answer"], f"{where}[{index}].answer")))
    return tuple(questions)


def sentence(value: object, where: str) -> str:
    """A string, trimmed; refused when there is nothing in it or a tokenizer would choke."""
    if not isinstance(value, str):
        raise SurdError(f"{where}: {value!r:.40} is not a string; put it in quotes")
    text = value.strip()
    if not text:
        raise SurdError(f"{where}: empty; write some text or delete the line")
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise SurdError(
            f"{where}: contains an escape that is not a character (NUL, or half of a surrogate "
            "pair)"
        )
    return text


def honoured(right: Sequence[bool], questions: Sequence[Question]) -> list[bool]:
    """Which answers count: those that are right, of questions whose needed ones count too."""
    counted = list(right)
    for _ in questions:  # whatever their order; each pass settles one more
        counted = [
            is_right and all(counted[place] for place in asked.needs)
            for is_right, asked in zip(counted, questions, strict=True)
        ]
    return counted
