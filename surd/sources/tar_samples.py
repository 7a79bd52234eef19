"""Which members of a tar archive are one sample.

WebDataset takes what comes before the first dot of a name for the sample and the rest for the field
(https://github.com/webdataset/webdataset). Names such as ``22.05.jpg`` and ``22.06.jpg`` are two
images all the same, and no image is ever hidden behind another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from surd.files.formats import IMAGE_SUFFIXES
from surd.files.tar_members import Member

_FIELD = re.compile(r"[a-z][a-z_]*\d?(?:[._-][a-z][a-z_]*\d?)*", re.IGNORECASE)
"""What a field may be called, as in ``s0.input.jpg``; other names have a dot of their own."""


@dataclass(frozen=True)
class Part:
    """A member, and what its name says: ``1.caption.txt`` is the field caption and ends in txt."""

    member: Member
    field: str
    suffix: str

    @property
    def is_image(self) -> bool:
        """Whether the member is called like an image."""
        return f".{self.suffix}" in IMAGE_SUFFIXES


@dataclass(frozen=True)
class TarSample:
    """Members that belong together, in the order of the archive."""

    key: str
    parts: Sequence[Part]


def samples_of(members: Iterable[Member]) -> list[TarSample]:
    """The samples of an archive, in the order of their first members; hidden files left out.

    Members of a sample need not follow each other. Of two with one name the first counts.
    """
    groups: dict[str, dict[str, Member]] = {}
    for member in members:
        key, rest = split_name(member.name)
        if key:
            groups.setdefault(key, {}).setdefault(rest, member)
    return [sample for key, group in groups.items() for sample in _samples(key, group)]


def split_name(name: str) -> tuple[str, str]:
    """What comes before and after the first dot of the last part of a name; nothing for a hidden
    file, or one in a hidden folder."""
    name = name.removeprefix("./")
    folder, slash, base = name.rpartition("/")
    stem, _, rest = base.partition(".")
    return ("", "") if is_hidden(name) else (folder + slash + stem, rest)


def is_hidden(name: str) -> bool:
    """Whether a member is a hidden file, a Mac's shadow of one, or in a folder that is."""
    parts = name.removeprefix("./").split("/")
    return any(part.startswith(".") or part == "__MACOSX" for part in parts)


def _samples(key: str, group: dict[str, Member]) -> Iterator[TarSample]:
    """The samples among members that share what comes before their first dot."""
    stems = [_stem(rest) for rest in group if f".{_suffix(rest)}" in IMAGE_SUFFIXES]
    if _is_one(stems, group):
        yield TarSample(key, [_part(member, rest) for rest, member in group.items()])
        return
    shared: list[Part] = []
    own: dict[str, list[Part]] = {stem: [] for stem in stems}
    for rest, member in group.items():
        stem = max((s for s in own if f"{rest}.".startswith(f"{s}.")), key=len, default=None)
        if stem is not None:
            own[stem].append(_part(member, rest[len(stem) :].lstrip(".")))
        elif _is_field(_stem(rest)):
            shared.append(_part(member, rest))
        else:
            own.setdefault(_stem(rest), []).append(_part(member, _suffix(rest)))
    for stem, parts in own.items():
        yield TarSample(f"{key}.{stem}" if stem else key, [*parts, *shared])


def _is_one(stems: Sequence[str], group: dict[str, Member]) -> bool:
    """Whether the members are fields of one sample, as WebDataset has it.

    They are not where a name has a dot of its own, and not where each image has texts of its own
    or none has any.
    """
    if not all(_is_field(_stem(rest)) for rest in group):
        return False
    if len(stems) < 2 or "" in stems:
        return True
    texts = [_stem(rest) for rest in group if f".{_suffix(rest)}" not in IMAGE_SUFFIXES]
    return any(text not in stems for text in texts)


def _is_field(stem: str) -> bool:
    return not stem or bool(_FIELD.fullmatch(stem))


def _stem(rest: str) -> str:
    return rest.rpartition(".")[0]


def _suffix(rest: str) -> str:
    return rest.rpartition(".")[2].lower()


def _part(member: Member, rest: str) -> Part:
    return Part(member, _stem(rest).lower(), _suffix(rest))
