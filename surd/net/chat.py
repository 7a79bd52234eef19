"""Asking an OpenAI-compatible server: many requests under way at once, stubbornly.

The protocol is that of https://platform.openai.com/docs/api-reference/chat, as far as vLLM, SGLang,
llama.cpp, Ollama and LM Studio speak it too.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import random
import re
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from surd.errors import ModelError
from surd.net.headers import retry_after_s, user_agent
from surd.net.proxies import proxy_for
from surd.untrusted import parse_json

log = logging.getLogger("surd")

Made = TypeVar("Made")
Body = Mapping[str, Any]

_BUSY = frozenset({429, 503})
_PASSING = frozenset({408, 409, 425, 500, 502, 504, 520, 522, 524})
_MAX_ANSWER_BYTES = 16 * 1024 * 1024
_IN_A_ROW = 32
"""So many requests without one answer are no matter of what is asked."""
_MAX_PAUSE_S = 15.0
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")
"""Control characters, which terminals obey, and halves of characters, which no file takes."""
_ROUNDED = 0.01
"""How far above zero half precision may put the logarithm of a probability."""
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_CONNECT_S = 10.0
_TOLD_AFTER_S = 3.0
"""Servers with a rate limit are busy for less every few requests."""
_MOVED = frozenset({301, 302, 303, 307, 308})
_OF_ALL = _MOVED | {401, 404}
"""The address, the key or the model is not, or no longer, the server's: no request would be
answered."""


@dataclass(frozen=True)
class Manners:
    """How a server is asked."""

    concurrency: int = 32
    """Requests under way at once."""
    retries: int = 5
    """Of a request whose answer does not come whole."""
    timeout_s: float = 600.0
    """For one answer, with the time it waits in the server's own queue."""
    patience_s: float = 300.0
    """For a server that is busy or away, as one that restarts."""
    key_variable: str = "OPENAI_API_KEY"
    """Of the environment."""


@dataclass(frozen=True)
class Choice:
    """One answer."""

    text: str
    is_cut: bool = False
    """Whether it ends where ``max_tokens`` are reached."""
    tokens: Sequence[Mapping[str, float]] = field(default_factory=tuple)
    """Of each token, where they were asked for: the likeliest and their log-probabilities."""


class UnansweredError(Exception):
    """Why a request has no answer, in one line; other requests may have theirs."""

    is_final = False
    """Whether the same request would end like this again."""

    def __init__(self, reason: str, http_status: int | None = None) -> None:
        super().__init__(reason, http_status)  # as it crosses processes
        self.http_status = http_status

    def __str__(self) -> str:
        return str(self.args[0])


class _Unready(Exception):  # noqa: N818  (it is the server, and no fault of the request)
    """The server is busy or away; the request is to be sent again."""

    def __init__(self, reason: str, wait_s: float | None = None, is_away: bool = False) -> None:
        super().__init__(reason, wait_s, is_away)  # as it crosses processes
        self.wait_s = wait_s
        self.is_away = is_away

    def __str__(self) -> str:
        return str(self.args[0])


class _Broken(Exception):  # noqa: N818  (counted, and told in UnansweredError)
    """An answer that did not come, or not whole."""


