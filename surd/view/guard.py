"""Who may ask, who may write, and what a page may do.

The viewer listens on loopback, where every page in the user's browser can reach it too. So a
request must name a loopback host, which a rebound DNS name does not
(https://en.wikipedia.org/wiki/DNS_rebinding); a write must come from our own page, with the token
that stands in it; and our pages may load nothing from elsewhere
(https://www.w3.org/TR/CSP3/, https://www.w3.org/TR/fetch-metadata/).
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

TOKEN_HEADER = "X-Surd-Token"  # noqa: S105  (the header's name)

_HOSTS = ("127.0.0.1", "localhost", "::1")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def guard(token: str) -> Any:
    """The middleware; ``token`` is what our own pages send with every write."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        refusal = _refusal(request, token)
        if refusal:
            answer: web.StreamResponse = web.Response(status=403, text=refusal + "\n")
        else:
            try:
                answer = await handler(request)
            except web.HTTPException as error:  # an answer like others: it gets the headers too
                answer = web.Response(
                    status=error.status, text=f"{error.reason}\n", headers=_location(error)
                )
            except (web.RequestPayloadError, ConnectionError):  # cut off, or no gzip
                answer = web.Response(status=400, text="the request's content cannot be read\n")
        answer.headers.update(_HEADERS)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    return guarded


def is_ours(record: logging.LogRecord) -> bool:
    """Whether what aiohttp logs is a fault of ours: of a request that is none, however it is
    broken, the one who sent it is told."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError)


def _location(error: web.HTTPException) -> dict[str, str]:
    return {"Location": error.headers["Location"]} if "Location" in error.headers else {}


def _refusal(request: web.Request, token: str) -> str:
    """Why a request is not answered; empty where it is."""
    if _hostname(request.host) not in _HOSTS:
        return "this server answers only at 127.0.0.1 and localhost"
    if request.method in ("GET", "HEAD"):
        return "" if _may_read(request) else "reading from another site is not allowed"
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return "writing from another site is not allowed"
    if request.headers.get("Origin", f"http://{request.host}") != f"http://{request.host}":
        return "writing from another origin is not allowed"
    given = request.headers.get(TOKEN_HEADER, "").encode(errors="surrogateescape")
    if not hmac.compare_digest(given, token.encode()):
        return "writing needs the page's token; reload the page"
    return ""


def _may_read(request: web.Request) -> bool:
    """Whether a browser asks for one of our pages, or for somebody who follows a link to one.

    Another site's page cannot read an answer, but may learn from its size and time.
    """
    if request.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin"):
        return True
    mode, place = (request.headers.get(f"Sec-Fetch-{name}") for name in ("Mode", "Dest"))
    return mode == "navigate" and place == "document"


def _hostname(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None
