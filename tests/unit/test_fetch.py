"""What is asked of an address, a header and a compressed body before it is trusted."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest

from surd import __version__
from surd.net.addresses import address_guard, is_public
from surd.net.headers import retry_after_s, user_agent
from surd.net.request import Refused, _Unpacker

PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.15.255.255",
    "172.32.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "192.167.255.255",
    "2606:4700::1111",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::",
]
NOT_PUBLIC = [
    "127.0.0.1",
    "127.255.255.255",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "192.168.255.255",
    "169.254.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.127.255.255",
    "0.0.0.0",
    "0.1.2.3",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fdff:ffff::1",
    "ff02::1",
    "2001:db8::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::7f00:1",  # NAT64 of one's own network, RFC 8215
    "2002:7f00:1::",
    "2002:a00:1::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    "2001:0:7f00:1::",
    "fec0::1",  # site-local, RFC 3879
    "::7f00:1",  # IPv4-compatible, RFC 4291 section 2.5.5.1
    "::ffff:0:7f00:1",  # IPv4-translated, RFC 2765
    "192.0.0.192",  # once a cloud's metadata
    "192.0.0.9",
    "192.88.99.1",  # relays of 6to4, RFC 7526
    "3fff::1",  # documentation, RFC 9637
    "2001:20::1",  # ORCHIDv2, RFC 7343
    "2001:2::1",  # benchmarks, RFC 5180
    "2a00:1450:4001:80b::5efe:a00:1",  # ISATAP, RFC 5214
    "2a00:1450:4001:80b:200:5efe:7f00:1",
]


def address_info(address: str) -> tuple[Any, ...]:
    """What aiohttp hands to a socket factory."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = (address, 80, 0, 0) if ":" in address else (address, 80)
    return family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where


def admitted(factory: Callable[[Any], socket.socket], address: str) -> bool:
    try:
        factory(address_info(address)).close()
    except OSError as error:
        if "is not a public address" not in str(error):
            raise
        return False
    return True


# Addresses


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_of_this_machine_or_its_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["localhost", "", "127.1", "0x7f000001", "2130706433"])
def test_what_is_no_address_is_never_called_public(address: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "127.0.0.1", "10.1.2.3", "169.254.169.254"])
def test_the_guard_opens_sockets_to_public_addresses_alone(address: str) -> None:
    assert admitted(address_guard(()), address) is is_public(address)


def test_the_guard_says_which_address_it_refuses() -> None:
    with pytest.raises(OSError, match=r"169\.254\.169\.254 is not a public address"):
        address_guard(())(address_info("169.254.169.254"))


def test_networks_can_be_allowed_besides() -> None:
    guard = address_guard(("127.0.0.0/8", "fd00::/8"))
    asked = ["127.0.0.1", "127.9.9.9", "10.0.0.1", "8.8.8.8", "::ffff:127.0.0.1"]
    assert [admitted(guard, address) for address in asked] == [True, True, False, True, False]


def test_every_address_is_allowed_when_asked_for() -> None:
    guard = address_guard(None)
    assert all(admitted(guard, address) for address in ("127.0.0.1", "10.0.0.1", "8.8.8.8"))


def test_the_guard_gives_a_socket_of_the_asked_family() -> None:
    with address_guard(())(address_info("8.8.8.8")) as made:
        assert (made.family, made.type) == (socket.AF_INET, socket.SOCK_STREAM)


# Retry-After


@pytest.mark.parametrize(
    ("header", "seconds"), [("0", 0.0), ("1", 1.0), (" 120 ", 120.0), ("2\x1e", 2.0)]
)
def test_retry_after_may_be_seconds(header: str, seconds: float) -> None:
    assert retry_after_s(header) == seconds


def test_retry_after_may_be_a_date() -> None:
    waits = retry_after_s(formatdate(time.time() + 60, usegmt=True))
    assert waits == pytest.approx(60, abs=3)


def test_a_date_is_compared_with_the_sites_own_clock() -> None:
    noon = "Wed, 21 Oct 2015 12:00:00 GMT"
    assert retry_after_s("Wed, 21 Oct 2015 12:00:30 GMT", noon) == 30
    assert retry_after_s("Wed, 21 Oct 2015 12:00:30 GMT", "no date") == 0


def test_a_date_that_has_passed_means_now() -> None:
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "Wed, 99 Oct", "²", "\udcff"])
def test_a_retry_after_that_says_nothing_is_none(header: str | None) -> None:
    assert retry_after_s(header) is None


def test_a_retry_after_beyond_all_measure_is_still_a_number() -> None:
    assert (retry_after_s("9" * 400) or 0) > 1e9


# Compressed bodies


def unpacked(encoding: str, body: bytes, *, max_bytes: int = 1000, chunk: int = 7) -> bytes:
    """The body as `_read` unpacks it, chunk by chunk, up to one byte over the cap."""
    unpack, whole = _Unpacker(encoding, max_bytes), bytearray()
    for start in range(0, len(body), chunk):
        whole += unpack(body[start : start + chunk], len(whole))
        if len(whole) > max_bytes:
            break
    return bytes(whole)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", " gzip ", "deflate"])
@pytest.mark.parametrize("chunk", [1, 7, 10_000])
def test_a_compressed_body_is_unpacked(encoding: str, chunk: int) -> None:
    body = bytes(range(250)) * 4
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body, mtime=0)
    assert unpacked(encoding, packed, chunk=chunk) == body


@pytest.mark.parametrize("encoding", ["", "identity", "Identity"])
def test_a_plain_body_stays_as_it_is(encoding: str) -> None:
    assert unpacked(encoding, b"\x1f\x8b not gzip") == b"\x1f\x8b not gzip"


@pytest.mark.parametrize("max_bytes", [1, 999, 65_536])
def test_a_bomb_is_unpacked_to_one_byte_over_the_cap_and_no_further(max_bytes: int) -> None:
    bomb = gzip.compress(bytes(20_000_000), mtime=0)
    for chunk in (64, len(bomb)):
        found = unpacked("gzip", bomb, max_bytes=max_bytes, chunk=chunk)
        assert len(found) == max_bytes + 1


def test_a_body_of_exactly_the_cap_is_whole() -> None:
    assert len(unpacked("gzip", gzip.compress(bytes(1000), mtime=0), max_bytes=1000)) == 1000


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x" * 5000])
def test_an_encoding_that_cannot_be_undone_is_refused(encoding: str) -> None:
    with pytest.raises(Refused) as caught:
        _Unpacker(encoding, 1000)
    assert caught.value.outcome.status == "bad_encoding"
    assert len(caught.value.outcome.detail or "") < 100


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_body_without_its_end_is_cut(encoding: str) -> None:
    body = bytes(range(250)) * 4
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body, mtime=0)
    for length in (len(packed), len(packed) - 1, len(packed) - 8, 5):
        unpack = _Unpacker(encoding, 1000)
        unpack(packed[:length], 0)
        assert unpack.is_cut == (length < len(packed))
    assert not _Unpacker(encoding, 1000).is_cut, "an empty body is told as one"


def test_a_body_that_is_not_what_it_says_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        unpacked("gzip", b"GIF89a" * 10)
    assert caught.value.outcome.status == "bad_encoding"


# Manners


def test_the_user_agent_says_what_this_is_and_whom_to_ask() -> None:
    assert user_agent("me@example.org") == (
        f"surd/{__version__} (image dataset builder; contact: me@example.org)"
    )
    assert "contact: not given" in user_agent(None)
    assert "Mozilla" not in user_agent(None)
