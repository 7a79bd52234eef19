"""The Lexica source: both forms of the API, their odd answers, and a site that has closed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from support_site import Answer, Asked, Server, serving

from surd.errors import SourceError
from surd.net import http_api
from surd.sources.lexica import LICENCE, LexicaSource, pages
from surd.sources.record import Page, Record

OLD_IMAGE = {
    "id": "0482ee68",
    "gallery": "https://lexica.art?prompt=1",
    "src": "https://images.example/md/0482ee68",
    "srcSmall": "https://images.example/sm/0482ee68",
    "prompt": "a red cup, octane render",
    "width": 512,
    "height": 768,
    "seed": "123456",
    "grid": False,
    "model": "stable-diffusion",
    "guidance": 7,
    "promptid": "p1",
    "nsfw": False,
}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_api.time, "sleep", lambda _: None)


def source(server: Server, **params: Any) -> LexicaSource:
    given: dict[str, Any] = {"queries": ["cup"], "retries": 1, "timeout_s": 5, **params}
    return LexicaSource(base_url=server.url, **given)


def read(server: Server, cursor: str | None = None, **params: Any) -> list[Page]:
    return list(pages(source(server, **params), cursor))


def records(found: list[Page]) -> list[Record]:
    return [record for page in found for record in page.records]


def only(image: Any, **params: Any) -> Record:
    with serving(lambda _: Answer({"images": [image]})) as server:
        (record,) = records(read(server, **params))
    return record


def old_site(asked: Asked) -> Answer:
    words = asked.query["q"]
    return Answer({"images": [OLD_IMAGE | {"id": f"{words}-{i}"} for i in range(3)]})


def later_site(asked: Asked) -> Answer:
    """Seven images a query, three an answer."""
    assert asked.path == "/api/infinite-prompts"
    at, words = asked.body["cursor"], asked.body["text"]
    numbers = range(at, min(at + 3, 7))
    images = [{"id": f"{words}-{i}", "promptid": f"p{i % 2}", "width": 512} for i in numbers]
    prompts = [
        {"id": f"p{i}", "prompt": f"prompt {i}", "negativePrompt": "", "seed": "9", "model": "v2"}
        for i in range(2)
    ]
    return Answer({"images": images, "prompts": prompts, "nextCursor": at + 3})


def test_an_image_of_the_first_form_becomes_a_record() -> None:
    assert only(OLD_IMAGE) == Record(
        key="0482ee68",
        source_id="0482ee68",
        url="https://images.example/md/0482ee68",
        prompt="a red cup, octane render",
        nsfw_level="none",
        model="stable-diffusion",
        page_url="https://lexica.art?prompt=1",
        settings={
            "width": 512,
            "height": 768,
            "seed": "123456",
            "grid": False,
            "guidance": 7,
            "promptid": "p1",
        },
    )


def test_the_licence_is_that_of_lexica_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "surd.sources.lexica.open_api", lambda *_, **__: lambda *_: {"images": [OLD_IMAGE]}
    )
    (record,) = records(list(pages(LexicaSource(queries=["cup"]), None)))
    assert record.licence == LICENCE
    assert only(OLD_IMAGE).licence is None


@pytest.mark.parametrize(
    ("src", "url"),
    [
        (["https://a.example/1", "https://a.example/2"], "https://a.example/1"),
        ([None, "https://a.example/2"], "https://a.example/2"),
        ([], "https://images.example/sm/0482ee68"),
        (None, "https://images.example/sm/0482ee68"),
        ("javascript:alert(1)", "https://images.example/sm/0482ee68"),
        (7, "https://images.example/sm/0482ee68"),
    ],
)
def test_src_may_be_a_list_or_missing(src: object, url: str) -> None:
    assert only(OLD_IMAGE | {"src": src}).url == url


def test_without_any_url_the_image_lies_where_its_number_says() -> None:
    assert only({"id": "x1"}).url == "https://image.lexica.art/full_jpg/x1"
    assert (
        only({"id": "x1"}, image_url="http://a.example/{id}.jpg").url == "http://a.example/x1.jpg"
    )


@pytest.mark.parametrize(
    "image", [{}, {"id": None}, {"id": 5, "prompt": 7}, {"id": {}, "prompt": [], "nsfw": "yes"}]
)
def test_odd_images_still_have_a_key(image: dict[str, Any]) -> None:
    assert only(image).key


def test_things_that_are_no_images_are_passed_over() -> None:
    with serving(lambda _: Answer({"images": [None, "x", 3, [], OLD_IMAGE]})) as server:
        assert len(records(read(server))) == 1


def test_every_query_is_asked_once_and_politely() -> None:
    with serving(old_site) as server:
        found = read(server, queries=["cup", "red dress"], contact="me@example.com")
    assert [page.cursor is None for page in found] == [True, False]
    assert [request.query for request in server.asked] == [{"q": "cup"}, {"q": "red dress"}]
    assert "surd/" in server.asked[0].headers["User-Agent"]
    assert "me@example.com" in server.asked[0].headers["User-Agent"]


def test_the_later_form_joins_prompts_and_follows_the_cursor() -> None:
    with serving(later_site) as server:
        found = read(server, api="infinite_prompts", queries=["a", "b"], model="lexica-aperture-v2")
    assert [record.key for record in records(found)] == [f"{q}-{i}" for q in "ab" for i in range(7)]
    first = records(found)[1]
    assert (first.prompt, first.negative_prompt, first.model) == ("prompt 1", None, "v2")
    assert first.url == "https://image.lexica.art/full_jpg/a-1"
    assert server.asked[0].body == {
        "text": "a", "searchMode": "images", "source": "search", "model": "lexica-aperture-v2",
        "cursor": 0,
    }  # fmt: skip


@pytest.mark.parametrize("api", ["search", "infinite_prompts"])
def test_reading_resumed_at_any_page_gives_the_same_rest(api: str) -> None:
    with serving(old_site if api == "search" else later_site) as server:
        whole = read(server, api=api, queries=["a", "b", "c"])
        for i, page in enumerate(whole):
            assert read(server, page.cursor, api=api, queries=["a", "b", "c"]) == whole[i:]


@pytest.mark.parametrize("following", [0, 3, "", None, True, [], 2.5])
def test_a_cursor_that_leads_nowhere_ends_the_query(following: object) -> None:
    def site(asked: Asked) -> Answer:
        is_first = asked.body["cursor"] == 0
        return Answer({"images": [OLD_IMAGE], "nextCursor": 3 if is_first else following})

    with serving(site) as server:
        assert len(read(server, api="infinite_prompts")) == 2


def test_cursors_that_go_in_circles_end() -> None:
    following = {0: "a", "a": "b", "b": "a"}

    def site(asked: Asked) -> Answer:
        return Answer({"images": [OLD_IMAGE], "nextCursor": following[asked.body["cursor"]]})

    with serving(site) as server:
        assert len(read(server, api="infinite_prompts")) == 3


def test_images_that_two_queries_find_have_one_key() -> None:
    with serving(lambda _: Answer({"images": [OLD_IMAGE]})) as server:
        assert {record.key for record in records(read(server, queries=["a", "b"]))} == {"0482ee68"}


def test_an_answer_without_prompts_still_gives_its_images() -> None:
    for prompts in (None, [], "x", [None, {"id": None}]):
        with serving(lambda _, p=prompts: Answer({"images": [{"id": 1}], "prompts": p})) as server:
            (record,) = records(read(server, api="infinite_prompts"))
            assert record.prompt is None


def test_what_the_site_marks_can_be_left_out() -> None:
    images = [OLD_IMAGE, OLD_IMAGE | {"id": "2", "nsfw": True}]
    with serving(lambda _: Answer({"images": images})) as server:
        assert [record.nsfw_level for record in records(read(server))] == ["none", "x"]
        assert [record.nsfw_level for record in records(read(server, nsfw=False))] == ["none"]


CLOSED: dict[str, Callable[[Asked], Answer]] = {
    "html": lambda _: Answer("<html>We have moved"),
    "403": lambda _: Answer("<html>Just a moment", 403),
    "404": lambda _: Answer("<html>Not found", 404),
    "429": lambda _: Answer("slow", 429, {"Retry-After": "1"}),
    "500": lambda _: Answer("oops", 500),
    "503": lambda _: Answer("oops", 503),
    "no images": lambda _: Answer({"error": "gone"}),
    "null images": lambda _: Answer({"images": None}),
    "a list": lambda _: Answer([]),
    "elsewhere": lambda _: Answer("", 302, {"Location": "https://elsewhere.example/"}),
}


@pytest.mark.parametrize("api", ["search", "infinite_prompts"])
@pytest.mark.parametrize("day", CLOSED)
def test_a_closed_site_is_told_in_one_line(api: str, day: str) -> None:
    with serving(CLOSED[day]) as server, pytest.raises(SourceError) as caught:
        read(server, api=api)
    line = str(caught.value)
    assert "\n" not in line and "Lexica may have closed this API" in line
    assert "other sources continue" in line


def test_what_came_before_the_site_closed_is_kept() -> None:
    def site(asked: Asked) -> Answer:
        return old_site(asked) if asked.query["q"] == "cup" else Answer("<html>", 403)

    with serving(site) as server:
        reading = pages(source(server, queries=["cup", "dress"]), None)
        assert len(next(reading).records) == 3
        with pytest.raises(SourceError):
            next(reading)


def test_a_hiccup_is_outlived() -> None:
    answers = iter([Answer("", 500), Answer({"images": [OLD_IMAGE]})])
    with serving(lambda _: next(answers)) as server:
        assert len(records(read(server, api="infinite_prompts"))) == 1


@pytest.mark.parametrize("cursor", ["x", "[1]", "{}", '{"query": "a", "cursor": 1}'])
def test_a_cursor_of_another_source_is_refused(cursor: str) -> None:
    with pytest.raises(SourceError, match="not a cursor of lexica"):
        list(pages(LexicaSource(queries=["cup"]), cursor))


@pytest.mark.parametrize(
    "params",
    [
        {"queries": []},
        {"queries": ["cup", " "]},
        {"queries": ["cup"], "base_url": "ftp://lexica.art"},
        {"queries": ["cup"], "base_url": "https://me:secret@lexica.art"},
        {"queries": ["cup"], "image_url": "https://image.lexica.art/"},
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        LexicaSource(**params)


@pytest.mark.parametrize("url", ["https://a.example/", "https://a.example/api/v1"])
def test_the_base_url_may_be_that_of_the_api(url: str) -> None:
    assert LexicaSource(queries=["cup"], base_url=url).base_url == "https://a.example"
