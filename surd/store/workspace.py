"""The workspace: column groups in aligned parts, and a manifest. See docs/concepts.md."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError
from pydantic import Field as ModelField
from pydantic_core import PydanticSerializationError

from surd.errors import WorkspaceError, command, one_line
from surd.store.checksums import (
    ROW_KEYS,
    ChecksumError,
    check_body,
    read_description,
    read_footer,
)
from surd.store.column_ranges import with_columns
from surd.store.lease import lease, share
from surd.store.part_columns import check_types, checked
from surd.store.part_writer import PartWriter
from surd.store.schema import CHEAP, CHEAP_ROWS, MADE_BY
from surd.store.storage import Storage
from surd.untrusted import parse_json

FORMAT_VERSION = 2
"""Of 1, parts have lists of float16 in their files; they are read, and stay."""
MANIFEST = "surd.json"
_LOCK = ".surd.lock"
_READING = (pa.ArrowException, OSError, ChecksumError, UnicodeDecodeError)
_DAMAGED = ".damaged.txt"
_INFOS: dict[str, dict[str, tuple[Any, PartInfo]]] = {}
"""A workspace's folder -> part's name -> its stamp, and what its footer said then. A command
looks at a workspace several times, each time by its own object."""
Looked = TypeVar("Looked")
_PART_NAME = re.compile(r"part-([0-9]{5}|[1-9][0-9]{5,8})(\..*)", re.DOTALL)


class DamagedPartError(WorkspaceError):
    """A part that is there but cannot be trusted: truncated, bit-flipped, or not surd's."""

    def __init__(self, location: str, group: str, part: int, why: str) -> None:
        super().__init__(location, group, part, why)  # as it crosses processes
        self.group = group
        self.part = part
        self._told = (location, group, part, why)

    def __reduce__(self) -> tuple[type[DamagedPartError], tuple[str, str, int, str]]:
        """So that a worker process can tell of it: by default only the message would be sent."""
        return type(self), self._told

    def __str__(self) -> str:
        location, group, part, why = self.args
        return f"{location}/{part_name(group, part)}: damaged ({why}); {_mend(location, group)}"


def _mend(location: str, group: str) -> str:
    """What brings a damaged part back."""
    if group == "samples":
        return (
            f"delete this file and run {command('collect', location)}, which fetches its samples "
            "from the sources again"
        )
    if "/" in group:
        return (
            f"run {command('embed-llm', location)} again with the same options, or import "
            "the vectors again"
        )
    until = ["--until", MADE_BY[group]] if group in MADE_BY else []
    return f"run {command('build', '-o', location, *until)}, which computes it again"


class MissingPartError(WorkspaceError):
    """A part, or a row of one, that is not there."""


class StageRun(BaseModel):
    """What the last run of a stage left behind."""

    parts: int
    rows: int
    counts: dict[str, int] = ModelField(description="rows by status")
    failed_parts: list[int] = []
    seconds: float = ModelField(ge=0, lt=1e12)
    finished_at: str = ModelField(description="ISO 8601, UTC")
    settings: dict[str, Any] = ModelField(description="the stage's parameters")


class Collected(BaseModel):
    """What was put into ``samples/``, by which lost parts and those of others are noticed."""

    parts: str = ModelField(
        default="",
        pattern=r"^([0-9]{1,9}(-[0-9]{1,9})?(, [0-9]{1,9}(-[0-9]{1,9})?)*)?$",
        description="numbers of the parts, such as 0-59, 61",
    )
    sources: list[str] = ModelField(
        default=[], description="fingerprints of the sources, which parts carry in their footers"
    )


class Manifest(BaseModel):
    """``surd.json``: what this workspace is and how it was made. Holds no secrets."""

    format_version: int = FORMAT_VERSION
    recipe: dict[str, Any] = ModelField(description="the effective recipe")
    stages: dict[str, StageRun] = {}
    collected: Collected | None = None
    versions: dict[str, str] = ModelField(
        default={}, description="versions of surd and its libraries"
    )


