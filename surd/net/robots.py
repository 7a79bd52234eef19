"""What a site's robots.txt allows. https://www.rfc-editor.org/rfc/rfc9309"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from protego import Protego

from surd.net.opt_outs import usage_opts_out, usage_speaks_of_training

_AGENT = "surd"
_VERSIONS = re.compile(r"^(\s*user-agent\s*:\s*[^\s/#]+)/\S*", re.IGNORECASE | re.MULTILINE)
_MAX_CHARS = 500 * 1024
_MAX_DELAY_S = 60.0
_NOTHING = "Disallow: /"
"""The rule of paths of which no usage preference speaks."""


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules for surd; None allows everything."""

    paths: Protego | None = None
    usage: Protego | None = None
    """Allows the paths whose files may not be used for training: of equal rules, Allow counts."""
    delay_s: float = 0.0
    """Seconds between requests."""


def parse(text: str) -> Robots:
    """The rules of the groups that name surd, or else of those for everybody.

    Usage preferences are https://datatracker.ietf.org/doc/draft-ietf-aipref-attach/, section 5.
    """
    text = _VERSIONS.sub(r"\1", text[:_MAX_CHARS].lstrip("\ufeff"))
    usage = "\n".join(_usage_rules(text))
    paths = Protego.parse(text)
    delay_s = min(max(paths.crawl_delay(_AGENT) or 0.0, 0.0), _MAX_DELAY_S)
    return Robots(paths, Protego.parse(usage) if usage else None, delay_s)


def allows(robots: Robots, url: str) -> bool:
    """Whether a url, or a path with its query, may be asked for: the longest rule decides."""
    return robots.paths is None or robots.paths.can_fetch(url, _AGENT)


def opts_out(robots: Robots, url: str) -> bool:
    """Whether what is at a url, or a path with its query, is not to be used for training."""
    return robots.usage is not None and robots.usage.can_fetch(url, _AGENT)


def _usage_rules(text: str) -> Iterator[str]:
    """The usage preferences as a robots.txt of their own, which allows what opts out."""
    has_usage, in_group = False, False
    lines = []
    for line in text.splitlines():
        key, colon, value = line.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if key == "user-agent":
            in_group = True
            lines.append(line)
        elif key in ("content-usage", "content-signal"):
            if not usage_speaks_of_training(value):
                continue
            has_usage = True
            path = value.split()[0] if value.startswith(("/", "*")) else "/"
            lines += [_NOTHING] if in_group else ["User-agent: *", _NOTHING]
            in_group = True
            lines.append(f"{'Allow' if usage_opts_out(value) else 'Disallow'}: {path}")
        elif colon:
            lines.append(_NOTHING)  # a rule, after which the next agent has its own
    return iter([*lines, "User-agent: *", _NOTHING] if has_usage else [])