class Chat:
    """A server, asked from an event loop in a thread of its own, within a ``with`` block.

    A server that is busy (429, 503) or cannot be reached is asked by nobody for as long as it says,
    or for a while that grows; that costs no request a try. One that gives no answer at all for
    ``patience_s`` ends everything, and so do 32 failures in a row.
    """

    def __init__(self, url: str, model: str, manners: Manners | None = None) -> None:
        """`url` is the address that ends in ``/v1``."""
        self.url, self.model = url, model
        self.manners = manners or Manners()
        self._silent_until_s = 0.0
        self._trouble_since_s: float | None = None
        self._is_told = False
        self._failed_in_a_row = 0
        self._has_answered = False
        self._end: ModelError | None = None
        self._session: aiohttp.ClientSession | None = None

    def __enter__(self) -> Chat:
        """Raises ModelError where nothing answers, or the key is not accepted."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="surd-chat", daemon=True)
        self._thread.start()
        try:
            self._run(self._open())
            self._run(self._look())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End whatever is under way."""
        self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def submit(self, work: Coroutine[Any, Any, Made]) -> Future[Made]:
        """Start what asks the server; its result raises UnansweredError or ModelError."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def ask(self, body: Body) -> list[Choice]:
        """The choices of one chat completion; ``model`` is added to the body.

        Raises UnansweredError, and ModelError where no request would be answered.
        """
        content = json.dumps({"model": self.model, **body}).encode()
        tries, unready_s = 0, None
        while True:
            try:
                async with self._places:
                    await self._silence()
                    choices = await self._choices(content)
                self._answered()
                return choices
            except _Unready as error:
                self._unready(error)
                unready_s = unready_s or time.monotonic()
                if time.monotonic() - unready_s > 2 * self.manners.patience_s:  # others had answers
                    raise self._failed(UnansweredError(str(error))) from error
            except UnansweredError as error:
                raise self._failed(error) from error
            except _Broken as error:
                if tries == self.manners.retries:
                    raise self._failed(UnansweredError(str(error))) from error
                await asyncio.sleep(min(0.25 * 2.0**tries, _MAX_PAUSE_S) * random.uniform(0.5, 1.5))
                tries += 1

    # in the event loop's thread -----------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Made]) -> Made:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _open(self) -> None:
        key = os.environ.get(self.manners.key_variable, "").strip()
        headers = {"User-Agent": user_agent(None), "Content-Type": "application/json"}
        if _UNWANTED.search(key) or "\n" in key:
            raise self._refusal(
                f"takes no key with control characters, as in {self.manners.key_variable}; set it "
                "to the key alone"
            )
        if key:
            headers["Authorization"] = f"Bearer {key}"
        timeout = aiohttp.ClientTimeout(total=self.manners.timeout_s, sock_connect=_CONNECT_S)
        self._places = asyncio.Semaphore(self.manners.concurrency)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=timeout,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _shut(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _look(self) -> None:
        """Raises ModelError where nothing answers."""
        try:
            await self._exchange("GET", "models")
        except _Unready as error:
            if error.is_away:
                raise self._refusal(f"does not answer ({error}); start it first") from error
        except UnansweredError as error:
            if error.http_status in {401, 403} | _MOVED:
                raise self._refusal(self._mend(error)) from error
        except _Broken as error:
            if not URL(self.url).path.strip("/"):
                raise self._refusal(f"is no address that ends in /v1 ({error})") from error
            # not every server lists its models

    async def _silence(self) -> None:
        """Wait for as long as the server is to be left alone."""
        while (left_s := self._silent_until_s - time.monotonic()) > 0:
            await asyncio.sleep(left_s)
        if self._end is not None:
            raise self._end

    async def _choices(self, content: bytes) -> list[Choice]:
        answer = await self._exchange("POST", "chat/completions", content)
        try:
            return [_choice(some) for some in answer["choices"]] or _no_choice()
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise _Broken(f"an answer without choices: {json.dumps(answer):.200}") from error

    async def _exchange(
        self, method: str, path: str, content: bytes | None = None
    ) -> dict[str, Any]:
        """One request. Raises _Unready, _Broken, UnansweredError."""
        assert self._session is not None
        url = URL(f"{self.url}/{path}")
        try:
            async with self._session.request(
                method, url, data=content, allow_redirects=False, proxy=proxy_for(url)
            ) as response:
                data = await _body(response)
                if response.status != 200:
                    raise _refused(response.status, _told(response, data), response.headers)
                answer = _object(data)
                if error := _error_in(answer):
                    raise _refused(_code(error), f"an error{_said(error)}", response.headers)
                return answer
        except aiohttp.ClientConnectionError as error:
            if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError):
                raise _Unready(_cause(error), is_away=True) from error
            raise _Broken(f"the connection broke ({_cause(error)})") from error
        except TimeoutError as error:
            raise _Broken(f"no whole answer within {self.manners.timeout_s:g} s") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise _Broken(f"the answer broke off ({_cause(error)})") from error

    def _answered(self) -> None:
        if self._is_told:
            log.warning("%s answers again", self.url)
        self._trouble_since_s, self._is_told = None, False
        self._failed_in_a_row, self._has_answered = 0, True

    def _unready(self, error: _Unready) -> None:
        """Leave the server alone for a while. Raises ModelError where that has lasted too long."""
        now_s = time.monotonic()
        if self._trouble_since_s is None:
            self._trouble_since_s = now_s
        lasts_s = now_s - self._trouble_since_s
        wait_s = error.wait_s
        if not wait_s:  # at once is too soon: it would be asked a thousand times a second
            wait_s = min(max(0.2, lasts_s / 4), _MAX_PAUSE_S) * random.uniform(0.8, 1.2)
        if max(lasts_s, wait_s) > self.manners.patience_s:
            self._end = self._refusal(
                f"gave no answer for {lasts_s:.0f} s ({error}); when it is ready, run the same "
                "command again to continue"
            )
            raise self._end
        if not self._is_told and lasts_s + wait_s >= _TOLD_AFTER_S:
            self._is_told = True
            log.warning(
                "%s: %s; waiting for it, up to %g s", self.url, error, self.manners.patience_s
            )
        self._silent_until_s = max(self._silent_until_s, now_s + wait_s)

    def _failed(self, error: UnansweredError) -> Exception:
        """What to raise for a request that has no answer: ModelError where none would have."""
        status = error.http_status
        if status in _OF_ALL or (status == 403 and not self._has_answered):
            self._end = self._refusal(self._mend(error))
        if status is None or not self._has_answered:
            self._failed_in_a_row += 1
        if self._failed_in_a_row >= _IN_A_ROW:
            self._end = self._refusal(f"{_IN_A_ROW} requests in a row failed, the last: {error}")
        return self._end or error

    def _mend(self, error: UnansweredError) -> str:
        if error.http_status == 404:
            return f"has no model {self.model!r}, or is no address that ends in /v1 ({error})"
        if error.http_status in _MOVED:
            return f"redirects ({error}); name the address that it redirects to"
        variable = self.manners.key_variable
        if not os.environ.get(variable, "").strip():
            return f"wants a key; put it into {variable} ({error})"
        return f"does not accept the key in {variable} ({error})"

    def _refusal(self, what: str) -> ModelError:
        return ModelError(f"server {self.url} {what}")


def _choice(value: Mapping[str, Any]) -> Choice:
    """Raises KeyError, TypeError, AttributeError, ValueError or OverflowError for what is none,
    and _Broken for tokens that are none."""
    content = value["message"].get("content") or ""
    if not isinstance(content, str):  # a list of parts
        content = "".join(part.get("text") or "" for part in content)
    logprobs = (value.get("logprobs") or {}).get("content") or ()
    tokens = tuple(_likeliest(token) for token in logprobs)
    words = _UNWANTED.sub(" ", content).strip()
    return Choice(words, value.get("finish_reason") == "length", tokens)


def _likeliest(token: Mapping[str, Any]) -> dict[str, float]:
    """A token's alternatives, itself among them."""
    found = {one["token"]: one["logprob"] for one in token.get("top_logprobs") or ()}
    found.setdefault(token["token"], token["logprob"])
    known = {text: float(value) for text, value in found.items() if value is not None}
    if any(not isinstance(text, str) or known[text] > _ROUNDED for text in known):
        raise _Broken(f"log-probabilities that are none: {json.dumps(token):.200}")
    return {text: min(0.0, value) for text, value in known.items() if math.isfinite(value)}


