"""Which addresses a request may go to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any

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


_REFUSAL = "is not a public address"


class BlockedAddressError(OSError):
    """Raised where a socket would be opened to an address that is not allowed."""


def is_blocked(error: BaseException) -> bool:
    """Whether an error is a BlockedAddressError, or what is made of the several ones of a name."""
    return isinstance(error, BlockedAddressError) or (
        isinstance(error, OSError) and _REFUSAL in str(error)
    )


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
            check_address(address[0], networks)
        return socket.socket(family, kind, proto)

    return factory


def check_address(address: str, networks: Sequence[str] | None) -> None:
    """Raise BlockedAddressError for one outside the public internet and ``networks``."""
    if networks is None or is_public(address):
        return
    ip = ipaddress.ip_address(address.split("%", 1)[0])
    if not any(ip in ipaddress.ip_network(network) for network in networks):
        raise BlockedAddressError(f"{ip} {_REFUSAL}")
