"""Fuzz one target for some seconds: ``python tests/fuzz/run.py image 60`` (make fuzz: all).

Needs atheris (``pip install -e ".[fuzz]"``; https://github.com/google/atheris). Begins with what is
kept in corpus/, and adds what it finds to .fuzz/. What makes the target raise is written to
.fuzz/crash-…; kept in corpus/ under another name, it is a test from then on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, seconds = sys.argv[1], sys.argv[2]
    sys.path.insert(0, str(HERE.parent))
    with atheris.instrument_imports(include=["surd", "PIL"]):
        from support_fuzz import TARGETS
    found = Path(".fuzz", name)
    found.mkdir(parents=True, exist_ok=True)
    import logging
    import warnings

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    options = [
        f"-max_total_time={seconds}",
        "-artifact_prefix=.fuzz/",
        "-timeout=20",
        "-rss_limit_mb=4096",
        "-max_len=20000",
        *sys.argv[3:],
    ]
    atheris.Setup([sys.argv[0], *options, str(found), str(HERE / "corpus" / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
