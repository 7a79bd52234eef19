"""Asking a paged JSON API, politely and stubbornly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

from surd.errors import SourceError
from surd.net.endpoints import endpoint
from surd.net.headers import user_agent
from surd.net.opt_outs import opt_out
from surd.net.proxies import proxies_of
from surd.net.robots import Robots, parse
from surd.untrusted import parse_json

if TYPE_CHECKING:
    import requests

Ask = Callable[[str, Mapping[str, str | int]], dict[str, Any]]
AskPage = Callable[[str, Mapping[str, str | int]], str]
_Answer = TypeVar("_Answer")

_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_MAX_ANSWER_S = 300.0
_MAX_RETRY_AFTER_S = 120
_UNREADABLE_TRIES = 3


def open_api(
    base_url: str,
    *,
    token: str | None,
    contact: str | None,
    requests_per_s: float,
    retries: int,
    timeout_s: float,
    method: Literal["GET", "POST"] = "GET",
) -> Ask:
    """A function ``ask(path, query)`` that returns the JSON object at ``base_url/path``.

    With POST the query is sent as a JSON object; it must be one that may be sent twice.

    It keeps to ``requests_per_s``, waits as Retry-After says (two minutes at most), tries again
    with backoff and jitter on 429 and 5xx, on broken connections and on answers that are no
    JSON. It asks where the environment says that a site is (:mod:`surd.net.endpoints`), through a
    proxy that HTTP_PROXY or HTTPS_PROXY name. The token goes to the base
    url's host alone: redirects to another host are refused.
    Raises SourceError with one line.
    """
    base_url = endpoint(base_url)
    session = _session(base_url, retries, contact, "application/json")
    if token:
        session.headers["Authorization"] = f"Bearer {token}"
    send = partial(_send, session, method, timeout_s=timeout_s)
    ending = _ending(send, _deadline_s(retries, timeout_s))
    return _asking(base_url, requests_per_s, ending, _object)


def open_pages(
    base_url: str, *, contact: str | None, requests_per_s: float, retries: int, timeout_s: float
) -> AskPage:
    """A function ``ask(path, query)`` that returns the text of the page at ``base_url/path``.

    As polite and as stubborn as :func:`open_api`. A page whose headers opt out of AI is refused
    like one that is forbidden.
    """
    base_url = endpoint(base_url)
    session = _session(base_url, retries, contact, "text/html, text/plain;q=0.9")
    send = partial(_send, session, "GET", timeout_s=timeout_s, respect_noai=True)
    ending = _ending(send, _deadline_s(retries, timeout_s))
    return _asking(base_url, requests_per_s, ending, lambda body: body.decode(errors="replace"))


def read_robots(ask: AskPage) -> Robots:
    """The rules of the site's robots.txt. A site that has none (4xx) allows everything.

    Raises SourceError when the site cannot tell: then nothing may be asked.
    """
    try:
        return parse(ask("robots.txt", {}))
    except RefusedError as error:
        if 400 <= error.status < 500 and error.status != 429:
            return Robots()
        raise


_Send = Callable[[str, Mapping[str, str | int]], tuple[int, bytes]]


def _deadline_s(retries: int, timeout_s: float) -> float:
    """An answer may take so long, with what is waited for between tries."""
    return _MAX_ANSWER_S + retries * (timeout_s + _MAX_RETRY_AFTER_S)


def _ending(send: _Send, deadline_s: float) -> _Send:
    """``send`` in a thread of its own, which is left behind at the deadline.

    The timeout of a socket begins anew with each byte, of a header as well as of the body.
    """

    def ask(url: str, query: Mapping[str, str | int]) -> tuple[int, bytes]:
        answer: Future[tuple[int, bytes]] = Future()

        def work() -> None:
            try:
                answer.set_result(send(url, query))
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=work, name="surd-api", daemon=True).start()
        try:
            return answer.result(deadline_s)
        except TimeoutError as error:
            raise SourceError(f"{url}: the answer does not end; lower page_size") from error

    return ask


class RefusedError(SourceError):
    """An answer with a status other than 200."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message, status)  # as it crosses processes
        self.status = status

    def __str__(self) -> str:
        return str(self.args[0])


class OptOutError(RefusedError):
    """A page that does not want to be used for AI."""


def _asking(
    base_url: str,
    requests_per_s: float,
    send: _Send,
    read: Callable[[bytes], _Answer],
) -> Callable[[str, Mapping[str, str | int]], _Answer]:
    last_s = 0.0

    def ask(path: str, query: Mapping[str, str | int]) -> _Answer:
        nonlocal last_s
        url = f"{base_url}/{path}"
        for attempt in range(_UNREADABLE_TRIES):
            time.sleep(max(0.0, last_s + 1 / requests_per_s - time.monotonic(), min(attempt, 2.0)))
            last_s = time.monotonic()
            try:
                status, body = send(url, query)
                if status == 200:
                    return read(body)
            except _BrokenAnswerError as error:
                problem = str(error)
            else:
                raise RefusedError(f"{url}: {_refusal(status)}", status)
        raise SourceError(f"{url}: {problem}; run the same command later to continue from here")

    return ask


