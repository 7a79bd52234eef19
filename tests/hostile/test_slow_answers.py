"""Sites that never finish an answer."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from surd.errors import SourceError
from surd.net import http_api

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def dripping(at_once: bytes, drop: bytes) -> Iterator[str]:
    """A site that answers with some bytes, and then with a drop again and again."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(at_once)
                while not stop.wait(0.05):
                    connection.sendall(drop)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        stop.set()
        listener.close()
        thread.join(5)


@pytest.mark.parametrize(
    ("at_once", "drop"),
    [
        (HEAD + b"\r\n[", b" "),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
        (HEAD, b"A: a\r\n"),
        (HEAD + b"A: ", b"a"),
        (b"HTTP/1.1 200 ", b"O"),
    ],
    ids=["body", "chunk", "headers", "header", "status"],
)
def test_an_answer_that_drips_ends_at_the_deadline(
    at_once: bytes, drop: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_api, "_MAX_ANSWER_S", 0.3)
    with dripping(at_once, drop) as url:
        ask = http_api.open_api(
            url, token=None, contact=None, requests_per_s=100, retries=0, timeout_s=60
        )
        with pytest.raises(SourceError, match="the answer does not end"):
            ask("images", {})
