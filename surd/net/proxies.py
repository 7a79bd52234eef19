"""Proxies that the environment names, in HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import urllib.request

from yarl import URL

from surd.errors import SurdError

_PORTS = {"http": 80, "https": 443}


def proxy_for(url: URL) -> URL | None:
    """The proxy for a url, which may hold a password; None where none is named, and for this very
    machine."""
    if not url.host or _is_here(url.host) or urllib.request.proxy_bypass(url.host):
        return None
    named = urllib.request.getproxies()
    found = named.get(url.scheme) or named.get("all")
    return _parsed(found) if found else None


def proxies_of(url: str) -> dict[str, str]:
    """Scheme -> proxy for a host, as requests takes them."""
    with contextlib.suppress(ValueError):  # not a whole url, which asking it will tell
        given = URL(url)
        found = {scheme: proxy_for(given.with_scheme(scheme)) for scheme in _PORTS}
        return {scheme: str(proxy) for scheme, proxy in found.items() if proxy is not None}
    return {}


def proxy_addresses() -> frozenset[tuple[str, int]]:
    """The address and port of every proxy named; none of them is a stranger.

    Raises SurdError for one of a kind that is not spoken, or that has no address.
    """
    named = urllib.request.getproxies()
    found: set[tuple[str, int]] = set()
    for variable in sorted({"http", "https", "all"} & named.keys()):
        proxy = _parsed(named[variable])
        about = f"{variable.upper()}_PROXY: {proxy.scheme}://{proxy.host}"
        if proxy.scheme not in _PORTS or not proxy.host:
            raise SurdError(f"{about}: only http:// and https:// proxies are supported")
        try:
            found |= addresses_of(proxy)
        except OSError as error:
            raise SurdError(f"{about}: {error.strerror}; name an existing proxy") from error
    return frozenset(found)


def addresses_of(url: URL) -> set[tuple[str, int]]:
    """The addresses of an http or https url's host, with the port. Raises OSError, ValueError."""
    if url.scheme not in _PORTS or not url.host:
        raise ValueError("not a whole http or https url")
    port = url.port or _PORTS[url.scheme]
    places = socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)
    return {(str(place[4][0]), port) for place in places}


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _parsed(proxy: str) -> URL:
    """``proxy.example:3128`` means http."""
    try:
        return URL(proxy if "://" in proxy else f"http://{proxy}")
    except ValueError:
        return URL()
