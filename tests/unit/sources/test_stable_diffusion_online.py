"""Stable Diffusion Online: its pages, robots.txt, opt-outs, odd markup, and a site that closed."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError
from support_site import Answer, Asked, Server, serving

from surd.errors import SourceError
from surd.net import http_api
from surd.sources.prompt_pages import read_cards, read_image_page
from surd.sources.record import Page, Record
from surd.sources.stable_diffusion_online import StableDiffusionOnlineSource, pages

SITE = "https://a.example/prompts/x"


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(http_api.time, "sleep", slept.append)
    return slept


def card(number: int, title: str = "") -> str:
    """An image of a page of results, much as the site has them."""
    title = title or f"Title {number}"
    return (
        f'<a hreflang="en" class="group" href="/image/{number}-some-words">'
        f'<img alt="{title}" loading="lazy" src="https://imgcdn.example/{number}.jpg">'
        f"<div><p>{title}</p></div></a>"
    )


def image_page(prompt: str, negative: str = "", title: str = "Title") -> str:
    first, *others = prompt.split(", ")
    words = f"<span><a>{first} </a></span>"
    words += "".join(f"<span>, <a> {word}</a></span>" for word in others)
    return (
        f"<html><h1 class='t'>{title}</h1><div><span>Prompt:</span><div><div>{words}</div>"
        "<button>Copy <b>Prompt</b></button></div></div>"
        f"<div><span>Negative prompt:</span><div><span>{negative}, </span></div></div>"
        "<dl><dt>Style:</dt><dd>photo</dd></dl></html>"
    )


def site(asked: Asked, results: int = 5, per_page: int = 2, robots: str = "") -> Answer:
    """A few images, two a page of results; each has a page of its own."""
    if asked.path == "/robots.txt":
        return Answer(robots) if robots else Answer("no", 404)
    if asked.path.startswith("/image/"):
        number = asked.path.split("/")[2].split("-")[0]
        page = image_page(f"cup {number}, red, (best:1.2)", "blurry", f"Title {number}")
        return Answer(page)
    at = (int(asked.query.get("page", 1)) - 1) * per_page
    logo = '<a href="/"><img src="/logo.png" alt="Stable Diffusion Online"></a>'
    return Answer(logo + "".join(card(i) for i in range(at, min(at + per_page, results))))


def source(server: Server, **params: Any) -> StableDiffusionOnlineSource:
    given: dict[str, Any] = {"queries": ["Red  cup!"], "retries": 1, "timeout_s": 5, **params}
    return StableDiffusionOnlineSource(base_url=server.url, **given)


def read(server: Server, cursor: str | None = None, **params: Any) -> list[Page]:
    return list(pages(source(server, **params), cursor))


def records(found: list[Page]) -> list[Record]:
    return [record for page in found for record in page.records]


def test_results_become_records_with_the_prompts_of_their_own_pages() -> None:
    with serving(site) as server:
        found = read(server)
    assert [record.key for record in records(found)] == ["0", "1", "2", "3", "4"]
    assert records(found)[3] == Record(
        key="3",
        source_id="3",
        url="https://imgcdn.example/3.jpg",
        prompt="cup 3, red, (best:1.2)",
        negative_prompt="blurry",
        simple_prompt="Title 3",
        page_url=f"{server.url}/image/3-some-words",
    )
    results = [request for request in server.asked if request.path == "/prompts/red-cup"]
    assert [request.query for request in results] == [
        {},
        {"page": "2"},
        {"page": "3"},
        {"page": "4"},
    ]


def test_without_image_pages_the_words_beside_are_the_prompt() -> None:
    with serving(site) as server:
        found = records(read(server, image_pages=False))
    assert [(record.prompt, record.simple_prompt) for record in found[:1]] == [("Title 0", None)]
    assert not any(path.startswith("/image/") for path in server.paths)


def test_reading_resumed_at_any_page_gives_the_same_rest() -> None:
    with serving(site) as server:
        whole = read(server, queries=["a", "b"])
        assert len(whole) == 6
        for i, page in enumerate(whole):
            assert read(server, page.cursor, queries=["a", "b"]) == whole[i:]


def test_a_limit_asks_for_no_more_image_pages_than_needed() -> None:
    with serving(site) as server:
        next(pages(source(server, limit=1), None))
    assert sum(path.startswith("/image/") for path in server.paths) == 1


def test_a_site_that_shows_one_page_for_ever_ends() -> None:
    with serving(lambda asked: site(Asked(asked.path, {}, None, {}))) as server:
        assert len(read(server, image_pages=False)) == 1


def test_no_more_pages_are_read_than_asked_for() -> None:
    with serving(lambda asked: site(asked, results=10**6)) as server:
        assert len(read(server, image_pages=False, max_pages=3)) == 3


# robots.txt and opt-outs


def test_robots_txt_is_asked_first_and_what_it_forbids_is_not_asked() -> None:
    rules = "User-agent: *\nDisallow: /prompts"
    with (
        serving(lambda asked: site(asked, robots=rules)) as server,
        pytest.raises(SourceError, match=r"robots\.txt does not allow it"),
    ):
        read(server)
    assert server.paths == ["/robots.txt"]


def test_image_pages_that_robots_txt_forbids_are_left_alone() -> None:
    with serving(lambda asked: site(asked, robots="User-agent: surd\nDisallow: /image/")) as server:
        assert [record.prompt for record in records(read(server))][:2] == ["Title 0", "Title 1"]
    assert not any(path.startswith("/image/") for path in server.paths)


def test_a_crawl_delay_is_kept_to(waits: list[float]) -> None:
    rules = "User-agent: *\nCrawl-delay: 7"
    with serving(lambda asked: site(asked, robots=rules)) as server:
        read(server, image_pages=False, requests_per_s=1000)
    assert max(waits) > 6


@pytest.mark.parametrize("how", ["header", "meta"])
def test_a_page_of_results_that_opts_out_closes_the_source(how: str) -> None:
    def opting_out(asked: Asked) -> Answer:
        given = site(asked)
        if asked.path == "/robots.txt":
            return given
        if how == "header":
            return Answer(given.body, headers={"X-Robots-Tag": "noai, noimageai"})
        return Answer('<meta name="robots" content="index, noai">' + given.body)

    with serving(opting_out) as server, pytest.raises(SourceError, match="opts out of AI"):
        read(server)


@pytest.mark.parametrize("how", ["header", "meta", "redirect"])
def test_an_image_whose_page_opts_out_is_left_out(how: str) -> None:
    def opting_out(asked: Asked) -> Answer:
        given = site(asked)
        if not asked.path.startswith("/image/1-"):
            return given
        if how == "header":
            return Answer(given.body, headers={"X-Robots-Tag": "noai"})
        if how == "redirect" and not asked.path.endswith("/to"):
            return Answer("", 302, {"Location": f"{asked.path}/to", "X-Robots-Tag": "noai"})
        return Answer('<META NAME="robots" CONTENT="noimageai">' + given.body)

    with serving(opting_out) as server:
        assert [record.key for record in records(read(server))] == ["0", "2", "3", "4"]


# Bad days

CLOSED: dict[str, Callable[[Asked], Answer]] = {
    "403": lambda _: Answer("<html>Just a moment", 403),
    "404": lambda _: Answer("<html>Not found", 404),
    "429": lambda _: Answer("slow", 429, {"Retry-After": "1"}),
    "500": lambda _: Answer("oops", 500),
    "nothing": lambda _: Answer(""),
    "a parked domain": lambda _: Answer("<html><h1>This domain is for sale</h1><img src=/a.png>"),
    "a shield": lambda _: Answer("<script>location='/check'</script><noscript>Enable JS"),
    "json": lambda _: Answer({"error": "gone"}),
    "elsewhere": lambda _: Answer("", 302, {"Location": "https://elsewhere.example/"}),
}


@pytest.mark.parametrize("day", CLOSED)
def test_a_closed_site_is_told_in_one_line(day: str) -> None:
    with serving(CLOSED[day]) as server, pytest.raises(SourceError) as caught:
        read(server)
    line = str(caught.value)
    assert "\n" not in line and "other sources continue" in line


def test_words_that_nobody_used_do_not_close_the_source() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer("no", 404) if asked.path == "/prompts/a" else site(asked)

    with serving(answer) as server:
        assert len(records(read(server, queries=["a", "b"]))) == 5


def test_an_image_page_that_is_gone_leaves_the_words_beside() -> None:
    def answer(asked: Asked) -> Answer:
        return Answer("no", 404) if asked.path.startswith("/image/2") else site(asked)

    with serving(answer) as server:
        assert records(read(server))[2].prompt == "Title 2"


@pytest.mark.parametrize("cursor", ["x", "[1]", "{}", '{"query": "a", "page": 1}'])
def test_a_cursor_of_another_source_is_refused(cursor: str) -> None:
    with pytest.raises(SourceError, match="not a cursor of this source"):
        list(pages(StableDiffusionOnlineSource(queries=["a"]), cursor))


@pytest.mark.parametrize(
    "params",
    [
        {"queries": []},
        {"queries": ["!?"]},
        {"queries": ["a"], "base_url": "https://a.example/prompts"},
        {"queries": ["a"], "base_url": "https://me:secret@a.example"},
        {"queries": ["a"], "max_pages": 0},
    ],
)
def test_wrong_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StableDiffusionOnlineSource(**params)


# Markup


def images(html: str) -> list[tuple[str, str]]:
    return [(found.image, found.text) for found in read_cards(html, SITE)[0]]


@pytest.mark.parametrize(
    ("html", "image", "text"),
    [
        ('<img src="/1.jpg" alt="a red cup">', "https://a.example/1.jpg", "a red cup"),
        ("<img src=1.jpg><p>a  red\n cup", "https://a.example/prompts/1.jpg", "a red cup"),
        (
            '<img data-src="//b.example/1.webp" alt="a &amp; b c">',
            "https://b.example/1.webp",
            "a & b c",
        ),
        (
            '<img src="data:x" srcset="/1.png 1x, /2.png 2x" alt="a b c">',
            "https://a.example/1.png",
            "a b c",
        ),
        (
            '<img src="/_next/image?url=https%3A%2F%2Fb.example%2F1.jpg&w=64" alt="a b c">',
            "https://b.example/1.jpg",
            "a b c",
        ),
        ("<a href='/image/7-a'><img src=/7.jpg>cup</a>", "https://a.example/7.jpg", "cup"),
        ('<![/a><img src="/1.jpg" alt="a b c">', "https://a.example/1.jpg", "a b c"),
    ],
)
def test_images_are_found_however_they_are_written(html: str, image: str, text: str) -> None:
    assert images(html) == [(image, text)]


@pytest.mark.parametrize(
    "html",
    [
        '<img src="/logo.svg" alt="a vector of words">',
        '<img alt="no source at all">',
        '<img src="javascript:alert(1)" alt="not an address">',
        '<img src="http://[::1" alt="not an address">',
        '<img src="/logo.png" alt="Logo">',
        "<img src=/1.png><script>var words = 'in a script'</script>",
        "<p>words and more words",
        "<!-- <img src=/1.png alt='in a comment only'> -->",
        "<img src=/1.png",
        "\0\0<<<>>&&&",
    ],
)
def test_what_is_no_image_with_words_is_passed_over(html: str) -> None:
    assert images(html) == []


def test_the_same_image_twice_is_one_card() -> None:
    assert len(images(card(1) + card(1) + card(2))) == 2


def test_words_belong_to_the_image_before_them() -> None:
    html = "<div><img src=/1.jpg><p>one red cup</div><div><img src=/2.jpg><p>two red cups</div>"
    assert [text for _, text in images(html)] == ["one red cup", "two red cups"]


def test_embedded_data_tells_whole_prompts() -> None:
    data = {
        "props": {
            "list": [
                {"id": 7, "prompt": " a red cup , best", "imageUrl": "/7.jpg", "title": "Cup"},
                {"id": "x", "prompt": "b", "image": "https://b.example/8.jpg"},
                {"prompt": "no image"},
                {"prompt": 5, "url": "/9.jpg"},
            ]
        }
    }
    html = f'<script id="__NEXT_DATA__" type="application/json">{json.dumps(data)}</script>'
    found, _ = read_cards(html + card(1), SITE)
    assert [(c.image, c.prompt, c.number) for c in found] == [
        ("https://a.example/7.jpg", "a red cup, best", "7"),
        ("https://b.example/8.jpg", "b", None),
    ]


@pytest.mark.parametrize("data", ["{", "[" * 100_000, "null", '{"prompt": "a"}', '"x"'])
def test_broken_data_does_not_hide_the_images(data: str) -> None:
    html = f'<script type="application/json">{data}</script>'
    assert len(images(html + card(1))) == 1


def test_an_image_page_is_read_by_its_labels() -> None:
    page = read_image_page(image_page("ui, game, for (fun:1.2)", "bad hands", "A Game"))
    assert (page.title, page.prompt) == ("A Game", "ui, game, for (fun:1.2)")
    assert page.negative_prompt == "bad hands"


@pytest.mark.parametrize("html", ["", "<h1>", "<span>Prompt:</span>", "<span>Prompt:</span> , "])
def test_an_image_page_without_a_prompt_has_none(html: str) -> None:
    assert read_image_page(html).prompt is None
