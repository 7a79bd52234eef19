"""What captioners are asked where the user asks nothing."""

from __future__ import annotations

import pytest
from support_chat import ChatServer

from surd.models.captions import QUESTIONS, Wanted
from surd.models.questions import question_for
from surd.models.served import ServedCaptioner
from surd.net.chat import Chat


@pytest.mark.parametrize(
    ("name", "kind", "is_chat", "text"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", True, QUESTIONS["simple"]),
        ("fancyfeast/llama-joycaption-beta-one-hf-llava", "llava", True, "one-sentence caption"),
        ("florence-community/Florence-2-large", "florence2", False, "<CAPTION>"),
        ("Salesforce/blip2-opt-2.7b", "blip-2", False, ""),
    ],
)
def test_each_family_is_asked_in_its_own_words(
    name: str, kind: str, is_chat: bool, text: str
) -> None:
    asked = question_for(name, kind, is_chat=is_chat)
    assert (text in asked.text) and bool(asked.text) == bool(text)
    assert (asked.system is not None) == ("joycaption" in name)


def test_a_server_is_asked_in_the_words_of_the_model_it_has() -> None:
    with ChatServer() as server, Chat(server.url, "stand-in/vl") as chat:
        chat.model = "joycaption"
        body = ServedCaptioner(chat, None, Wanted(0))
        assert body._system and "caption" in body._prompt
        own = ServedCaptioner(chat, "What is it?", Wanted(0))
        chat.model = "stand-in/vl"
        assert len(own.propose(b"jpeg", 0).result(30)) == 1
    messages = server.bodies[0]["messages"]
    assert [turn["role"] for turn in messages] == ["system", "user"]
    assert messages[1]["content"][1]["text"] == "What is it?"
