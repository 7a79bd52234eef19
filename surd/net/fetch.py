"""Fetching one url that nobody vouches for. See docs/security.md."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import ipaddress
import random
import socket
import time
import zlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
from yarl import URL

from surd import __version__
from surd.net.endpoints import endpoint_addresses
from surd.net.hosts import Hosts, Silence
from surd.net.proxies import proxy_addresses, proxy_for

_TRANSIENT_HTTP = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 522, 524})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ISATAP = {0x00005EFE, 0x02005EFE}
"""What stands before the IPv4 address in the last half: RFC 5214, section 6.1."""
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_SPECIAL = [
    ipaddress.ip_network(network)
    for network in (
        "192.0.0.0/24", "192.88.99.0/24", "198.18.0.0/15", "2001::/23", "2001:db8::/32", "3fff::/20"
    )
]  # fmt: skip
"""Some that a Python calls global, depending on its age. Source:
https://www.iana.org/assignments/iana-ipv4-special-registry and iana-ipv6-special-registry."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a fetch may cost and where it may go."""

    max_bytes: int
    max_redirects: int
    connect_timeout_s: float
    stall_timeout_s: float
    total_timeout_s: float
    retries: int
    max_retry_after_s: float
    respect_noai: bool
    allowed_networks: tuple[str, ...] | None
    """Networks allowed besides public addresses; None allows every address."""
    use_proxy: bool = False
    """Through the environment's proxies; where names lead is then for those to judge."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of a fetch. ``status`` is one of ``schema.IMAGE_STATUSES``."""

    status: str
    detail: str | None = None
    http_status: int | None = None
    body: bytes | None = None


class _Refused(Exception):  # noqa: N818  (a verdict on one url, not a failure of surd)
    def __init__(self, status: str, detail: str, http_status: int | None = None) -> None:
        self.outcome = Fetched(status, detail, http_status)
        self.retry_after_s: float | None = None
        self.overloaded: URL | None = None
        """An address of the host that wants fewer requests, whatever they are for."""


class _BlockedAddressError(OSError):
    """Raised where a socket would be opened to an address that is not allowed."""


def user_agent(contact: str | None) -> str:
    """The honest User-Agent: what this is, and whom to ask."""
    return f"surd/{__version__} (image dataset builder; contact: {contact or 'not given'})"


def is_public(address: str) -> bool:
    """Whether an IP address is one that the public internet routes to.

    Addresses that wrap an IPv4 address (mapped, 6to4, NAT64, ISATAP) count as what they wrap.
    """
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and (ip in _NAT64 or (int(ip) >> 32) & 0xFFFFFFFF in _ISATAP):
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None or ip not in _GLOBAL_UNICAST:
            return False
    special = any(ip in network for network in _SPECIAL)
    return ip.is_global and not ip.is_multicast and not special


def address_guard(
    networks: Sequence[str] | None, named: Collection[tuple[str, int]] = ()
) -> Callable[[Any], socket.socket]:
    """A socket factory for aiohttp that refuses addresses outside the public internet.

    It looks at the very address the socket is about to connect to, so a literal address, a name
    that resolves to one, a redirect, or a DNS answer that changes all end here. The addresses and
    ports that the environment named are no strangers.
    """

    def factory(info: Any) -> socket.socket:
        family, kind, proto, _, address = info
        if address[:2] not in named:
            _check_address(address[0], networks)
        return socket.socket(family, kind, proto)

    return factory


def _check_address(address: str, networks: Sequence[str] | None) -> None:
    if networks is None or is_public(address):
        return
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if not any(ip in ipaddress.ip_network(network) for network in networks):
        raise _BlockedAddressError(f"{ip} is not a public address")


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


