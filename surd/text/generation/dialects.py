"""The dialects in their order, and what of a file's texts is understood by which.

An object of JSON goes to the dialects of objects, any other text to those of text. Only places that
nobody but a generator writes to are taken for a prompt without any sign of one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surd.text.generation import (
    comfy_workflow,
    comfyui,
    fields,
    found,
    infotext,
    invokeai,
    lines,
    novelai,
    swarmui,
)
from surd.text.generation.found import Generation, Text

MIN_LETTERS = 20
"""A text with fewer letters is too short to count as missed."""

Object = Mapping[str, Any]
Around = Mapping[str, str]
"""The texts of a file by the names of their places."""

OBJECTS: tuple[Callable[[Object, Around], Generation | None], ...] = (
    lambda fields_, around: swarmui.read(fields_),
    lambda fields_, around: comfyui.read(fields_),
    lambda fields_, around: invokeai.read(fields_),
    novelai.read,
    lambda fields_, around: comfy_workflow.read(fields_),
    lambda fields_, around: fields.read(fields_),
)
TEXTS: tuple[Callable[[str], Generation | None], ...] = (lines.read, infotext.read)

FIRST = (
    *("parameters", "generation_data", "invokeai_metadata", "sd-metadata", "Comment", "prompt"),
    *("Dream", "UserComment", "UserComment (Unicode)"),
)
"""Places, those first whose words are nearest to what the generator was given."""
PLAIN = ("parameters", "prompt", "Prompt", "positive_prompt")
"""Places whose text is a prompt, whatever it looks like."""
UNICODE_COMMENT = "UserComment (Unicode)"
"""The same where no camera is named: cameras write their comments in ASCII, if any."""
FACTS = frozenset(
    """
    Software, Make, Model, Artist, Copyright, DateTime, HostComputer, Author, Creation Time, Source,
    Title, date:create, date:modify, date:timestamp, fooocus_scheme, signature, Disclaimer, Warning,
    Generation time, DocumentName, URL, invokeai_graph, invokeai_workflow
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)
"""Places that hold something else than a prompt."""

PROSE_OF_XMP = (
    *("dc:description", "dc:title", "dc:subject", "exif:UserComment"),
    *("tiff:ImageDescription", "xmp:Description", "xmp:Label"),
)
"""Properties whose text is somebody's; those of any other are facts."""

_LABEL = re.compile(r"(prompt|workflow|parameters)\s*:\s*(?=\{)", re.I)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was made of the texts of one file."""

    generation: Generation | None
    used: tuple[Text, ...] = ()
    """Texts that a dialect understood or that are no prompts; the prompt's comes first."""
    not_understood: tuple[Text, ...] = ()
    """Texts of MIN_LETTERS letters and more that nothing was made of."""


def read(texts: Sequence[Text]) -> Reading:
    """Read the texts of one file, each by itself; the first that tells a prompt is believed."""
    labelled = sorted(map(_without_label, texts), key=_rank)
    around = {text.name: text.value for text in reversed(labelled)}
    whole: list[tuple[Generation, Text]] = []
    partly: list[tuple[Generation, Text]] = []
    rest = []
    for text in labelled:
        again = text.name == "workflow" and whole  # the editor's form of what was read
        generation = None if again else _read_one(text, around)
        if generation is None:
            rest.append(text)
        else:
            (partly if generation.prompt is None else whole).append((generation, text))
    whole.sort(key=lambda pair: not pair[0].prompt)
    best = next((generation for generation, _ in [*whole, *partly]), None)
    if best is None or best.prompt is None:
        rest = [*(text for _, text in partly), *rest]
        partly = []
    left = [text for text in rest if _is_missed(text, best)]
    used = [text for _, text in [*whole, *partly]] + [text for text in rest if text not in left]
    return Reading(best, tuple(used), tuple(left))


def read_text(text: str) -> Generation | None:
    """Read a text by itself, such as that of a file beside the image; None: no generator's."""
    return _read_one(_without_label(Text("", "", text)), {})


def read_object(
    fields_: Object, around: Around | None = None, *, depth: int = 3
) -> Generation | None:
    """Read a JSON object; also the graph of ComfyUI that sites give as ``comfy`` or in ``meta``."""
    generation = next(filter(None, (read(fields_, around or {}) for read in OBJECTS)), None)
    for name in ("comfy", "meta") if depth and not (generation and generation.prompt) else ():
        inner = found.as_object(fields_.get(name))
        deeper = read_object(inner, around, depth=depth - 1) if inner else None
        if deeper is not None and deeper.prompt is not None:
            return deeper
    return generation


def _without_label(text: Text) -> Text:
    """``Make`` with ``prompt:{…}``, as ComfyUI's writers of WebP do, is the place ``prompt``."""
    label = _LABEL.match(text.value[:100])
    if label is None:
        return text
    return Text(text.where, label[1].lower(), text.value[label.end() :])


def _rank(text: Text) -> int:
    return FIRST.index(text.name) if text.name in FIRST else len(FIRST)


def _read_one(text: Text, around: Around) -> Generation | None:
    value = text.value
    object_ = found.json_object(value)
    if object_ is not None:
        if text.name == "invokeai_metadata":
            return invokeai.read(object_, certain=True)
        if isinstance(object_.get("Comment"), str):  # NovelAI's texts where there is but one place
            around = {name: told for name, told in object_.items() if isinstance(told, str)}
            return _read_one(Text(text.where, "Comment", around["Comment"]), around)
        if isinstance(object_.get("parameters"), str):
            return infotext.read(object_["parameters"], plain=True)
        return read_object(object_, around)
    if text.name == "Dream":
        return invokeai.read_dream(value)
    if text.name == "Description" and novelai.is_novelai(around):
        return novelai.read({"uc": None}, around)
    generation = next(filter(None, (read(value) for read in TEXTS)), None)
    if generation is None and text.name == UNICODE_COMMENT:
        return None if {"Make", "Model"} & around.keys() else infotext.read(value, plain=True)
    if generation is None and text.name in PLAIN:
        others = {k: found.number(v) for k, v in around.items() if k in fields.SEPARATE}
        if others:
            return fields.read({**others, "prompt": value})
        return infotext.read(value, plain=True)
    return generation


def _is_missed(text: Text, generation: Generation | None) -> bool:
    """Whether a text that no dialect read should have been: not when it only says things again."""
    if is_fact(text) or (generation and text.name in fields.SEPARATE):
        return False
    if generation and generation.prompt is not None and text.name == "workflow":
        return False
    said_again = generation and generation.prompt and generation.prompt in text.value
    return not said_again and is_long(text)


def is_fact(text: Text) -> bool:
    """Whether a text lies where no prompts do."""
    of_xmp = text.where.startswith("XMP") and text.name not in PROSE_OF_XMP
    return text.name in FACTS or (of_xmp and not text.value.startswith("{"))


def is_long(text: Text) -> bool:
    """Whether a text has as many letters as MIN_LETTERS."""
    letters = filter(str.isalpha, text.value)
    return sum(1 for _ in zip(letters, range(MIN_LETTERS), strict=False)) == MIN_LETTERS
