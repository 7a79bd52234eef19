"""Passwords, keys and signatures in urls, which belong into no recipe and no dataset."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)
_NAMES = (
    r"(x-amz-|x-goog-)[\w-]+|awsaccesskeyid|googleaccessid|key-pair-id|sig|signature|policy"
    r"|(\w+[_-])?(api[_-]?key|key|token|secret|password|passwd|pwd|auth|credentials?)"
)
_NAME = re.compile(_NAMES, re.IGNORECASE)
SECRET_PATTERN = rf"(?i)@|[?&;#]({_NAMES})="
"""For Arrow: a url that may hold a secret."""


def secret_in(text: str) -> str | None:
    """What secret a url within the text holds, in words; None where there is none.

    A name alone before the host is none where it says whose files are meant, as with sftp.
    """
    for url in _URL.findall(text):
        try:
            parts = urlsplit(url)
        except ValueError:  # as it is no url, nobody can use it as one
            continue
        user, at, _ = parts.netloc.rpartition("@")
        if at and (":" in user or parts.scheme.lower() in ("http", "https")):
            return "a user or password"
        name = next((name for name, _ in _fields(parts.query) if _NAME.fullmatch(name)), None)
        if name is not None:
            return f"a key ({name})"
    return None


def without_secrets(url: str | None) -> str | None:
    """A url less ``user:password@`` and the fields of its query that are secret; None for what is
    no url, where it cannot be told."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return None
    kept = [field for name, field in _fields(parts.query) if not _NAME.fullmatch(name)]
    query = parts.query if len(kept) == len(_fields(parts.query)) else "&".join(kept)
    if "@" not in parts.netloc and query == parts.query:
        return url
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query))


def _fields(query: str) -> list[tuple[str, str]]:
    """Name and text of each field."""
    return [(field.partition("=")[0], field) for field in re.split("[&;]", query) if field]