async def fetch(
    session: aiohttp.ClientSession,
    url: str,
    limits: FetchLimits,
    hosts: Hosts,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Fetched:
    """Get ``url``, trying again what may pass. Never raises for what a server does.

    A host that answers 429, or 503 with Retry-After, is asked nothing more by anyone until the time
    it names, or for ``max_retry_after_s`` where that is longer. Waits by calling ``sleep``, while
    it holds no connection.
    """
    attempt = 0
    while True:
        overloaded = wait = None
        try:
            return await asyncio.wait_for(
                _follow(session, url, limits, hosts), limits.total_timeout_s
            )
        except Silence as silence:
            await sleep(silence.left_s)
            continue
        except _Refused as refused:
            outcome, wait, overloaded = refused.outcome, refused.retry_after_s, refused.overloaded
        except TimeoutError:
            outcome = Fetched("timeout", "no complete answer in time")
        except Exception as error:  # whatever a hostile server does, it costs one row
            outcome = Fetched("connect_error", type(error).__name__)
        pause = min(2.0**attempt, 30.0) * random.uniform(0.5, 1.5) if wait is None else wait
        if overloaded is not None:
            hosts.silence(overloaded, min(pause, limits.max_retry_after_s))
        transient = outcome.status in ("timeout", "connect_error", "truncated") or (
            outcome.http_status in _TRANSIENT_HTTP
        )
        if not transient or attempt >= limits.retries or pause > limits.max_retry_after_s:
            return outcome
        await sleep(pause)
        attempt += 1


async def _follow(
    session: aiohttp.ClientSession, url: str, limits: FetchLimits, hosts: Hosts
) -> Fetched:
    target = _checked(url, "bad_url")
    for _ in range(limits.max_redirects + 1):
        try:
            proxy = _proxy_for(target, limits)
            async with (
                hosts.visit(target),
                session.get(target, allow_redirects=False, proxy=proxy) as response,
            ):
                if response.status not in _REDIRECTS:
                    return await _read(response, limits)
                location = response.headers.get("Location")
                if not location:
                    raise _Refused("bad_redirect", "a redirect without Location", response.status)
                target = _checked(location, "bad_redirect", base=target)
        except aiohttp.ClientError as error:
            raise _refusal(error) from error
        except TimeoutError:
            raise
        except _BlockedAddressError as error:
            raise _Refused("blocked_address", str(error)) from error
        except (OSError, ValueError) as error:
            raise _Refused("connect_error", _one_line(error)) from error
    raise _Refused("too_many_redirects", f"more than {limits.max_redirects} redirects")


def _proxy_for(target: URL, limits: FetchLimits) -> URL | None:
    """No socket of ours is opened to the target then, but what it says itself can be seen."""
    proxy = proxy_for(target) if limits.use_proxy else None
    host = target.host
    if proxy is not None and host is not None:
        with contextlib.suppress(OSError):  # 127.1, 0x7f000001 and 2130706433 are addresses too
            host = socket.inet_ntoa(socket.inet_aton(host))
        with contextlib.suppress(ValueError):  # a name
            _check_address(host, limits.allowed_networks)
    return proxy


def _checked(url: str, status: str, base: URL | None = None) -> URL:
    try:
        target = base.join(URL(url)) if base else URL(url)
        host = target.host
    except (ValueError, TypeError) as error:
        raise _Refused(status, _one_line(error)) from error
    if target.scheme not in ("http", "https"):
        raise _Refused(status, f"{target.scheme or 'no'} scheme; only http and https are fetched")
    if not host:
        raise _Refused(status, "no host in the url")
    return target


async def _read(response: aiohttp.ClientResponse, limits: FetchLimits) -> Fetched:
    if response.status != 200:
        refused = _Refused("http_error", f"HTTP {response.status}", response.status)
        refused.retry_after_s = retry_after_s(
            response.headers.get("Retry-After"), response.headers.get("Date")
        )
        asks_for_time = response.status == 503 and refused.retry_after_s is not None
        if response.status == 429 or asks_for_time:
            refused.overloaded = response.url
        raise refused
    if limits.respect_noai and opted_out(response.headers.getall("X-Robots-Tag", [])):
        raise _Refused("opt_out", "X-Robots-Tag asks not to be used for AI", 200)
    if (response.content_length or 0) > limits.max_bytes:
        raise _Refused(
            "too_large",
            f"{response.content_length:,} bytes announced, {limits.max_bytes:,} allowed",
            200,
        )
    unpack = _unpacker(response.headers.get("Content-Encoding", "identity"), limits.max_bytes)
    pieces: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        pieces.append(unpack(chunk, size))
        size += len(pieces[-1])
        if size > limits.max_bytes:
            raise _Refused("too_large", f"more than {limits.max_bytes:,} bytes", 200)
    return Fetched("ok", None, 200, b"".join(pieces))


def _unpacker(encoding: str, max_bytes: int) -> Callable[[bytes, int], bytes]:
    """Undo a Content-Encoding nobody asked for, never past the byte cap."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return lambda chunk, _: chunk
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise _Refused("bad_encoding", f"Content-Encoding {encoding[:40]}", 200)
    unzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)

    def unpack(chunk: bytes, have: int) -> bytes:
        try:
            return unzip.decompress(chunk, max_bytes + 1 - have)
        except zlib.error as error:
            raise _Refused("bad_encoding", f"not {encoding}: {error}", 200) from error

    return unpack


def opted_out(headers: Sequence[str]) -> bool:
    """Whether any X-Robots-Tag meant for everyone carries noai or noimageai."""
    for header in headers:
        agent, colon, rest = header.partition(":")
        directives = rest if colon and "," not in agent else header
        if agent.strip().lower().startswith(("max-", "unavailable_after")):
            directives = header  # "max-snippet: 20, noai": a value, not a robot's name
        if colon and directives is rest and agent.strip().lower() not in ("*", "surd"):
            continue
        words = {word.strip().lower() for word in directives.split(",")}
        if words & {"noai", "noimageai"}:
            return True
    return False


def retry_after_s(header: str | None, now: str | None = None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, section 10.2.3).

    A date is compared with the answer's own, `now`, for the clock of this machine may be wrong.
    """
    if header is None:
        return None
    if header.strip().isdecimal():
        return float(header)
    until = _seconds(header)
    since = _seconds(now) if now is not None else None
    return None if until is None else max(0.0, until - (time.time() if since is None else since))


def _seconds(date: str) -> float | None:
    """Since 1970, of a date as HTTP writes it."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return email.utils.parsedate_to_datetime(date).timestamp()
    return None


def _refusal(error: aiohttp.ClientError) -> _Refused:
    """The status behind an exception of aiohttp."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _BlockedAddressError):
            return _Refused("blocked_address", str(cause))
        cause = cause.__cause__ or cause.__context__ or getattr(cause, "os_error", None)
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.SocketTimeoutError):
        return _Refused("timeout", "no answer in time")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return _Refused("connect_error", f"the proxy answered HTTP {error.status}")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return _Refused("dns_error", "the host name does not resolve")
    if isinstance(error, aiohttp.ClientPayloadError):
        return _Refused("truncated", "the connection closed before the whole body came")
    if isinstance(error, aiohttp.InvalidURL):
        return _Refused("bad_url", "not a usable url")
    return _Refused("connect_error", type(error).__name__)


def _one_line(error: BaseException) -> str:
    return (str(error).split("\n", 1)[0] or type(error).__name__)[:200]
