"""Models on an OpenAI-compatible server: what they are asked, and what is made of their answers."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from surd.errors import ModelError
from surd.models.captions import QUESTION, Proposal, Wanted
from surd.models.names import server_of
from surd.net.chat import Chat, Choice, Manners, UnansweredError

SIDE_PX = 768
_QUALITY = 90
_SENTENCE = re.compile(r".*[.!?]", re.DOTALL)


def open_chat(name: str, manners: Manners | None = None) -> Chat:
    """The server of ``openai:http://localhost:8000/v1#MODEL``, to be used as a context.

    Raises ModelError for a name that is none.
    """
    found = server_of(name)
    if found is None:
        raise ModelError(f"{name}: not a model on a server")
    return Chat(*found, manners)


def as_jpeg(image: Image.Image, side_px: int = SIDE_PX) -> bytes:
    """An RGB picture as a server is sent it; its longer side is at most `side_px`."""
    small = image.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.BICUBIC, reducing_gap=3)
    pixels = np.ascontiguousarray(np.asarray(small.convert("RGB")))
    data: bytes = simplejpeg.encode_jpeg(
        pixels, quality=_QUALITY, colorspace="RGB", colorsubsampling="420"
    )
    return data


def turn(text: str, picture: bytes | None = None) -> list[dict[str, Any]]:
    """The messages of one question, with a JPEG before it."""
    if picture is None:
        return [{"role": "user", "content": text}]
    url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    return [{"role": "user", "content": [image, {"type": "text", "text": text}]}]


class ServedCaptioner:
    """Captions from a server: the likeliest words first, then nucleus samples."""

    def __init__(self, chat: Chat, prompt: str | None, wanted: Wanted) -> None:
        self._chat = chat
        self._prompt = prompt or QUESTION
        self._wanted = wanted
        self._takes_n = True
        """Whether the server gives several samples for one request, as far as is known."""

    def propose(self, picture: bytes, seed: int) -> Future[list[Proposal]]:
        """Of a JPEG; raises UnansweredError, or ModelError where all would fail."""
        return self._chat.submit(self._propose(picture, seed % 2**31))

    async def _propose(self, picture: bytes, seed: int) -> list[Proposal]:
        body = {"messages": turn(self._prompt, picture), "max_tokens": self._wanted.max_new_tokens}
        likeliest = await self._chat.ask({**body, "temperature": 0, "seed": seed})
        found = [(choice, "greedy") for choice in likeliest[:1]]
        if self._wanted.samples:
            sampled = {**body, "temperature": 1, "top_p": self._wanted.top_p}
            found += [(choice, "nucleus") for choice in await self._samples(sampled, seed)]
        proposals = [Proposal(text, how) for choice, how in found if (text := _whole(choice))]
        if not proposals and any(choice.is_cut for choice, _ in found):
            raise CutError(
                f"every answer is longer than {self._wanted.max_new_tokens} tokens; raise "
                "caption.max_new_tokens"
            )
        return proposals

    async def _samples(self, body: dict[str, Any], seed: int) -> list[Choice]:
        """As many as are wanted, each with a seed of its own where the server takes no ``n``."""
        count, found = self._wanted.samples, list[Choice]()
        if self._takes_n and count > 1:
            try:
                found = await self._chat.ask({**body, "seed": seed, "n": count})
            except UnansweredError as error:
                if error.http_status is None:
                    raise
            self._takes_n = len(found) > 1
        while len(found) < count:
            found += (await self._chat.ask({**body, "seed": seed + len(found)}))[:1]
        return found[:count]


class CutError(UnansweredError):
    """All that a model said of a picture ends in the middle of its first sentence."""

    is_final = True


def _whole(choice: Choice) -> str:
    """The words of an answer on one line; of one that is cut, its whole sentences."""
    text = choice.text
    if choice.is_cut:
        sentences = _SENTENCE.match(text)
        text = sentences[0] if sentences else ""
    return " ".join(text.split())


def ask_texts(
    chat: Chat,
    conversations: Sequence[Sequence[dict[str, Any]]],
    *,
    max_tokens: int,
    temperature: float = 0.0,
    top_p: float = 1.0,
    seed: int = 0,
) -> list[Choice | UnansweredError]:
    """What a language model answers to each list of messages, or why there is no answer.

    Raises ModelError where the server answers none at all.
    """
    body = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p, "seed": seed}
    waiting = [
        chat.submit(chat.ask({"messages": list(messages), **body})) for messages in conversations
    ]
    return [_outcome(future) for future in waiting]


def _outcome(future: Future[list[Choice]]) -> Choice | UnansweredError:
    try:
        return future.result()[0]
    except UnansweredError as error:
        return error
