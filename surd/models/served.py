"""Models on an OpenAI-compatible server: what they are asked, and what is made of their answers."""

from __future__ import annotations

import atexit
import base64
import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from surd.errors import ModelError
from surd.models.answers import NoProbabilitiesError, Vqa, in_one_word, shortly
from surd.models.captions import Proposal, Style, Wanted, whole_sentences
from surd.models.names import server_of
from surd.models.questions import question_for
from surd.net.chat import Chat, Choice, Manners, UnansweredError
from surd.text.number_words import spellings

log = logging.getLogger("surd")

SIDE_PX = 768
_QUALITY = 90


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


def turn(
    text: str, picture: bytes | None = None, system: str | None = None
) -> list[dict[str, Any]]:
    """The messages of one question, with a JPEG before it."""
    before = [{"role": "system", "content": system}] if system else []
    if picture is None:
        return [*before, {"role": "user", "content": text}]
    url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    image = {"type": "image_url", "image_url": {"url": url}}
    return [*before, {"role": "user", "content": [image, {"type": "text", "text": text}]}]


class ServedCaptioner:
    """Captions from a server: the likeliest words first, then nucleus samples."""

    def __init__(
        self, chat: Chat, prompt: str | None, wanted: Wanted, style: Style = "simple"
    ) -> None:
        self._chat = chat
        asked = question_for(chat.model, style=style)
        self._prompt, self._system = prompt or asked.text, asked.system
        self._wanted = wanted
        self._length_key = f"caption.{'' if style == 'simple' else f'{style}.'}max_new_tokens"
        self._takes_n = True
        """Whether the server gives several samples for one request, as far as is known."""

    def propose(self, picture: bytes, seed: int) -> Future[list[Proposal]]:
        """Of a JPEG; raises UnansweredError, or ModelError where all would fail."""
        return self._chat.submit(self._propose(picture, seed % 2**31))

    async def _propose(self, picture: bytes, seed: int) -> list[Proposal]:
        messages = turn(self._prompt, picture, self._system)
        body = {"messages": messages, "max_tokens": self._wanted.max_new_tokens}
        likeliest = await self._chat.ask({**body, "temperature": 0, "seed": seed})
        found = [(choice, "greedy") for choice in likeliest[:1]]
        if self._wanted.samples:
            sampled = {**body, "temperature": 1, "top_p": self._wanted.top_p}
            found += [(choice, "nucleus") for choice in await self._samples(sampled, seed)]
        proposals = [Proposal(text, how) for choice, how in found if (text := _whole(choice))]
        if not proposals and any(choice.is_cut for choice, _ in found):
            raise CutError(
                f"every answer is longer than {self._wanted.max_new_tokens} tokens; raise "
                f"{self._length_key}"
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
    """All that a model said ends before it says anything whole."""

    is_final = True


def _whole(choice: Choice) -> str:
    """The words of an answer on one line; of one that is cut, its whole sentences."""
    text = whole_sentences(choice.text) if choice.is_cut else choice.text
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


_MAX_ANSWER_TOKENS = 16
_LIKELIEST = (20, 5)
"""How many tokens a server is asked the probabilities of; some give no more than five."""


def load_served_vqa(name: str) -> Vqa:
    """A judge on a server; every question of a call is under way at once.

    A question without an answer is answered with None, and has the probability NaN; a warning says
    so. Raises ModelError where nothing answers at all.
    """
    chat = open_chat(name).__enter__()
    atexit.register(chat.close)
    has_answered = False

    def ask(images: Sequence[Image.Image], texts: Sequence[str], how: Any) -> list[Any]:
        sent = {id(image): image for image in images}
        pictures = {key: as_jpeg(image) for key, image in sent.items()}
        waiting = [
            chat.submit(how({"messages": turn(text, pictures[id(image)]), "temperature": 0}))
            for image, text in zip(images, texts, strict=True)
        ]
        found = [_outcome(future) for future in waiting]
        lost = [str(one) for one in found if isinstance(one, UnansweredError)]
        if lost:
            log.warning("%s: %d of %d questions: %s", name, len(lost), len(found), lost[0])
        return found

    def answers(images: Sequence[Image.Image], questions: Sequence[str]) -> list[str | None]:
        nonlocal has_answered

        async def how(body: dict[str, Any]) -> list[Choice]:
            found = await chat.ask({**body, "max_tokens": _MAX_ANSWER_TOKENS})
            if found[0].is_cut and not found[0].text:
                raise CutError(
                    f"no word within {_MAX_ANSWER_TOKENS} tokens; models that think before they "
                    "answer cannot judge, take their Instruct versions"
                )
            return found

        found = ask(images, [shortly(question) for question in questions], how)
        texts = [one.text if isinstance(one, Choice) else None for one in found]
        has_answered = has_answered or any(text is not None for text in texts)
        if texts and not has_answered:
            raise ModelError(f"{name}: answers none of {len(texts)} questions: {found[0]}")
        return texts

    def probabilities(
        images: Sequence[Image.Image], questions: Sequence[str], wanted: Sequence[str]
    ) -> list[float]:
        found = ask(images, [in_one_word(question) for question in questions], _likeliest_of(chat))
        chosen = [one for one in found if isinstance(one, Choice)]
        if chosen and not any(one.tokens for one in chosen):
            raise NoProbabilitiesError(f"{name}: its server gives no log-probabilities of tokens")
        return [
            _probability(one, answer) if isinstance(one, Choice) else math.nan
            for one, answer in zip(found, wanted, strict=True)
        ]

    return Vqa(answers, probabilities, at_once=None)


def _likeliest_of(chat: Chat) -> Any:
    async def how(body: dict[str, Any]) -> list[Choice]:
        for count in _LIKELIEST:
            try:
                told = {"max_tokens": 1, "logprobs": True, "top_logprobs": count}
                return await chat.ask({**body, **told})
            except UnansweredError as error:
                if error.http_status is None or count == _LIKELIEST[-1]:
                    raise
        raise AssertionError("the last count returns or raises")

    return how


def _probability(choice: Choice, answer: str) -> float:
    """Of the first token being an answer's, or its first word where that is not the whole of it.

    Where no likely token is a word of the answer, its longest beginning counts: many vocabularies
    have no giraffe, and a local model's answer is known by its first token too.
    """
    if not choice.tokens:
        return math.nan
    texts = {text.lower() for text in spellings(answer)}
    texts |= {text.split()[0] for text in texts if text.split()}
    likeliest = [(token.strip().lower(), p) for token, p in choice.tokens[0].items()]
    begun = {token for token, _ in likeliest if token and any(t.startswith(token) for t in texts)}
    wanted = begun & texts or {token for token in begun if len(token) == max(map(len, begun))}
    return min(1.0, sum(math.exp(p) for token, p in likeliest if token in wanted))
