"""Asking a paged JSON API, politely and stubbornly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

from surd.errors import SourceError
from surd.fetch import user_agent

Ask = Callable[[str, Mapping[str, str | int]], dict[str, Any]]

_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_ANSWER_S = 300.0
_UNREADABLE_TRIES = 3


def open_api(
    base_url: str,
    *,
    token: str | None,
    contact: str | None,
    requests_per_s: float,
    retries: int,
    timeout_s: float,
) -> Ask:
    """A function ``ask(path, query)`` that returns the JSON object at ``base_url/path``.

    It keeps to ``requests_per_s``, waits as Retry-After says (two minutes at most), tries again
    with backoff and jitter on 429 and 5xx, on broken connections and on answers that are no
    JSON. The token goes to the base url's host alone: redirects to another host are refused.
    Raises SourceError with one line.
    """
    session = _session(retries)
    session.headers["User-Agent"] = user_agent(contact)
    session.headers["Accept"] = "application/json"
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    last_s = 0.0

    def ask(path: str, query: Mapping[str, str | int]) -> dict[str, Any]:
        nonlocal last_s
        url = f"{base_url}/{path}"
        for attempt in range(_UNREADABLE_TRIES):
            time.sleep(max(0.0, last_s + 1 / requests_per_s - time.monotonic(), min(attempt, 2.0)))
            last_s = time.monotonic()
            try:
                status, body = _get(session, url, query, timeout_s)
                if status == 200:
                    return _object(body)
            except _BrokenAnswerError as error:
                problem = str(error)
            else:
                raise SourceError(f"{url}: {_refusal(status)}")
        raise SourceError(f"{url}: {problem}; run the same command later, it goes on from here")

    return ask


def _session(retries: int) -> requests.Session:
    retry = Retry(
        total=retries,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        backoff_max=60,
        status_forcelist=(408, 429, 500, 502, 503, 504, 520, 522, 524),
        raise_on_status=False,
        retry_after_max=120,
    )
    session = requests.Session()
    session.trust_env = False  # a netrc entry must not replace the token
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    return session


def _get(
    session: requests.Session, url: str, query: Mapping[str, str | int], timeout_s: float
) -> tuple[int, bytes]:
    """Status and body, redirects followed within the host."""
    params: Mapping[str, str | int] | None = query
    try:
        for _ in range(5):
            with session.get(
                url, params=params, timeout=timeout_s, stream=True, allow_redirects=False
            ) as response:
                if not response.is_redirect:
                    return response.status_code, _body(response, url)
                target = requests.compat.urljoin(response.url, response.headers["Location"])
            if not _same_server(target, url):
                raise SourceError(
                    f"{url}: redirects to {urlsplit(target).scheme}://{urlsplit(target).netloc}; "
                    "set base_url to that if you trust it"
                )
            url, params = target, None
    except requests.RequestException as error:
        raise SourceError(f"{url}: no answer ({_cause(error)}); is the address right?") from error
    raise SourceError(f"{url}: redirects in circles")


def _same_server(target: str, url: str) -> bool:
    """The same host and port; from http to https is fine, back is not."""
    new, old = urlsplit(target), urlsplit(url)
    if new.hostname != old.hostname or new.scheme not in (old.scheme, "https"):
        return False
    return new.port == old.port


class _BrokenAnswerError(Exception):
    """An answer that came but cannot be read; asking again may help."""


def _body(response: requests.Response, url: str) -> bytes:
    body, started = bytearray(), time.monotonic()
    try:
        for chunk in response.iter_content(64 * 1024):
            body += chunk
            if len(body) > _MAX_ANSWER_BYTES or time.monotonic() - started > _MAX_ANSWER_S:
                raise SourceError(f"{url}: the answer does not end; lower page_size")
    except requests.RequestException as error:
        raise _BrokenAnswerError(f"the answer breaks off ({_cause(error)})") from error
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    """Raises _BrokenAnswerError when the body is no JSON object."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        start = body[:200].lstrip().lower()
        kind = "an HTML page (down for maintenance?)" if start.startswith(b"<") else "broken JSON"
        raise _BrokenAnswerError(f"answers {kind}") from None
    if not isinstance(answer, dict):
        raise _BrokenAnswerError(
            f"answers a JSON {type(answer).__name__} where an object was expected"
        )
    return answer


def _refusal(status: int) -> str:
    hints = {
        401: "the API key is missing or wrong",
        403: "access refused; an API key may help",
        404: "no such endpoint; is base_url right?",
        429: "too many requests; lower requests_per_s",
    }
    return f"HTTP {status}: {hints.get(status, 'the site fails; try again later')}"


def _cause(error: BaseException) -> str:
    """The innermost class name: what really happened, without urllib3's nesting."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    text = str(cause).split("\n", 1)[0]
    return text if 0 < len(text) < 80 else type(cause).__name__
