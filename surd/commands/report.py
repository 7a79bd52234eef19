"""The report."""

from __future__ import annotations

from dataclasses import asdict

from surd.commands.printing import print_json, say


def report(folder: str, output: str | None, *, quiet: bool, as_json: bool) -> None:
    """``surd report``."""
    from surd.progress import track
    from surd.report.report import report as write
    from surd.report.text import bytes_

    with track("report", None, quiet=quiet) as tick:
        written = write(folder, output, tick)
    if as_json:
        print_json(asdict(written))
        return
    say(f"{written.location}: {bytes_(written.bytes)}, one file; open it in a browser")
