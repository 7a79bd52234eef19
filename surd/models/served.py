"""Models on an OpenAI-compatible server: what they are asked, and what is made of their answers."""

from __future__ import annotations

import atexit
import base64
import logging
import math
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
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
from surd.text.chat_answers import unwrapped, without_thoughts
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


async def _said(chat: Chat, body: Mapping[str, Any]) -> list[Choice]:
    """The choices, without the thoughts of models that think aloud."""
    return [replace(one, text=without_thoughts(one.text)) for one in await chat.ask(body)]


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
        likeliest = await _said(self._chat, {**body, "temperature": 0, "seed": seed})
        found = [(choice, "greedy") for choice in likeliest[:1]]
        if self._wanted.samples:
            sampled = {**body, "temperature": 1, "top_p": self._wanted.top_p}
            found += [(choice, "nucleus") for choice in await self._samples(sampled, seed)]
        proposals = [Proposal(text, how) for choice, how in found if (text := _whole(choice))]
        if not proposals and any(choice.is_cut for choice, _ in found):
            raise CutError(self._why_cut(any(choice.text for choice, _ in found)))
        if not proposals:
            raise UnansweredError("an answer without words")
        return proposals

    def _why_cut(self, has_words: bool) -> str:
        count = self._wanted.max_new_tokens
        if has_words:
            return f"every answer is longer than {count} tokens; raise {self._length_key}"
        return (
            f"no word of an answer within {count} tokens; models that think before they answer "
            f"are slow captioners, take their Instruct versions or raise {self._length_key}"
        )

    async def _samples(self, body: dict[str, Any], seed: int) -> list[Choice]:
        """As many as are wanted, each with a seed of its own where the server takes no ``n``."""
        count, found = self._wanted.samples, list[Choice]()
        if self._takes_n and count > 1:
            try:
                found = await _said(self._chat, {**body, "seed": seed, "n": count})
            except UnansweredError as error:
                if error.http_status is None:
                    raise
            self._takes_n = len(found) > 1
        while len(found) < count:
            found += (await _said(self._chat, {**body, "seed": seed + len(found)}))[:1]
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
        chat.submit(_said(chat, {"messages": list(messages), **body})) for messages in conversations
    ]
    return [_outcome(future) for future in waiting]


def _outcome(future: Future[list[Choice]]) -> Choice | UnansweredError:
    try:
        return future.result()[0]
    except UnansweredError as error:
        return error


_MAX_ANSWER_TOKENS = 16
_TAG, _LETTER = re.compile(r"<[^<>]*>"), re.compile(r"\w")
_SPACES = "\u2581\u0120"
"""How SentencePiece and byte-level BPE write a space."""
_LIKELIEST = (20, 5)
"""How many tokens a server is asked the probabilities of; some give no more than five."""


def load_served_vqa(name: str) -> Vqa:
    """A judge on a server; every question of a call is under way at once.

    A question without an answer is answered with None, and has the probability NaN; a warning says
    so. Raises ModelError where nothing answers at all.
    """
    chat = open_chat(name).__enter__()
    atexit.register(chat.close)
    has_answered, likeliest = False, _likeliest_of(chat)

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
            found = await _said(chat, {**body, "max_tokens": _MAX_ANSWER_TOKENS})
            if found[0].is_cut and not found[0].text:
                raise CutError(
                    f"no word within {_MAX_ANSWER_TOKENS} tokens; models that think before they "
                    "answer cannot judge, take their Instruct versions"
                )
            return found

        found = ask(images, [shortly(question) for question in questions], how)
        texts = [unwrapped(one.text) if isinstance(one, Choice) else None for one in found]
        has_answered = has_answered or any(text is not None for text in texts)
        if texts and not has_answered:
            raise ModelError(f"{name}: answers none of {len(texts)} questions: {found[0]}")
        return texts

    def probabilities(
        images: Sequence[Image.Image], questions: Sequence[str], wanted: Sequence[str]
    ) -> list[float]:
        found = ask(images, [in_one_word(question) for question in questions], likeliest)
        chosen = [one for one in found if isinstance(one, Choice)]
        if chosen and not any(one.tokens for one in chosen):
            raise NoProbabilitiesError(f"{name}: its server gives no log-probabilities of tokens")
        return [
            _probability(one, answer) if isinstance(one, Choice) else math.nan
            for one, answer in zip(found, wanted, strict=True)
        ]

    return Vqa(answers, probabilities, at_once=None)


def _likeliest_of(chat: Chat) -> Any:
    """How to ask for the likeliest tokens of an answer: of the first alone, and more from the first
    answer on that begins with none of a word, such as a new line or a quote."""
    length, counts = 1, list(_LIKELIEST)

    async def asked(body: dict[str, Any], length: int) -> list[Choice]:
        for count in tuple(counts):
            try:
                told = {"max_tokens": length, "logprobs": True, "top_logprobs": count}
                found = await chat.ask({**body, **told})
            except UnansweredError as error:
                if error.http_status is None or count == _LIKELIEST[-1]:
                    raise
            else:
                if count in counts:  # what it refused before that is not asked again
                    del counts[: counts.index(count)]
                return found
        raise AssertionError("the last count returns or raises")

    async def how(body: dict[str, Any]) -> list[Choice]:
        nonlocal length
        count = length
        found = await asked(body, count)
        tokens = found[0].tokens
        if count == 1 and tokens and not _word_in(_likeliest(tokens[0])):
            length = _MAX_ANSWER_TOKENS
            found = await asked(body, length)
        return found

    return how


def _probability(choice: Choice, answer: str) -> float:
    """Of the first token being an answer's, or its first word where that is not the whole of it.

    Tokens without a word, such as a new line, are passed over: an answer may stand before or behind
    them.
    """
    if not choice.tokens:
        return math.nan
    found, before = 0.0, 1.0
    for token in choice.tokens:
        found += before * _first_token(token, answer)
        likeliest = _likeliest(token)
        if not token or _word_in(likeliest):
            break
        before *= math.exp(token[likeliest])
    return min(1.0, found)


def _first_token(token: Mapping[str, float], answer: str) -> float:
    """Where no likely token is a word of the answer, its longest beginning counts: many
    vocabularies have no giraffe, and a local model's answer is known by its first token too."""
    texts = {text.lower() for text in spellings(answer)}
    texts |= {text.split()[0] for text in texts if text.split()}
    likeliest = [(_word_in(text), p) for text, p in token.items()]
    begun = {text for text, _ in likeliest if text and any(t.startswith(text) for t in texts)}
    wanted = begun & texts or {text for text in begun if len(text) == max(map(len, begun))}
    return sum(math.exp(p) for text, p in likeliest if text in wanted)


def _likeliest(token: Mapping[str, float]) -> str:
    return max(token, key=lambda text: token[text], default="")


def _word_in(token: str) -> str:
    """The word of a token, small; empty for spaces, marks and tags. Some servers give tokens as
    vocabularies write them, a space as a mark of its own."""
    text = _TAG.sub("", token).strip().lstrip(_SPACES).lower()
    return text if _LETTER.search(text) else ""
