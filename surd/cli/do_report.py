"""The report."""

from __future__ import annotations

from dataclasses import asdict

from surd.cli.printing import print_json, say


def report(folder: str, output: str | None, *, quiet: bool, as_json: bool) -> None:
    """``surd report``."""
    from surd.pages.text import bytes_
    from surd.progress import track
    from surd.report.write import report as write

    with track("report", None, quiet=quiet) as tick:
        written = write(folder, output, tick)
    if as_json:
        print_json(asdict(written))
        return
    say(f"{written.location}: {bytes_(written.bytes)}, one file; open it in a browser")
