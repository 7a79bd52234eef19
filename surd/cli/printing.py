"""How commands speak."""

from __future__ import annotations

import json
import sys
from typing import Any

_LONG_VECTOR = 16


def shown(value: Any) -> str:
    """A value on one line, with control characters made visible."""
    if isinstance(value, list) and len(value) > _LONG_VECTOR and isinstance(value[0], float):
        return f"{len(value)} numbers"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def harmless(text: str) -> str:
    """Lines as they are, with other control characters made visible: they may be strangers'."""
    return "\n".join(map(shown, text.split("\n")))


def say(line: str) -> None:
    """A result, on the standard output."""
    print(line, flush=True)


def warn(line: str) -> None:
    """A line for the user that is no result."""
    print(f"surd: {harmless(line)}", file=sys.stderr, flush=True)


def log_to_stderr() -> None:
    """Have warnings of libraries and of surd's own modules told as harmless lines."""
    import logging

    class Harmless(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return harmless(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(Harmless("%(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def print_json(content: Any) -> None:
    """A result for machines."""
    print(json.dumps(content, indent=2, ensure_ascii=False, default=str))
