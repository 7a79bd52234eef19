"""What each fault does to a request: every way a real site fails, for the demo's Site.

`FAULTS` answer a request for an image, `API_FAULTS` a request to the API; both are plain
async functions. Those that wait for ever end when the client leaves, which needs a server
run with ``handler_cancellation=True``, as the demo site is.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import NoReturn

from aiohttp import web

from surd.demo.broken_images import deflated_zeros
from surd.demo.picture import Picture

Fault = Callable[[web.Request, Picture, int], Awaitable[web.StreamResponse]]
ApiFault = Callable[[web.Request], Awaitable[web.StreamResponse]]
AnyFault = Callable[..., Awaitable[web.StreamResponse]]
Pieces = Callable[[web.Request, Picture], AsyncIterator[bytes]]

_GIB = 1 << 30
_CRC32_OF_GIB_OF_ZEROS = 0x5B64C2B0
_RETRY_SOON = {"Retry-After": "1"}
_JSON = "application/json"
_HTML = "<!doctype html><title>{0}</title><h1>{0}</h1>"


async def _hang(*_: object) -> NoReturn:
    """Never return."""
    while True:
        await asyncio.sleep(3600)


async def _reset(request: web.Request, *_: object) -> NoReturn:
    """Close the connection with RST (zero linger time) rather than in order."""
    if request.transport is not None:
        raw = request.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    await _hang()


async def _rate_limited_until_date(request: web.Request, *_: object) -> web.StreamResponse:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    return web.Response(status=429, headers={"Retry-After": format_datetime(soon, usegmt=True)})


# Makers of faults


def _answer(
    status: int, text: str | None = None, mime: str = "text/html", headers: Mapping[str, str] = {}
) -> AnyFault:
    """Always this answer, by default a small HTML page."""
    body = _HTML.format(status) if text is None else text

    async def answer(request: web.Request, *_: object) -> web.StreamResponse:
        return web.Response(status=status, text=body, content_type=mime, headers=headers)

    return answer


def _serve(change: Callable[[bytes], bytes] = bytes, headers: Mapping[str, str] = {}) -> Fault:
    """The picture with its bytes changed, a Content-Length that fits, and more headers."""

    async def served(request: web.Request, picture: Picture, attempt: int) -> web.StreamResponse:
        labels = {"Content-Type": picture.mime, **headers}
        return web.Response(body=change(picture.data), headers=labels)

    return served


serve = _serve()  # the picture as it is, with nothing wrong


def _once(fault: AnyFault) -> Fault:
    """`fault` on the first attempt, the picture afterwards."""

    async def once(request: web.Request, picture: Picture, attempt: int) -> web.StreamResponse:
        return await (serve if attempt else fault)(request, picture, attempt)

    return once


def _redirect(location: str | Callable[[web.Request], str]) -> AnyFault:
    """A redirect (302) to an address, or to one made from the request."""

    async def redirect(request: web.Request, *_: object) -> web.StreamResponse:
        target = location if isinstance(location, str) else location(request)
        return web.Response(status=302, headers={"Location": target})

    return redirect


def _stream(
    pieces: Pieces, length: Callable[[bytes], int] | None = len, headers: Mapping[str, str] = {}
) -> Fault:
    """Headers, then `pieces` as they come, then the connection closes.

    `length` gives the Content-Length to declare for the picture's data; None sends chunks.
    """

    async def stream(request: web.Request, picture: Picture, attempt: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": picture.mime, **headers})
        response.content_length = None if length is None else length(picture.data)
        response.force_close()
        with suppress(ConnectionError):  # the client has left
            await response.prepare(request)
            async for piece in pieces(request, picture):
                await response.write(piece)
                await asyncio.sleep(0)  # a client that keeps up must not starve the others
        return response

    return stream


# What streams send


async def _nothing(request: web.Request, picture: Picture) -> AsyncIterator[bytes]:
    yield await _hang()


async def _drops(request: web.Request, picture: Picture) -> AsyncIterator[bytes]:
    for value in itertools.cycle(picture.data or b"\0"):
        yield bytes([value])
        await asyncio.sleep(0.2)


async def _tenths(request: web.Request, picture: Picture) -> AsyncIterator[bytes]:
    step = len(picture.data) // 10 + 1
    for start in range(0, len(picture.data), step):
        yield picture.data[start : start + step]
        await asyncio.sleep(0.05)


async def _half(request: web.Request, picture: Picture) -> AsyncIterator[bytes]:
    yield picture.data[: len(picture.data) // 2]


async def _half_then_reset(request: web.Request, picture: Picture) -> AsyncIterator[bytes]:
    yield picture.data[: len(picture.data) // 2]
    await asyncio.sleep(0.05)  # RST drops what the client has not read yet
    await _reset(request)


async def _endless(request: web.Request, picture: Picture) -> AsyncIterator[bytes]:
    yield picture.data
    noise = Random(picture.id).randbytes(1 << 16)
    while True:
        yield noise


async def _bomb(request: web.Request, picture: Picture) -> AsyncIterator[bytes]:
    yield b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # header and trailer: RFC 1952
    for piece in deflated_zeros(_GIB):
        yield piece
    yield struct.pack("<II", _CRC32_OF_GIB_OF_ZEROS, _GIB)


# What is served instead, and where redirects lead


def _corrupt(data: bytes) -> bytes:
    """JPEG markers over the middle of the file: strict decoders refuse such a JPEG or PNG.

    WebP has no checksum: some still decode.
    """
    start, stop = len(data) * 2 // 5, len(data) * 9 // 10
    markers = b"\xff\xd8\xff\xd9" * (len(data) // 4 + 1)
    return data[:start] + markers[: stop - start] + data[stop:]


def _direct(request: web.Request) -> str:
    """The address at which the site serves the same picture without its fault."""
    return str(request.url.with_query(direct=1))


def _next_hop(request: web.Request) -> str:
    """Three redirects in all, the last to the picture."""
    following = {"": "hop=1", "1": "hop=2"}
    return f"{request.rel_url.raw_path}?{following.get(request.query.get('hop', ''), 'direct=1')}"


def _other_host(request: web.Request) -> str:
    """The same request at the loopback host's other name: another host to a careful client."""
    other = "localhost" if request.url.host != "localhost" else "127.0.0.1"
    return str(request.url.with_host(other))


