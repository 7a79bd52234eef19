"""A stand-in for an OpenAI-compatible server, on loopback, that fails in every way one can.

Its answers have the shape of vLLM's
(https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html), and follow from what was
asked alone: the picture, the question, the seed.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web

MODEL = "stand-in/vl"
FAULTS = (
    *("429", "503", "loading", "500", "timeout", "cut", "reset", "broken", "list", "no choices"),
    *("html", "error", "choice", "refused"),
)
"""``loading`` is a 503 without Retry-After; ``cut`` ends early, ``broken`` is no JSON; ``error``
and ``choice`` are errors with status 200, as routers and LM Studio send them."""
Fault = Callable[[dict[str, Any], int], str | None]
"""The body of a request, and how often it came before, to a fault."""


class ChatServer:
    """``with ChatServer() as server``: it serves at ``server.url`` from a thread of its own."""

    def __init__(
        self,
        *,
        service_s: float = 0.0,
        width: int = 1000,
        fault: Fault = lambda body, before: None,
        takes_n: bool = True,
        key: str | None = None,
        say: Callable[[dict[str, Any]], str] | None = None,
        max_tokens: int | None = None,
        likeliest: Mapping[str, float] | None = None,
        then: Sequence[Mapping[str, float]] = (),
    ) -> None:
        """`width` requests are answered at once, each in `service_s`; others wait.

        Answers of more words than `max_tokens` are cut. `likeliest` are the log-probabilities of
        the first token, `then` those of the others.
        """
        self.service_s, self.width, self.fault = service_s, width, fault
        self.takes_n, self.key, self.say = takes_n, key, say or words
        self.max_tokens, self.likeliest, self.then = max_tokens, dict(likeliest or {}), then
        self.bodies: list[dict[str, Any]] = []
        self.answered: list[str] = []
        """Digests of what was answered."""
        self.under_way = self.peak = 0
        self._before = Counter[str]()
        self._port = 0
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def name(self) -> str:
        return f"openai:{self.url}#{MODEL}"

    def __enter__(self) -> ChatServer:
        listening = socket.create_server(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        running: Future[Callable[[], object]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, running)), daemon=True
        )
        self._thread.start()
        self._halt = running.result()
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is not None:
            self._halt()
            self._thread.join()
            self._thread = None

    async def _serve(self, listening: socket.socket, running: Future[Any]) -> None:
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        self._places = asyncio.Semaphore(self.width)
        application = web.Application(client_max_size=1 << 24)
        application.router.add_get("/v1/models", self._models)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_route("*", "/moved/{rest:.*}", _moved)
        application.router.add_route("*", "/{rest:.*}", _unexpected)
        runner = web.AppRunner(
            application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.SockSite(runner, listening, backlog=1024).start()
        running.set_result(partial(loop.call_soon_threadsafe, stopping.set))
        await stopping.wait()
        for connection in runner.server.connections if runner.server else []:
            if connection.transport is not None:
                connection.transport.abort()
        await runner.cleanup()

    def _is_locked(self, request: web.Request) -> bool:
        return self.key is not None and request.headers.get("Authorization") != f"Bearer {self.key}"

    async def _models(self, request: web.Request) -> web.StreamResponse:
        if self._is_locked(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        if self._is_locked(request):
            return web.json_response({"error": "Unauthorized"}, status=401)
        body = await request.json()
        asked = digest(body)
        before = self._before[asked]
        self._before[asked] += 1
        if body["model"] != MODEL:
            error = {"message": f"The model `{body['model']}` does not exist.", "code": 404}
            return web.json_response({"error": error}, status=404)
        fault = self.fault(body, before)
        if fault is not None:
            return await _fail(fault, request)
        self.bodies.append(body)
        self.under_way += 1
        self.peak = max(self.peak, self.under_way)
        try:
            async with self._places:
                await asyncio.sleep(self.service_s)
                self.answered.append(asked)
                return web.json_response(self._answer(body))
        finally:
            self.under_way -= 1

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        count = body.get("n", 1) if self.takes_n else 1
        choices = []
        for index in range(count):
            text = self.say({**body, "seed": body.get("seed", 0) + index})
            limit = self.max_tokens or body.get("max_tokens") or 1000
            is_cut = len(text.split()) > limit
            choices.append(
                {
                    "index": index,
                    "message": {
                        "role": "assistant",
                        "content": " ".join(text.split()[:limit]),
                        "refusal": None,
                        "reasoning_content": None,
                        "tool_calls": [],
                    },
                    "logprobs": self._logprobs(body) if body.get("logprobs") else None,
                    "finish_reason": "length" if is_cut else "stop",
                    "stop_reason": None,
                }
            )
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        return {"object": "chat.completion", "model": MODEL, "choices": choices, "usage": usage}

    def _logprobs(self, body: Mapping[str, Any]) -> dict[str, Any]:
        content = []
        for token in [self.likeliest, *self.then][: body.get("max_tokens", 1)]:
            top = [{"token": t, "logprob": p, "bytes": None} for t, p in token.items()]
            content.append({**top[0], "top_logprobs": top})
        return {"content": content}


async def _moved(request: web.Request) -> web.StreamResponse:
    raise web.HTTPMovedPermanently(f"https://elsewhere.org/{request.match_info['rest']}?key=secret")


async def _unexpected(request: web.Request) -> web.StreamResponse:
    """As LM Studio answers."""
    told = f"Unexpected endpoint or method. ({request.method} {request.path})"
    return web.json_response({"error": told})


def words(body: Mapping[str, Any]) -> str:
    """A caption that follows from picture, question and, where it is sampled, the seed."""
    seed = body["seed"] if body.get("temperature") else None
    return f"Cups marked {digest({'messages': body['messages'], 'seed': seed})[:8]}."


def digest(body: Mapping[str, Any]) -> str:
    """What is asked, in short."""
    return hashlib.blake2b(json.dumps(body).encode(), digest_size=8).hexdigest()


def picture_of(body: Mapping[str, Any]) -> bytes:
    """The JPEG in a question."""
    image, _ = body["messages"][-1]["content"]
    return base64.b64decode(image["image_url"]["url"].partition(",")[2])


async def _fail(fault: str, request: web.Request) -> web.StreamResponse:
    soon = {"Retry-After": "0"}
    if fault == "429":
        return web.json_response({"error": {"message": "busy"}}, status=429, headers=soon)
    if fault == "503":
        return web.Response(status=503, headers=soon)
    if fault == "loading":
        return web.json_response({"error": {"message": "Loading model"}}, status=503)
    if fault == "500":
        return web.json_response({"detail": "out of memory"}, status=500)
    if fault == "refused":
        return web.json_response({"object": "error", "message": "no\nway"}, status=400)
    if fault == "broken":
        return web.Response(text='{"choices": [{', content_type="application/json")
    if fault == "list":
        return web.json_response([])
    if fault == "no choices":
        return web.json_response({"choices": []})
    if fault == "html":
        return web.Response(text="<html>gateway</html>", content_type="text/html", status=502)
    if fault == "error":
        return web.json_response({"error": {"message": "crashed", "code": 502}})
    if fault == "choice":
        error = {"message": "crashed", "code": 500}
        choice = {"message": {"content": ""}, "finish_reason": "error", "error": error}
        return web.json_response({"choices": [choice]})
    if fault == "cut":
        response = web.StreamResponse()
        response.content_length = 1000
        response.force_close()
        with suppress(ConnectionError):
            await response.prepare(request)
            await response.write(b'{"choices": ')
        return response
    if fault == "reset" and request.transport is not None:
        request.transport.abort()
    await asyncio.sleep(3600)
    raise AssertionError(fault)
