"""An S3 on loopback, and a line to it that can be cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

KEY, SECRET = "AKIATESTTESTTEST", "the-secret-that-nobody-may-read"


def environment(url: str) -> dict[str, str]:
    """What has a process use that server."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@dataclass
class Line:
    """A way to a server that holds back the rest of one request, once it is under way."""

    target: str
    url: str = ""
    begins: bytes = b""
    """With what the request begins that is held, as ``PUT /bucket/key``."""
    after_bytes: int = 2000
    held: threading.Event = field(default_factory=threading.Event)
    _sockets: list[socket.socket] = field(default_factory=list)

    def carry(self, client: socket.socket) -> None:
        there = urlsplit(self.target)
        server = socket.create_connection((there.hostname, there.port))
        self._sockets += [client, server]
        threading.Thread(target=self._copy, args=(server, client, False), daemon=True).start()
        self._copy(client, server, True)

    def _copy(self, source: socket.socket, to: socket.socket, holding: bool) -> None:
        passed: int | None = None
        with contextlib.suppress(OSError):
            while data := source.recv(1000):
                if holding and self.begins and (self.begins in data or passed is not None):
                    passed = (passed or 0) + len(data)
                    if passed > self.after_bytes:
                        self.held.set()
                        return
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.close()


@contextlib.contextmanager
def line_to(url: str) -> Iterator[Line]:
    """A line to the server at ``url`` while the block runs."""
    line = Line(url)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        line.url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    threading.Thread(target=line.carry, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield line
        finally:
            line.close()
            listening.shutdown(socket.SHUT_RDWR)


def objects(client: Any, bucket: str, prefix: str) -> dict[str, bytes]:
    """Key after the prefix -> content."""
    found: dict[str, bytes] = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", []):
            body = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            found[entry["Key"][len(prefix) :]] = body
    return found
