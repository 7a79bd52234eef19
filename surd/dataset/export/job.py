"""What an export is asked for, and the samples as it wants them: with texts, in readable files."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from surd.dataset.published import Picture, Published, pictures
from surd.errors import SurdError
from surd.files.images import ImageProblem, decode, read_header
from surd.progress import Tick
from surd.untrusted import open_regular

TEXTS: Mapping[str, str] = {
    "simple": "simple_prompt",
    "complex": "complex_prompt",
    "dense": "dense_caption",
    "tags": "tags",
}
"""Name of a text -> its column."""

_LINE_BREAK = re.compile(r"\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_NO_TEXT, _NO_IMAGE = "without such a text", "that cannot be decoded"


@dataclass(frozen=True)
class Wish:
    """How a dataset is to be exported."""

    texts: Sequence[str] = ()
    """Keys of TEXTS, or ``all``; the simple prompt when empty."""
    trigger: str = ""
    """Begins every text that does not hold it."""
    repeats: int | None = None
    """How often a trainer sees each sample in an epoch."""
    link: bool = False
    """Hard-link images to the files that they were collected from."""

    def columns(self) -> list[str]:
        """Of the texts, in the order asked for. Raises SurdError for an unknown one."""
        for name in self.texts:
            if name not in (*TEXTS, "all"):
                raise SurdError(f"--text {name}: unknown; texts: {', '.join(TEXTS)}, all")
        names = self.texts or ("simple",)
        return [*TEXTS.values()] if "all" in names else [TEXTS[n] for n in dict.fromkeys(names)]


@dataclass(frozen=True)
class Job:
    """An export under way."""

    dataset: Published
    folder: Path
    """Where it is written."""
    place: Path
    """Where it will lie in the end, for files that name paths."""
    wish: Wish
    originals: Mapping[str, str]
    """Id of a sample -> the file it was collected from."""
    tick: Tick
    left_out: Counter[str] = field(default_factory=Counter)
    """Why -> samples."""
    done: Counter[str] = field(default_factory=Counter)
    """Split -> samples, ``converted`` and ``linked`` -> images."""

    def captioned(
        self,
        split: str,
        extensions: Collection[str],
        *,
        lines: bool = False,
        turns: bool = True,
    ) -> Iterator[tuple[Picture, list[str]]]:
        """The split's samples with their texts, at least one each, on one line where `lines`.

        An image in another format than `extensions`, one turned by EXIF where the tool does not
        turn it (`turns`), and one of 16 bits in grey, which Pillow makes white, become a PNG of 8.
        """
        columns = self.wish.columns()
        for picture in pictures(self.dataset, split):
            told = (self._text(picture.fields[column] or "", lines=lines) for column in columns)
            texts = list(dict.fromkeys(text for text in told if text.strip()))
            readable = self._readable(picture, extensions, turns) if texts else None
            if readable is None:
                self.left_out[_NO_IMAGE if texts else _NO_TEXT] += 1
                self.tick({"left out": 1})
                continue
            yield readable, texts
            self.done[split] += 1
            self.tick({"ok": 1})

    def _text(self, text: str, *, lines: bool) -> str:
        text = _LINE_BREAK.sub(" ", text).strip() if lines else text
        trigger = self.wish.trigger
        if not text.strip() or not trigger or _is_in(trigger, text):
            return text
        return f"{trigger}, {text}"

    def _readable(
        self, picture: Picture, extensions: Collection[str], turns: bool
    ) -> Picture | None:
        """None where it cannot be decoded, as without the library of its format."""
        try:
            known = picture.extension in extensions
            upright = turns or read_header(picture.data, max_pixels=1 << 62).orientation == 1
            if known and upright and not _is_deep(picture.data):
                return picture
            buffer = io.BytesIO()
            Image.fromarray(decode(picture.data)).save(buffer, "PNG")
        except ImageProblem:
            return None
        self.done["converted"] += 1
        return replace(picture, extension="png", data=buffer.getvalue())

    def write_image(self, picture: Picture, path: Path) -> None:
        """Write it, or link it to a file with the same bytes."""
        original = self.originals.get(picture.id)
        if original is not None and _holds(original, picture.data):
            with suppress(OSError):  # another file system, or one without links
                os.link(Path(original).resolve(), path)
                self.done["linked"] += 1
                return
        path.write_bytes(picture.data)

    def write_texts(self, texts: Sequence[str], path: Path) -> None:
        """A text a line, without one after the last, which some tools take for part of it."""
        path.write_text("\n".join(texts), encoding="utf-8", newline="\n")


def _is_in(word: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is not None


def _is_deep(data: bytes) -> bool:
    """Whether Pillow opens it as grey of more than 8 bits, which it cuts at white."""
    with Image.open(io.BytesIO(data)) as image:
        return image.mode.startswith("I")


def _holds(path: str, data: bytes) -> bool:
    try:
        with open_regular(path) as file:
            return file.read(len(data) + 1) == data
    except OSError:
        return False