def _session(base_url: str, retries: int, contact: str | None, accept: str) -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    retry = Retry(
        total=retries,
        backoff_factor=0.5,
        backoff_jitter=0.5,
        backoff_max=60,
        status_forcelist=(408, 429, 500, 502, 503, 504, 520, 522, 524),
        raise_on_status=False,
        retry_after_max=_MAX_RETRY_AFTER_S,
        allowed_methods=None,  # also POST
    )
    session = requests.Session()
    session.trust_env = False  # a netrc entry must not replace the token
    session.proxies.update(proxies_of(base_url))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.headers["User-Agent"] = user_agent(contact)
    session.headers["Accept"] = accept
    return session


def _send(
    session: requests.Session,
    method: str,
    url: str,
    query: Mapping[str, str | int],
    *,
    timeout_s: float,
    respect_noai: bool = False,
) -> tuple[int, bytes]:
    """Status and body, redirects followed within the host."""
    import requests

    params = urlencode(query, errors="replace") if method == "GET" else None
    body = dict(query) if method == "POST" else None
    try:
        for _ in range(5):
            with session.request(
                method,
                url,
                params=params,
                json=body,
                timeout=timeout_s,
                stream=True,
                allow_redirects=False,
            ) as response:
                asks_pages = respect_noai and not url.endswith("/robots.txt")
                found = opt_out(response.raw.headers.getlist) if asks_pages else None
                if found is not None:
                    raise OptOutError(f"{url}: opts out of AI ({found})", response.status_code)
                if not response.is_redirect:
                    return response.status_code, _body(response, url)
                location = response.headers["Location"]
            target = _target(response.url, location)
            if target is None:
                raise SourceError(f"{url}: redirects to {location[:200]!r}, which is no url")
            if not _same_server(target, url):
                raise SourceError(
                    f"{url}: redirects to {urlsplit(target).scheme}://{urlsplit(target).netloc}; "
                    "set base_url to that if you trust it"
                )
            url, params = target, None
    except requests.RequestException as error:
        raise SourceError(f"{url}: no answer ({_cause(error)}); is the address right?") from error
    raise SourceError(f"{url}: redirects in a circle")


def _target(url: str, location: str) -> str | None:
    """Where a redirect leads; None for what is no url."""
    try:
        target = urljoin(url, location)
        _ = urlsplit(target).port  # raises for what is no number of a port
    except ValueError:
        return None
    return target


def _same_server(target: str, url: str) -> bool:
    """The same host and port; from http to https is fine, back is not."""
    new, old = urlsplit(target), urlsplit(url)
    if new.hostname != old.hostname or new.scheme not in (old.scheme, "https"):
        return False
    return new.port == old.port


class _BrokenAnswerError(Exception):
    """An answer that came but cannot be read; asking again may help."""


def _body(response: requests.Response, url: str) -> bytes:
    import requests

    body = bytearray()
    try:
        for chunk in response.iter_content(64 * 1024):
            body += chunk
            if len(body) > _MAX_ANSWER_BYTES:
                raise SourceError(f"{url}: the answer does not end; lower page_size")
    except requests.RequestException as error:
        raise _BrokenAnswerError(f"the answer breaks off ({_cause(error)})") from error
    return bytes(body)


def _object(body: bytes) -> dict[str, Any]:
    """Raises _BrokenAnswerError when the body is no JSON object."""
    try:
        answer = parse_json(body)
    except ValueError:
        start = body[:200].lstrip().lower()
        kind = "an HTML page (down for maintenance?)" if start.startswith(b"<") else "broken JSON"
        raise _BrokenAnswerError(f"answers {kind}") from None
    if not isinstance(answer, dict):
        raise _BrokenAnswerError(
            f"answers with a JSON {type(answer).__name__} instead of an object"
        )
    return answer


def _refusal(status: int) -> str:
    hints = {
        401: "the API key is missing or wrong",
        403: "access refused; an API key may help",
        404: "no such endpoint; is base_url right?",
        429: "too many requests; lower requests_per_s",
    }
    return f"HTTP {status}: {hints.get(status, 'the site is failing; try again later')}"


def _cause(error: BaseException) -> str:
    """The innermost class name: what really happened, without urllib3's nesting."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    text = str(cause).split("\n", 1)[0]
    return text if 0 < len(text) < 80 else type(cause).__name__
