"""Why pictures could not be had, by kind and by host."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from surd.pages.text import visible
from surd.report.page import Section, body
from surd.store.schema import IMAGE_STATUSES

_MAX_HOSTS = 2_000
_SHOWN_HOSTS, _SHOWN_KINDS = 25, 8
_OTHERS = "(other hosts)"


class Failures:
    """Counts of pictures by host and status."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.codes: Counter[tuple[str, int]] = Counter()
        """(status, HTTP status) -> pictures."""
        self.hosts: Counter[tuple[str, str]] = Counter()
        self.tried: Counter[str] = Counter()
        """Host -> pictures asked for, those that came included."""

    def add(self, rows: pa.Table) -> None:
        """Count a part's rows."""
        rows = rows.filter(pc.is_valid(rows["image_status"]))
        failed = pc.not_equal(rows["image_status"], "ok")
        for url in rows["url"].to_pylist():
            self.tried[self._key(_host(url))] += 1
        columns = rows.filter(failed).select(["url", "image_status", "http_status"])
        for url, status, code in zip(*(column.to_pylist() for column in columns), strict=True):
            self.kinds[status] += 1
            self.hosts[self._key(_host(url)), status] += 1
            if code is not None:
                self.codes[status, code] += 1

    def _key(self, host: str) -> str:
        return host if host in self.tried or len(self.tried) < _MAX_HOSTS else _OTHERS


def _host(url: str | None) -> str:
    if not url:
        return "(local files)"
    try:
        return urlsplit(url).hostname or "(no host)"
    except ValueError:
        return "(no host)"


def section(found: Failures) -> Section | None:
    """None where every picture is there."""
    if not found.kinds:
        return None
    kinds = [
        (
            kind,
            IMAGE_STATUSES.get(kind, ""),
            count,
            ", ".join(
                f"{code}: {n:,}"
                for (status, code), n in found.codes.most_common()
                if status == kind and kind == "http_error"
            ),
        )
        for kind, count in found.kinds.most_common()
    ]
    columns = [kind for kind, *_ in kinds[:_SHOWN_KINDS]]
    failed: Counter[str] = Counter()
    for (host, _), count in found.hosts.items():
        failed[host] += count
    rows = [
        (
            visible(host, 80),
            found.tried[host],
            count,
            [found.hosts[host, kind] for kind in columns],
        )
        for host, count in sorted(failed.items(), key=lambda item: (-item[1], item[0]))
    ]
    text = body(
        "failures.html.j2",
        kinds=kinds,
        columns=columns,
        rows=rows[:_SHOWN_HOSTS],
        more=len(rows) - _SHOWN_HOSTS,
        most=max(n for *_, cells in rows for n in cells),
        total=sum(found.kinds.values()),
        tried=sum(found.tried.values()),
    )
    return Section("failures", "Download failures", text)
