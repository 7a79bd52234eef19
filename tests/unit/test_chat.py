"""Asking an OpenAI-compatible server, whatever it does."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from support_chat import FAULTS, MODEL, ChatServer
from yarl import URL

from surd.errors import ModelError
from surd.net.chat import Chat, Choice, Manners, UnansweredError, _to

QUICK = Manners(concurrency=8, retries=2, timeout_s=0.3, patience_s=5)


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "seed": 0, **more}


def ask(chat: Chat, count: int = 1, **more: Any) -> list[Any]:
    """Choices, or why there are none."""
    waiting = [chat.submit(chat.ask(asked(f"question {n}", **more))) for n in range(count)]
    return [future.exception(60) or future.result() for future in waiting]


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surd.net.chat._MAX_PAUSE_S", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "refused"])
def test_what_fails_once_is_asked_again(fault: str) -> None:
    once = ChatServer(fault=lambda _, before: fault if before == 0 else None)
    with once as server, Chat(server.url, MODEL, QUICK) as chat:
        found = ask(chat, 3)
    assert [len(choices) for choices in found] == [1, 1, 1]
    assert len(set(server.answered)) == len(server.answered) == 3


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("500", "HTTP 500: out of memory"),
        ("timeout", "no whole answer within 0.3 s"),
        ("cut", "the answer broke off"),
        ("reset", "the connection broke"),
        ("broken", "an answer that is no JSON"),
        ("list", "an answer that is no JSON object"),
        ("no choices", "an answer without choices"),
        ("html", "HTTP 502"),
        ("error", "an error: crashed"),
        ("choice", "an error: crashed"),
    ],
)
def test_what_never_comes_costs_one_request_its_tries(fault: str, reason: str) -> None:
    tries: list[int] = []

    def bad(body: dict[str, Any], before: int) -> str | None:
        tries.append(before)
        return fault if "top_p" in body else None

    with ChatServer(fault=bad) as server, Chat(server.url, MODEL, QUICK) as chat:
        [found] = ask(chat, top_p=0.5)
        assert isinstance(ask(chat)[0], list)
    assert isinstance(found, UnansweredError) and str(found).startswith(reason)
    assert len(tries) == 1 + QUICK.retries + 1


def test_what_is_refused_is_not_asked_again() -> None:
    with ChatServer() as server, Chat(server.url, MODEL, QUICK) as chat:
        ask(chat)
        server.fault = lambda *_: "refused"
        [found] = ask(chat, n=2)
    assert isinstance(found, UnansweredError) and found.http_status == 400
    assert str(found) == "HTTP 400: no way"


def test_a_server_that_says_when_is_left_alone_until_then() -> None:
    """By every request, not only by the one that was told."""
    busy = {"until": 6}

    def fault(*_: object) -> str | None:
        busy["until"] -= 1
        return "503" if busy["until"] >= 0 else None

    with ChatServer(fault=fault) as server, Chat(server.url, MODEL, QUICK) as chat:
        assert all(isinstance(some, list) for some in ask(chat, 20))
    assert len(server.answered) == 20


def test_being_busy_costs_no_tries() -> None:
    fault = lambda _, before: "429" if before < 10 else None  # noqa: E731
    none = Manners(concurrency=2, retries=0, patience_s=60)
    with ChatServer(fault=fault) as server, Chat(server.url, MODEL, none) as chat:
        assert all(isinstance(some, list) for some in ask(chat, 2))


def test_a_server_that_says_at_once_is_not_asked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surd.net.chat._MAX_PAUSE_S", 15.0)
    count = iter(range(1_000_000))
    fault = lambda *_: "429" if next(count) >= 0 else None  # noqa: E731
    one = Manners(concurrency=1, patience_s=0.3)
    with ChatServer(fault=fault) as server, Chat(server.url, MODEL, one) as chat:
        [found] = ask(chat)
    assert isinstance(found, ModelError) and next(count) < 8


def test_a_server_that_is_busy_for_moments_is_no_news(caplog: pytest.LogCaptureFixture) -> None:
    fault = lambda _, before: "429" if before < 2 else None  # noqa: E731
    with ChatServer(fault=fault) as server, Chat(server.url, MODEL, QUICK) as chat:
        assert all(isinstance(some, list) for some in ask(chat, 20))
    assert not caplog.records


def test_a_server_that_restarts_is_waited_for(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.net.chat._TOLD_AFTER_S", 0.0)
    server = ChatServer()
    with server, Chat(server.url, MODEL, Manners(retries=2, patience_s=60)) as chat:
        ask(chat)
        server.__exit__()
        waiting = [chat.submit(chat.ask(asked(f"later {n}"))) for n in range(40)]
        threading.Timer(0.3, server.__enter__).start()
        assert all(len(future.result(60)) == 1 for future in waiting)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "waiting for it" in told[0] and "answers again" in told[1]


def test_a_server_that_stays_away_ends_everything_in_one_line() -> None:
    server = ChatServer()
    with server, Chat(server.url, MODEL, Manners(patience_s=0.1)) as chat:
        ask(chat)
        server.__exit__()
        found = ask(chat, 40)
    assert all(isinstance(error, ModelError) for error in found)
    assert "run the same command again to continue" in str(found[0]) and server.url in str(found[0])


def test_nobody_there_is_told_before_anything_is_asked() -> None:
    with ChatServer() as server:
        pass
    with pytest.raises(ModelError, match=rf"^server {server.url} does not answer .*; start it"):
        Chat(server.url, MODEL, QUICK).__enter__()


def test_a_host_with_several_addresses_is_refused_in_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def both(*_: Any, **__: Any) -> None:
        refused = "[Errno 111] Connect call failed"
        raise OSError(
            f"Multiple exceptions: {refused} ('::1', 1, 0, 0), {refused} ('127.0.0.1', 1)"
        )

    monkeypatch.setattr("aiohappyeyeballs.start_connection", both)
    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", both)
    with pytest.raises(ModelError, match=r"does not answer \(Connection refused\); start it first"):
        Chat("http://127.0.0.1:1/v1", MODEL, QUICK).__enter__()


def test_the_key_comes_from_the_named_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "secret")
    with ChatServer(key="secret") as server:
        with Chat(server.url, MODEL, Manners(key_variable="MY_KEY")) as chat:
            assert isinstance(ask(chat)[0], list)
        with pytest.raises(ModelError, match="wants a key; put it into OPENAI_API_KEY"):
            Chat(server.url, MODEL, QUICK).__enter__()
        monkeypatch.setenv("OPENAI_API_KEY", "another")
        with pytest.raises(ModelError, match="does not accept the key in OPENAI_API_KEY"):
            Chat(server.url, MODEL, QUICK).__enter__()


def test_another_model_than_the_server_has_ends_everything() -> None:
    with ChatServer() as server, Chat(server.url, "other", QUICK) as chat:
        [found] = ask(chat)
    assert isinstance(found, ModelError) and "has no model 'other'" in str(found)
    assert "does not exist" in str(found)


def test_failures_in_a_row_end_everything() -> None:
    with ChatServer(fault=lambda *_: "refused") as server, Chat(server.url, MODEL, QUICK) as chat:
        found = ask(chat, 40)
    assert sum(isinstance(error, ModelError) for error in found) >= 9
    assert "32 requests in a row failed, the last: HTTP 400: no way" in str(found[-1])


def test_refusals_between_answers_end_nothing() -> None:
    with ChatServer() as server, Chat(server.url, MODEL, QUICK) as chat:
        ask(chat)
        server.fault = lambda *_: "refused"
        found = ask(chat, 50, n=1)
    assert all(isinstance(error, UnansweredError) for error in found)


def test_a_model_or_key_that_is_gone_meanwhile_costs_no_rows() -> None:
    with ChatServer() as server, Chat(server.url, MODEL, QUICK) as chat:
        ask(chat)
        server.key = "another"
        found = ask(chat, 20)
        assert all(isinstance(error, ModelError) for error in found)
    assert "wants a key; put it into OPENAI_API_KEY (HTTP 401" in str(found[0])


def test_a_key_that_no_header_takes_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "one\ntwo")
    with ChatServer() as server, pytest.raises(ModelError, match="control characters") as caught:
        Chat(server.url, MODEL, QUICK).__enter__()
    assert "two" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("", r"is no address that ends in /v1 \(an error: Unexpected endpoint .*GET /models\)"),
        ("/moved/v1", r"redirects \(HTTP 301, to https://elsewhere\.org/v1/models\); name the"),
    ],
)
def test_an_address_that_is_none_is_told_before_anything_is_asked(path: str, told: str) -> None:
    with ChatServer() as server, pytest.raises(ModelError, match=told):
        Chat(server.url.removesuffix("/v1") + path, MODEL, QUICK).__enter__()
    assert not server.bodies


def test_an_error_with_status_200_counts_as_the_status_that_it_names() -> None:
    with ChatServer() as server, Chat(server.url, MODEL, QUICK) as chat:
        errors = iter([{"message": "slow down", "code": 429}, {"message": "too big", "code": 400}])
        server._answer = lambda body: {"error": next(errors)}  # type: ignore[method-assign]
        [error] = ask(chat)
    assert isinstance(error, UnansweredError)
    assert (str(error), error.http_status, len(server.bodies)) == ("an error: too big", 400, 2)


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ({"token": "Yes", "logprob": 10**400}, "an answer without choices: "),
        ({"token": "Yes", "logprob": 0.7}, "log-probabilities that are none: "),
        ({"token": 5, "logprob": -0.1}, "log-probabilities that are none: "),
    ],
)
def test_odd_log_probabilities_cost_one_answer(token: dict[str, Any], told: str) -> None:
    def answer(body: dict[str, Any]) -> dict[str, Any]:
        return {"choices": [{"message": {"content": "Yes"}, "logprobs": {"content": [token]}}]}

    with ChatServer() as server, Chat(server.url, MODEL, QUICK) as chat:
        server._answer = answer  # type: ignore[method-assign]
        [error] = ask(chat)
    assert isinstance(error, UnansweredError) and str(error).startswith(told)


@pytest.mark.parametrize(
    ("location", "place"),
    [
        ("/login?key=secret", ", to http://a.example/login"),
        ("//u:p@b.example/", ", to http://b.example/"),
        ("http://[b", ""),
    ],
)
def test_a_redirect_to_anywhere_is_told_as_one(location: str, place: str) -> None:
    assert _to(location, URL("http://a.example/v1/models")) == place


def test_no_more_than_so_many_are_under_way() -> None:
    with ChatServer(service_s=0.01) as server, Chat(server.url, MODEL, QUICK) as chat:
        ask(chat, 100)
    assert server.peak == QUICK.concurrency


def test_answers_are_read_in_every_shape() -> None:
    said = {"text": " A cat. "}
    with ChatServer(say=lambda _: said["text"]) as server, Chat(server.url, MODEL, QUICK) as chat:
        assert ask(chat) == [[Choice("A cat.")]]
        said["text"] = "a\x1b[31m cat\ud800\nsits"
        assert ask(chat) == [[Choice("a [31m cat  sits")]]
        server.max_tokens = 2
        assert ask(chat, temperature=1)[0][0].is_cut
        server.max_tokens, server.likeliest = None, {"Yes": -0.1, "No": -3.0}
        [[choice]] = ask(chat, logprobs=True)
    assert choice.tokens == ({"Yes": -0.1, "No": -3.0},)
