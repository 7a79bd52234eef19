"""What a site's robots.txt allows. https://www.rfc-editor.org/rfc/rfc9309

Python's own reader knows neither ``*`` and ``$`` in paths nor that the longest rule wins.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, unquote

from surd.net.http_api import AskPage, RefusedError

AGENT = "surd"
_MAX_CHARS = 500 * 1024
_MAX_DELAY_S = 60.0


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules for surd: paths with whether they are allowed, and seconds between requests."""

    rules: tuple[tuple[str, bool], ...] = ()
    delay_s: float = 0.0


def read_robots(ask: AskPage) -> Robots:
    """The site's rules. A site that has none (4xx) allows everything.

    Raises SourceError when the site cannot tell: then nothing may be asked.
    """
    try:
        return parse(ask("robots.txt", {}))
    except RefusedError as error:
        if 400 <= error.status < 500 and error.status != 429:
            return Robots()
        raise


def parse(text: str) -> Robots:
    """The rules of the groups that name surd, or else of those for everybody."""
    groups: dict[str, tuple[list[tuple[str, bool]], list[float]]] = {}
    agents: list[str] = []
    in_rules = False
    for key, value in _lines(text[:_MAX_CHARS]):
        if key == "user-agent":
            agents = [] if in_rules else agents
            in_rules = False
            agents.append(value.partition("/")[0].strip().lower())
            groups.setdefault(agents[-1], ([], []))
            continue
        in_rules = True
        for agent in agents:
            rules, delays = groups[agent]
            if key in ("allow", "disallow") and value:
                rules.append((_normal(value), key == "allow"))
            elif key == "crawl-delay":
                delays.extend(_seconds(value))
    rules, delays = groups.get(AGENT) or groups.get("*") or ([], [])
    return Robots(tuple(rules), max(delays, default=0.0))


def allows(robots: Robots, path: str) -> bool:
    """Whether a path with its query may be asked for: the longest rule that fits decides."""
    path = _normal(path)
    fitting = [(len(rule), allowed) for rule, allowed in robots.rules if _fits(rule, path)]
    return max(fitting, default=(0, True))[1]


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.lstrip("\ufeff").splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        if colon:
            yield key.strip().lower(), value.strip()


def _seconds(value: str) -> list[float]:
    try:
        number = float(value)
    except ValueError:
        return []
    return [min(number, _MAX_DELAY_S)] if math.isfinite(number) and number > 0 else []


def _normal(path: str) -> str:
    """Percent-encoded in one way only."""
    return quote(unquote(path), safe="/?&=*$%:@!,;'()+~")


def _fits(rule: str, path: str) -> bool:
    """Whether a rule with ``*`` and a final ``$`` fits the beginning of a path."""
    to_end = rule.endswith("$")
    first, *others = rule.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    for i, piece in enumerate(others):
        if to_end and i == len(others) - 1:
            return len(path) - len(piece) >= at and path.endswith(piece)
        found = path.find(piece, at)
        if found < 0:
            return False
        at = found + len(piece)
    return not to_end or at == len(path)