@dataclass(frozen=True)
class PartInfo:
    """What a part's Parquet footer says about it."""

    rows: int
    fingerprint: str
    """Of settings and inputs; equal to the expected one means fresh."""
    digest: str
    """Of the content; what dependent parts are fingerprinted by."""
    settings: str
    inputs: dict[str, str]
    """Group -> digest of the part that was read."""
    extra: dict[str, Any] = field(default_factory=dict)
    """For samples: the collector's state."""
    crc32: str = ""
    """Of the bytes before the footer and of the footer; see surd.store.checksums."""
    ids: str = ""
    """Digest of the column ``id``: parts with the same have the same samples in the same order.
    Empty in parts of earlier versions."""


PartInfos = Callable[[str, int], PartInfo | None]
"""What is known of a group's part, as :meth:`Workspace.part_info`."""


class Workspace:
    """One folder, local or remote, holding one dataset in the making."""

    def __init__(self, location: str | Path, lease: str | None = None) -> None:
        """``lease`` is that of the process which this one works for; see :meth:`locked`."""
        self.location = str(location)
        self.storage = Storage(self.location)
        self.lease = lease
        """What workers are given, so that they stop with the holder of the lock."""
        self._infos = _INFOS.setdefault(self.storage.root, {})
        if lease is not None:
            share(self.storage, _LOCK, lease)

    def __reduce__(self) -> tuple[type[Workspace], tuple[str, str | None]]:
        """So that a worker can be sent it, whatever folder that runs in."""
        location = self.storage.root if self.storage.is_local else self.location
        return type(self), (location, self.lease)

    # manifest -------------------------------------------------------------------------------

    def read_manifest(self) -> Manifest:
        """Raises WorkspaceError when there is none, or it is broken or of a newer format."""
        try:
            raw = parse_json(self.storage.read_bytes(MANIFEST))
            version = raw["format_version"]
        except (FileNotFoundError, NotADirectoryError):
            raise WorkspaceError(
                f"{self.location}: not a surd workspace (no {MANIFEST}); "
                "make one with: surd build RECIPE -o DIR"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise WorkspaceError(
                f"{self.location}/{MANIFEST}: unreadable ({error}); {self._anew()}"
            ) from error
        except OSError as error:
            raise WorkspaceError(f"{self.location}/{MANIFEST}: {error.strerror}") from error
        if not isinstance(version, int) or version > FORMAT_VERSION:
            raise WorkspaceError(
                f"{self.location}: workspace format {one_line(version, 100)}, but this surd reads "
                f"formats up to {FORMAT_VERSION}; upgrade with: pip install -U surd"
            )
        try:
            manifest = Manifest.model_validate(raw)
            manifest.model_dump_json()  # which refuses halves of characters
            return manifest
        except PydanticSerializationError as error:
            raise WorkspaceError(
                f"{self.location}/{MANIFEST}: unreadable (halves of characters); {self._anew()}"
            ) from error
        except ValidationError as error:
            first = error.errors()[0]
            where = one_line(".".join(map(str, first["loc"])), 100)
            raise WorkspaceError(
                f"{self.location}/{MANIFEST}: {where}: {first['msg']}; {self._anew()}"
            ) from error

    def _anew(self) -> str:
        anew = command("build", "RECIPE", "-o", self.location)
        return f"delete it and run {anew} again with your settings; finished parts are kept"

    def has_manifest(self) -> bool:
        """Whether this is a workspace already."""
        return self.storage.exists(MANIFEST)

    def write_manifest(self, manifest: Manifest) -> None:
        """Replace the manifest, atomically. It is of this format from then on."""
        now = manifest.model_copy(update={"format_version": FORMAT_VERSION})
        self.storage.write_bytes(MANIFEST, now.model_dump_json(indent=2).encode() + b"\n")

    # parts ----------------------------------------------------------------------------------

    def parts(self, group: str) -> list[int]:
        """Indices of the parts that exist, in order."""
        numbers = (_number_of(name, ".parquet") for name in self.storage.names(group))
        return sorted(n for n in numbers if n is not None)  # beyond 99999 names sort otherwise

    def part_info(self, group: str, part: int) -> PartInfo | None:
        """None when the part does not exist; raises DamagedPartError when it is damaged. A local
        file that has not changed since is not read again."""
        return self._info(group, part, self.storage.stamp(part_name(group, part)))

    def part_infos(self, *groups: str) -> PartInfos:
        """:meth:`part_info` of the parts that groups have now, for whoever looks at many. One
        listing of a remote group tells which have changed, so that no others are read again."""
        if self.storage.is_local:
            return self.part_info
        stamps: dict[str, str] = {}
        for group in set(groups):
            found = self.storage.stamps(group)
            stamps |= {f"{group}/{name}": stamp for name, stamp in found.items()}

        def info(group: str, part: int) -> PartInfo | None:
            stamp = stamps.get(part_name(group, part))
            if stamp is None:
                return None
            return self._info(group, part, stamp if " " in stamp else None)  # a size says little

        return info

    def _info(self, group: str, part: int, stamp: Any) -> PartInfo | None:
        """From memory where the part has the stamp that it had; without one it is read."""
        name = part_name(group, part)
        known = self._infos.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            with self._opened(group, part, read_description) as (_, said):
                info = PartInfo(**said)
            _check_info(info)
        except MissingPartError:
            return None
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged(group, part, "its footer was not written by surd") from error
        if stamp is not None:
            self._infos[name] = stamp, info
        return info

    def read_rows(
        self,
        group: str,
        part: int,
        columns: Sequence[str],
        rows: npt.NDArray[np.int64],
        batch_rows: int,
    ) -> Iterator[pa.Table]:
        """Rows of the part, by ascending number, in tables of ``batch_rows``; as
        :meth:`read_batches`, but row groups that have none of them are not read."""
        held: pa.Table | None = None
        first = 0
        with self._parquet(group, part) as file:
            for number in range(file.num_row_groups):
                end = first + file.metadata.row_group(number).num_rows
                here = rows[(rows >= first) & (rows < end)]
                if not len(here):
                    first = end
                    continue
                for batch in file.iter_batches(batch_rows, [number], list(columns)):
                    chosen = here[(here >= first) & (here < first + batch.num_rows)] - first
                    table = checked(group, pa.Table.from_batches([batch]), columns)
                    if len(chosen) < batch.num_rows:
                        table = table.take(chosen)
                    held = table if held is None else pa.concat_tables([held, table])
                    while held.num_rows >= batch_rows:
                        yield held.slice(0, batch_rows)
                        held = held.slice(batch_rows)
                    first += batch.num_rows
        if held is not None and held.num_rows:
            yield held

    def read_batches(
        self, group: str, part: int, columns: Sequence[str] | None, batch_rows: int
    ) -> Iterator[pa.Table]:
        """The part's rows in tables of ``batch_rows`` (the last may be shorter).

        Raises WorkspaceError when the part is missing or damaged; the checksums of footer and
        pages are verified.
        """
        with self._parquet(group, part) as file:
            batches = file.iter_batches(batch_rows, columns=list(columns) if columns else None)
            for batch in batches:
                yield checked(group, pa.Table.from_batches([batch]), columns)

    def skim(self, group: str, part: int, columns: Sequence[str]) -> Iterator[pa.Table]:
        """The part's row groups, for whoever goes through more than memory holds: of a local file
        they are mapped, and the checksums of pages are not verified, which takes as long as
        reading them. A flipped bit is a wrong value. Raises WorkspaceError otherwise as
        :meth:`read_batches`."""
        with self._parquet(group, part, skimmed=True) as file:
            for number in range(file.num_row_groups):
                found = file.read_row_group(number, columns=list(columns), use_threads=False)
                yield checked(group, found, columns)

    def read(self, group: str, part: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The whole part as one table. Raises WorkspaceError when it is missing or damaged."""
        with self._parquet(group, part, columns) as file:
            table = file.read(columns=list(columns) if columns else None)
            return checked(group, table, columns).replace_schema_metadata()

    def salvage(self, group: str, part: int) -> Iterator[pa.Table | None]:
        """The part's row groups; None in place of one that is damaged.

        Raises WorkspaceError when the part is missing, or its footer damaged.
        """
        with self._parquet(group, part) as file:
            for number in range(file.num_row_groups):
                try:
                    table = checked(group, file.read_row_group(number))
                    yield table.replace_schema_metadata()
                except (pa.ArrowException, OSError):
                    yield None

    def keyed(self, group: str, part: int) -> Iterator[tuple[pa.Table, npt.NDArray[np.uint64]]]:
        """The part's row groups that are not damaged, with the keys of their rows; none where it
        was written without keys. Raises WorkspaceError as :meth:`salvage`."""
        with self._parquet(group, part) as file:
            text = (file.metadata.metadata or {}).get(ROW_KEYS)
            if text is None:
                return
            try:
                keys = np.frombuffer(base64.b64decode(text), "<u8").reshape(file.metadata.num_rows)
            except ValueError as error:
                raise self._damaged(group, part, "its row keys are none") from error
            first = 0
            for number in range(file.num_row_groups):
                end = first + file.metadata.row_group(number).num_rows
                with contextlib.suppress(pa.ArrowException, OSError):
                    table = checked(group, file.read_row_group(number))
                    yield table.replace_schema_metadata(), keys[first:end]
                first = end

    def verify(self, group: str, part: int) -> None:
        """Read all bytes of a part. Raises WorkspaceError when it is missing or damaged."""
        info = self.part_info(group, part)
        with self._opened(group, part, read_footer) as (file, footer):
            check_body(file)
            if info is not None and info.rows != footer.num_rows:
                raise ChecksumError("it has other rows than it says")
        if info is not None and not info.crc32:  # of an earlier version: pages have checksums
            for _ in self.read_batches(group, part, None, 64):
                pass
        self.storage.delete(_damage_name(group, part))

    def read_around(
        self, group: str, part: int, row: int, columns: Sequence[str]
    ) -> tuple[int, pa.Table]:
        """The row group that a row is in, and the index of its first row within the part.

        Raises MissingPartError when there is no such part or row, DamagedPartError.
        """
        with self._parquet(group, part) as file:
            first = 0
            for number in range(file.num_row_groups):
                rows = file.metadata.row_group(number).num_rows
                if row < first + rows:
                    table = file.read_row_group(number, columns=list(columns))
                    return first, checked(group, table, columns).replace_schema_metadata()
                first += rows
        raise MissingPartError(f"{self.location}/{part_name(group, part)}: has no row {row}")

    @contextlib.contextmanager
    def _parquet(
        self,
        group: str,
        part: int,
        at_once: Sequence[str] | None = None,
        *,
        skimmed: bool = False,
    ) -> Iterator[pq.ParquetFile]:
        """The part; of a remote one, all of the columns ``at_once`` are fetched before."""
        source: Any = self.storage.path(part_name(group, part))
        with self._opened(group, part, read_footer) as (file, footer):
            if not self.storage.is_local:
                fs = self.storage.fs
                source = with_columns(fs, source, file, footer, at_once) if at_once else file
            with pq.ParquetFile(
                source,
                metadata=footer,
                memory_map=skimmed and self.storage.is_local,
                page_checksum_verification=not skimmed,
            ) as parquet:
                check_types(group, parquet.schema_arrow)
                yield parquet

    @contextlib.contextmanager
    def _opened(
        self, group: str, part: int, look: Callable[[BinaryIO], Looked]
    ) -> Iterator[tuple[BinaryIO, Looked]]:
        """The file and what is read of its footer; what is wrong with it becomes a WorkspaceError,
        and damage that the footer does not show is noted."""
        name = part_name(group, part)
        footer: Looked | None = None
        try:
            with self.storage.open_binary(name) as file:
                footer = look(file)
                yield file, footer
        except FileNotFoundError as error:
            raise MissingPartError(f"{self.location}/{name}: missing") from error
        except (pa.ArrowMemoryError, pa.ArrowCancelled):
            raise
        except (*_READING, *self.storage.network_errors()) as error:
            reason = self.storage.system_error(error)
            if reason is not None:
                raise WorkspaceError(f"{self.location}/{name}: cannot be read: {reason}") from error
            why = str(error).split("\n", 1)[0]
            if footer is not None and group != "samples":  # which no build computes
                self._note_damage(group, part, why)
            raise self._damaged(group, part, why) from error

    def _damaged(self, group: str, part: int, why: str) -> DamagedPartError:
        return DamagedPartError(self.location, group, part, why)

    @contextlib.contextmanager
    def writing_part(
        self, group: str, part: int, schema: pa.Schema, row_group_rows: int | None = None
    ) -> Iterator[PartWriter]:
        """Write a part row group by row group; it appears when the block ends without error.

        A row group has FILE_ROWS rows where there are files, CHEAP_ROWS in groups of CHEAP, else
        ROWS, unless told otherwise."""
        row_group_rows = row_group_rows or (CHEAP_ROWS if group in CHEAP else None)
        with self.storage.writing(part_name(group, part)) as temporary:
            writer = PartWriter(temporary, schema, row_group_rows)
            try:
                yield writer
                writer.finish()
            finally:
                writer.close()
        self._infos.pop(part_name(group, part), None)
        self.clear_failure(group, part)
        self.storage.delete(_damage_name(group, part))

    # failures and damage --------------------------------------------------------------------------

    def record_failure(self, group: str, part: int, error: str) -> None:
        """Remember that a part could not be computed, and why."""
        content = json.dumps({"error": error}, ensure_ascii=False).encode()
        self.storage.write_bytes(_failure_name(group, part), content)

    def failure(self, group: str, part: int) -> str | None:
        """Why the last try at this part failed, or None."""
        try:
            return str(parse_json(self.storage.read_bytes(_failure_name(group, part)))["error"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def clear_failure(self, group: str, part: int) -> None:
        """Forget the failure of a part."""
        self.storage.delete(_failure_name(group, part))

    def damage(self, group: str) -> dict[int, str]:
        """Part -> what whoever read it found damaged, beyond what its footer shows."""
        found = {}
        for name in self.storage.names(group):
            if (part := _number_of(name, _DAMAGED)) is not None:
                with contextlib.suppress(FileNotFoundError):
                    why = self.storage.read_bytes(f"{group}/{name}").decode(errors="replace")
                    found[part] = why
        return found

    def _note_damage(self, group: str, part: int, why: str) -> None:
        """For the next build, which would see nothing wrong; where nothing can be written, not."""
        with contextlib.suppress(WorkspaceError):
            self.storage.write_bytes(_damage_name(group, part), why.encode())

    # lock -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the workspace for writing; raises WorkspaceError when another process does, and on
        object storage before a write when another has taken over.

        A folder that this makes and in which nothing is written is removed again.
        """
        if not self.storage.is_local:
            with lease(self.storage, _LOCK) as self.lease:
                try:
                    yield
                finally:
                    self.lease = None
            return
        from filelock import FileLock, Timeout

        folder = Path(self.storage.root)
        try:
            made = [place for place in (folder, *folder.parents) if not place.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / _LOCK, timeout=0)
            lock.acquire()
        except Timeout:
            raise WorkspaceError(
                f"{self.location}: another surd process is writing here; wait for it or stop it"
            ) from None
        except OSError as error:
            raise WorkspaceError(
                f"{self.location}: cannot write here: {error.strerror}; change its permissions, or "
                "choose another folder"
            ) from error
        try:
            yield
        finally:
            if made and not self.has_manifest():
                _remove_if_empty(folder, made)
            lock.release()


def _check_info(info: PartInfo) -> None:
    """Raises TypeError or AttributeError where a footer's words are not of the kind they should."""
    own = (info.fingerprint, info.digest, info.settings, info.crc32, info.ids)
    texts = (*own, *info.inputs.values())
    counts, about = info.extra.get("counts", {}), info.extra.get("llm", {})
    if not all(isinstance(text, str) for text in texts) or not isinstance(about, dict):
        raise TypeError("a text or an object is none")
    if not isinstance(info.rows, int) or info.rows < 0:
        raise TypeError("the number of rows is none")
    if not all(isinstance(count, int) for count in counts.values()):
        raise TypeError("a count is no number")


def _remove_if_empty(folder: Path, made: Sequence[Path]) -> None:
    """Remove a workspace without any file, and those of the folders around it that were `made`."""
    there = list(folder.rglob("*"))
    if any(path.is_file() and path.name != _LOCK for path in there):
        return
    with contextlib.suppress(OSError):  # somebody else writes there
        for below in sorted(path for path in there if path.is_dir())[::-1]:
            below.rmdir()
        (folder / _LOCK).unlink(missing_ok=True)
        for place in made:
            place.rmdir()


def _number_of(name: str, suffix: str) -> int | None:
    """The part that a file of that suffix belongs to; None for names that surd does not give."""
    found = _PART_NAME.fullmatch(name)
    return int(found[1]) if found is not None and found[2] == suffix else None


def part_name(group: str, part: int) -> str:
    """Where a part lies within the workspace."""
    return f"{group}/part-{part:05d}.parquet"


def _damage_name(group: str, part: int) -> str:
    return f"{group}/part-{part:05d}{_DAMAGED}"


def _failure_name(group: str, part: int) -> str:
    return f"{group}/part-{part:05d}.failed.json"
