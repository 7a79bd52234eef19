"""How commands speak."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from surd.build.verdicts import Unjudged

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
    """A result, on the standard output: harmless, since names and texts in it may be strangers'."""
    print(harmless(line), flush=True)


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
    """A result for machines. What a terminal would obey is escaped, which JSON reads as before."""
    text = json.dumps(content, indent=2, ensure_ascii=False, default=str)
    print("\n".join(map(_escaped, text.split("\n"))))


def _escaped(line: str) -> str:
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in line)


def say_unjudged(found: Mapping[str, Unjudged]) -> None:
    """Which settings of the filter judge no samples, or not all, in a line; but for idle ones."""
    told = [
        f"{one.samples:,} by {name}" + (f" ({one.why})" if one.why else "")
        for name, one in found.items()
        if not one.idle
    ]
    if told:
        say(f"not judged, since they have no such value: {', '.join(told)}")


def say_collected(found: dict[str, Any]) -> None:
    """The table of what was collected, with an example of all that was not understood or passed
    over."""
    from surd.stages.tally import NO_GENERATOR

    images = found["images"]
    rows: list[tuple[str, int, str]] = []
    if found["files_seen"]:
        rows.append(("files seen", found["files_seen"], ""))
    rows.append(("images", images, ""))
    rows.append(("  with a prompt", found["with_prompt"], ""))
    generators = found["by_generator"]
    if generators.keys() - {NO_GENERATOR}:
        rows += [(f"    {name}", count, "") for name, count in generators.items()]
    if found["with_simple_prompt"]:
        rows.append(("  with a simple prompt", found["with_simple_prompt"], ""))
    if images > found["with_prompt"]:
        rows.append(("  without a prompt", images - found["with_prompt"], ""))
    if found["gone"]:
        rows.append(("gone since, which the filter drops", found["gone"], ""))
    for key, title in (("not_understood", "text not understood"), ("passed_over", "passed over")):
        if found[key]:
            rows.append((title, sum(entry["count"] for entry in found[key].values()), ""))
            rows += [
                (f"  {k}", e["count"], f"such as {e['example']}") for k, e in found[key].items()
            ]
    width = min(40, max(len(name) for name, *_ in rows))
    for name, count, note in rows:
        say(f"  {shown(name):<{width}} {count:>10,}  {shown(note)}".rstrip())