FAULTS: Mapping[str, Fault] = {
    "not_found": _answer(404),
    "gone": _answer(410),
    "forbidden": _answer(403),
    "server_error": _answer(500),
    "server_error_once": _once(_answer(500)),
    "unavailable_once": _once(_answer(503, headers=_RETRY_SOON)),
    "rate_limited": _answer(429),
    "rate_limited_once": _once(_answer(429, headers=_RETRY_SOON)),
    "rate_limited_date_once": _once(_rate_limited_until_date),
    "stall": _stream(_nothing),
    "stall_before_headers": _hang,
    "stall_once": _once(_stream(_nothing)),
    "slow_drip": _stream(_drops, None),
    "slow_ok": _stream(_tenths),
    "reset_mid_body": _stream(_half_then_reset),
    "short_body": _stream(_half),
    "truncated_file": _serve(lambda data: data[: len(data) * 6 // 10]),
    "endless_body": _stream(_endless, None),
    "huge_content_length": _stream(_endless, lambda data: 10 * 10**9),
    "gzip_ok": _serve(lambda data: gzip.compress(data, mtime=0), {"Content-Encoding": "gzip"}),
    "gzip_bomb": _stream(_bomb, None, {"Content-Encoding": "gzip"}),
    "brotli_label": _serve(lambda data: Random(0).randbytes(1000), {"Content-Encoding": "br"}),
    "mislabelled": _serve(headers={"Content-Type": "text/plain"}),
    "html_page": _answer(200, mime="image/jpeg"),
    "svg": _answer(200, '<svg xmlns="http://www.w3.org/2000/svg"/>', mime="image/jpeg"),
    "empty": _answer(200, "", mime="image/jpeg"),
    "noai": _serve(headers={"X-Robots-Tag": "noai"}),
    "noimageai": _serve(headers={"X-Robots-Tag": "noindex, noimageai"}),
    "noai_other_bot": _serve(headers={"X-Robots-Tag": "examplebot: noai"}),
    "redirect_ok": _redirect(_direct),
    "redirect_relative": _redirect(lambda request: f"{request.url.name}?direct=1"),
    "redirect_chain": _redirect(_next_hop),
    "redirect_loop": _redirect(lambda request: request.rel_url.raw_path),
    "redirect_private": _redirect("http://10.0.0.1/x.jpg"),
    "redirect_metadata": _redirect("http://169.254.169.254/latest/meta-data"),
    "redirect_ipv6_mapped": _redirect("http://[::ffff:10.0.0.1]/x"),
    "redirect_file": _redirect("file:///etc/passwd"),
    "redirect_no_location": _answer(302),
    "corrupt": _serve(_corrupt),
    "flipped_header": _serve(lambda data: bytes(value ^ 0xFF for value in data[:16]) + data[16:]),
}

API_FAULTS: Mapping[str, ApiFault] = {
    "429": _answer(429, '{"error": "Too many requests"}', _JSON, headers=_RETRY_SOON),
    "500": _answer(500, '{"error": "Internal server error"}', _JSON),
    "502": _answer(502),
    "503": _answer(503),
    "524": _answer(524),
    "403_html": _answer(403, _HTML.format("Just a moment...")),
    "html_200": _answer(200, _HTML.format("We are adjusting a few things, be back soon")),
    "malformed_json": _answer(200, '{"items": [{"id": 1, "url": "http', _JSON),
    "stall": _hang,
    "reset": _reset,
    "not_an_object": _answer(200, "[]", _JSON),
    "items_missing": _answer(200, '{"metadata": {}}', _JSON),
    "redirect_other_host": _redirect(_other_host),
}