def _no_choice() -> list[Choice]:
    raise ValueError("no choice")


async def _body(response: aiohttp.ClientResponse) -> bytes:
    pieces = bytearray()
    async for chunk in response.content.iter_any():
        pieces += chunk
        if len(pieces) > _MAX_ANSWER_BYTES:
            raise _Broken(f"an answer of more than {_MAX_ANSWER_BYTES:,} bytes")
    return bytes(pieces)


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ValueError as error:
        raise _Broken("an answer that is no JSON") from error
    if not isinstance(value, dict):
        raise _Broken("an answer that is no JSON object")
    return value


def _refused(status: int | None, told: str, headers: Mapping[str, str]) -> Exception:
    """What a status other than 200 means, or none, of an error that has no number."""
    if status in _BUSY:
        return _Unready(told, retry_after_s(headers.get("Retry-After"), headers.get("Date")))
    if status is None or status in _PASSING or status >= 500:
        return _Broken(told)
    return UnansweredError(told, status)


def _told(response: aiohttp.ClientResponse, data: bytes) -> str:
    """A status other than 200, and what the server says of it; servers differ in where."""
    told = f"HTTP {response.status}"
    if response.status in _MOVED and "Location" in response.headers:
        return told + _to(response.headers["Location"], response.url)
    try:
        value = parse_json(data)
        return told + _said(value.get("error", value))
    except (ValueError, AttributeError):
        return told


def _to(location: str, url: URL) -> str:
    """Where `url` redirects to, without what may be secret; nothing where that is no url."""
    try:
        place = url.join(URL(location)).with_query(None)
        place = place.with_user(None) if place.is_absolute() else place
    except ValueError:
        return ""
    return f", to {_plain(str(place))}"


def _error_in(answer: Mapping[str, Any]) -> Any:
    """The error that some servers and routers send with status 200, in place of choices or in the
    first."""
    choices = answer.get("choices")
    if not choices:
        return answer.get("error")
    first = choices[0] if isinstance(choices, list) else None
    return first.get("error") if isinstance(first, Mapping) else None


def _code(error: Any) -> int | None:
    """The HTTP status that an error names."""
    code = error.get("code") if isinstance(error, Mapping) else None
    return code if isinstance(code, int) and 400 <= code < 600 else None


def _said(error: Any) -> str:
    text = error
    if isinstance(error, Mapping):
        text = error.get("message") or error.get("detail")
    words = _plain(str(text or ""))
    return f": {words}" if words else ""


def _plain(text: str) -> str:
    return " ".join(_UNWANTED.sub(" ", text).split())[:200]


def _cause(error: BaseException) -> str:
    reason = getattr(error, "os_error", None) or error
    text = str(getattr(reason, "strerror", None) or reason).split("\n", 1)[0]
    several = _ERRNO.search(text)  # of a host with several addresses, each refused
    if several:
        text = os.strerror(int(several[1]))
    return text[:100] or type(error).__name__
