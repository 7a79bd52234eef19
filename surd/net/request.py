"""One request to a host that nobody vouches for, and what comes of it. See docs/security.md."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import zlib

import aiodns
import aiohttp
from yarl import URL

from surd.net.addresses import BlockedAddressError, address_guard, check_address, is_blocked
from surd.net.endpoints import endpoint_addresses
from surd.net.fetched import Fetched, FetchLimits
from surd.net.headers import retry_after_s, user_agent
from surd.net.opt_outs import opt_out
from surd.net.proxies import proxy_addresses, proxy_for

HOST_FAILURES = frozenset({"timeout", "connect_error", "dns_error"})
"""Statuses that tell of the host, not of the url."""
_MAY_PASS = HOST_FAILURES | {"truncated"}
_TRANSIENT_HTTP = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_SUCH_NAME = frozenset({aiodns.error.ARES_ENOTFOUND, aiodns.error.ARES_ENODATA})


class Refused(Exception):  # noqa: N818  (a verdict on one url, not a failure of surd)
    """Why there is no file."""

    def __init__(
        self,
        status: str,
        detail: str,
        http_status: int | None = None,
        is_final: bool | None = None,
    ) -> None:
        self.outcome = Fetched(status, detail, http_status)
        may_pass = status in _MAY_PASS or http_status in _TRANSIENT_HTTP
        self.is_final = not may_pass if is_final is None else is_final
        """Whether asking again would give the same."""
        self.wait_s: float | None = None
        """What Retry-After says."""
        self.is_overloaded = False
        """Whether the host wants fewer requests, whatever they are for."""


def open_session(limits: FetchLimits, *, contact: str | None) -> aiohttp.ClientSession:
    """A session whose every connection passes the address guard; to be used as a context.

    Raises SurdError for a proxy that cannot be used, or an address of the environment that is none.
    """
    named = endpoint_addresses() | (proxy_addresses() if limits.use_proxy else frozenset())
    connector = aiohttp.TCPConnector(
        limit=0,
        ttl_dns_cache=60,
        socket_factory=address_guard(limits.allowed_networks, named),
    )
    timeout = aiohttp.ClientTimeout(
        total=None, sock_connect=limits.connect_timeout_s, sock_read=limits.stall_timeout_s
    )
    headers = {
        "User-Agent": user_agent(contact),
        "Accept": "image/*,*/*;q=0.5",
        "Accept-Encoding": "identity",
    }
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        headers=headers,
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        read_bufsize=256 * 1024,
    )


async def ask(
    session: aiohttp.ClientSession, target: URL, limits: FetchLimits, left_s: float
) -> Fetched | URL:
    """What comes of one request: a file, or where it was sent to. Raises Refused."""
    try:
        proxy = _proxy_for(target, limits)
        async with (
            asyncio.timeout(max(left_s, 0.0)),
            session.get(target, allow_redirects=False, proxy=proxy) as response,
        ):
            if limits.respect_noai and response.status in (200, *_REDIRECTS):
                _check_opt_out(response)
            if response.status not in _REDIRECTS:
                return await _read(response, limits)
            location = response.headers.get("Location")
            if not location:
                raise Refused("bad_redirect", "a redirect without Location", response.status)
            return checked(location, "bad_redirect", base=target)
    except Refused:
        raise
    except aiohttp.ClientError as error:
        raise _refusal(error) from error
    except TimeoutError as error:
        raise Refused("timeout", "no complete answer in time") from error
    except BlockedAddressError as error:
        raise Refused("blocked_address", str(error)) from error
    except (OSError, ValueError) as error:
        raise Refused("connect_error", _one_line(error)) from error
    except Exception as error:  # whatever a hostile server does, it costs one row
        raise Refused("connect_error", type(error).__name__) from error


def checked(url: str, status: str, base: URL | None = None) -> URL:
    """A url that may be asked for; raises Refused with ``status`` for what is none."""
    try:
        target = base.join(URL(url)) if base else URL(url)
        host = target.host
    except (ValueError, TypeError) as error:
        raise Refused(status, _one_line(error)) from error
    if target.scheme not in ("http", "https"):
        raise Refused(status, f"{target.scheme or 'no'} scheme; only http and https are fetched")
    if not host:
        raise Refused(status, "no host in the url")
    return target


def _proxy_for(target: URL, limits: FetchLimits) -> URL | None:
    """No socket of ours is opened to the target then, but what it says itself can be seen."""
    proxy = proxy_for(target) if limits.use_proxy else None
    host = target.host
    if proxy is not None and host is not None:
        with contextlib.suppress(OSError):  # 127.1, 0x7f000001 and 2130706433 are addresses too
            host = socket.inet_ntoa(socket.inet_aton(host))
        with contextlib.suppress(ValueError):  # a name
            check_address(host, limits.allowed_networks)
    return proxy


def _check_opt_out(response: aiohttp.ClientResponse) -> None:
    found = opt_out(lambda name: response.headers.getall(name, []))
    if found is not None:
        raise Refused("opt_out", found, response.status)


async def _read(response: aiohttp.ClientResponse, limits: FetchLimits) -> Fetched:
    if response.status != 200:
        refused = Refused("http_error", f"HTTP {response.status}", response.status)
        refused.wait_s = retry_after_s(
            response.headers.get("Retry-After"), response.headers.get("Date")
        )
        asks_for_time = response.status == 503 and refused.wait_s is not None
        refused.is_overloaded = response.status == 429 or asks_for_time
        raise refused
    if (response.content_length or 0) > limits.max_bytes:
        raise Refused(
            "too_large",
            f"{response.content_length:,} bytes announced, {limits.max_bytes:,} allowed",
            200,
        )
    unpack = _Unpacker(response.headers.get("Content-Encoding", "identity"), limits.max_bytes)
    pieces: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        pieces.append(unpack(chunk, size))
        size += len(pieces[-1])
        if size > limits.max_bytes:
            raise Refused("too_large", f"more than {limits.max_bytes:,} bytes", 200)
    if unpack.is_cut:
        raise Refused("truncated", "the compressed body ends early", 200)
    return Fetched("ok", None, 200, b"".join(pieces))


class _Unpacker:
    """Undoes a Content-Encoding nobody asked for, never past the byte cap."""

    def __init__(self, encoding: str, max_bytes: int) -> None:
        self._encoding = encoding.strip().lower()
        self._max_bytes = max_bytes
        self._has_begun = False
        self._unzip = None
        if self._encoding in ("gzip", "x-gzip", "deflate"):
            self._unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        elif self._encoding not in ("", "identity"):
            raise Refused("bad_encoding", f"Content-Encoding {self._encoding[:40]}", 200)

    def __call__(self, chunk: bytes, have: int) -> bytes:
        """What a chunk holds, after `have` bytes."""
        self._has_begun |= bool(chunk)
        if self._unzip is None:
            return chunk
        try:
            return self._unzip.decompress(chunk, self._max_bytes + 1 - have)
        except zlib.error as error:
            raise Refused("bad_encoding", f"not {self._encoding}: {error}", 200) from error

    @property
    def is_cut(self) -> bool:
        """Whether compressed data lacks its end."""
        return self._has_begun and self._unzip is not None and not self._unzip.eof


def _refusal(error: aiohttp.ClientError) -> Refused:
    """The status behind an exception of aiohttp."""
    cause: BaseException | None = error
    while cause is not None:
        if is_blocked(cause):
            return Refused("blocked_address", _one_line(cause))
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "os_error", None)
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.SocketTimeoutError):
        return Refused("timeout", "no answer in time")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Refused("connect_error", f"the proxy answered HTTP {error.status}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _dns_refusal(error)
    if isinstance(error, aiohttp.ClientPayloadError):
        return Refused("truncated", "the connection closed before the whole body came")
    if isinstance(error, aiohttp.InvalidURL):
        return Refused("bad_url", "not a usable url")
    return Refused("connect_error", type(error).__name__)


def _dns_refusal(error: aiohttp.ClientConnectorDNSError) -> Refused:
    """A name that does not exist will not exist a second later; a server that is silent may answer
    then."""
    cause = error.os_error.__cause__
    if isinstance(cause, aiodns.error.DNSError) and cause.args[0] not in _NO_SUCH_NAME:
        return Refused("dns_error", f"no answer about the host name: {cause.args[-1]:.100}")
    return Refused("dns_error", "the host name does not resolve", is_final=True)


def _one_line(error: BaseException) -> str:
    return (str(error).split("\n", 1)[0] or type(error).__name__)[:200]
