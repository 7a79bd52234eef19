"""What the hub, or the way to it, refuses: one line that names the mend and holds no secret."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from surd.errors import SurdError
from surd.pages.markdown import plain

_HTTP_ERROR = cast(type[Exception], HfHubHTTPError.__bases__[0])
"""What the HTTP library under huggingface_hub raises, whichever of them it is."""
_AGAIN = "rerun the same command; files already sent are not sent again"
_MAX_CHARS = 300


@contextmanager
def telling(repo: str, endpoint: str, token: str) -> Iterator[None]:
    """Turn what the hub's library raises into a SurdError without the token in it."""
    try:
        yield
    except (_HTTP_ERROR, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        told = _told(error, repo, endpoint)
        raise SurdError(plain(told).replace(token, "***")) from None  # the cause may hold the token


def host_of(endpoint: str) -> str:
    """Where the hub is, without a password that may stand in its url."""
    parts = urlsplit(endpoint)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}" if parts.netloc else endpoint


def _told(error: BaseException, repo: str, endpoint: str) -> str:
    host = host_of(endpoint)
    answer = _answer(error)
    if answer is not None:
        return _refused(answer, repo, endpoint, host)
    if isinstance(error, OfflineModeIsEnabled):
        return f"{host}: HF_HUB_OFFLINE forbids network access; unset it and rerun the same command"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: cannot be read: {error.strerror}; fix that, then {_AGAIN}"
    root = _root(error)
    if isinstance(root, _HTTP_ERROR | OSError):
        why = _first_line(root)
        return (
            f"{host}: cannot be reached ({why}); check the network and HF_ENDPOINT, then {_AGAIN}"
        )
    if isinstance(root, json.JSONDecodeError | KeyError | TypeError):
        return f"{host}: does not answer like a hub; check HF_ENDPOINT, then {_AGAIN}"
    return f"{host}: {_first_line(error)}; fix that, then {_AGAIN}"


def _refused(error: HfHubHTTPError, repo: str, endpoint: str, host: str) -> str:
    status = error.response.status_code
    said = f" ({error.server_message[:_MAX_CHARS]})" if error.server_message else ""
    if not str(error.response.url).startswith(endpoint):
        return f"{host}: its storage answered {status}; {_AGAIN}"
    tokens = f"{host}/settings/tokens"
    mends = {
        401: f"does not accept the token{said}; create one with write access at {tokens} and set "
        "HF_TOKEN, or run: hf auth login",
        403: f"does not let this token write to {repo}{said}; change that at {tokens}, or choose a "
        "--repo of your own",
        404: f"has no repository {repo} that this token may see{said}; check --repo and the token",
        409: f"{repo} has changed in the meantime{said}; {_AGAIN}",
        412: f"{repo} has changed in the meantime{said}; {_AGAIN}",
        429: f"asks to slow down{said}; wait, then {_AGAIN}",
    }
    if status >= 500:
        return f"{host}: answered {status}{said}; {_AGAIN}"
    return f"{host}: {mends.get(status, f'refused with {status}{said}; fix that, then {_AGAIN}')}"


def _answer(error: BaseException | None) -> HfHubHTTPError | None:
    """The hub's own answer, however deep the library wrapped it."""
    while error is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        if isinstance(error, _HTTP_ERROR):
            break
        error = error.__cause__
    return error


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:_MAX_CHARS].rstrip(".") if lines else type(error).__name__
