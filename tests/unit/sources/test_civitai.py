"""The Civitai source: every shape the API has answered in, its paging, and its bad days."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from pydantic import ValidationError

from surd.demo.picture import Picture
from surd.demo.site import Site
from surd.errors import SourceError
from surd.net import http_api
from surd.net.http_api import RefusedError, open_api
from surd.sources import civitai
from surd.sources.civitai import TOKEN_VARIABLE, CivitaiSource, nsfw_level, pages
from surd.sources.record import Page, Record

REAL = Path(__file__).parents[4] / "shared" / "real" / "civitai_models_page2.json"
UUID = "8846f6a3-1932-49d8-8492-4925e93d883d"
URL = f"https://image.civitai.com/xG1nkqKTMzGDvpLrqFT7WA/{UUID}/width=450/1329102.jpeg"
Query = dict[str, str]


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of whoever runs the tests."""
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds the source wanted to sleep; none of them are slept."""
    slept: list[float] = []
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=slept.append, time=time.time)
    monkeypatch.setattr(http_api, "time", clock)
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    return slept


def answering(
    monkeypatch: pytest.MonkeyPatch, answers: Iterable[Mapping[str, Any] | Exception]
) -> list[tuple[str, Query]]:
    """Put an API in place that gives these answers in turn; returns what it was asked."""
    asked: list[tuple[str, Query]] = []
    left = iter(answers)

    def ask(path: str, query: Mapping[str, str | int]) -> Mapping[str, Any]:
        asked.append((path, {name: str(value) for name, value in query.items()}))
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(civitai, "open_api", lambda *_, **__: ask)
    return asked


def parsed(monkeypatch: pytest.MonkeyPatch, item: Mapping[str, Any], **params: Any) -> Record:
    """The record made of one item of the images endpoint."""
    answering(monkeypatch, [{"items": [item]}])
    (page,) = pages(CivitaiSource(**params), None)
    (record,) = page.records
    return record


def picture(number: int, **fields: Any) -> Picture:
    uuid = f"{number:08x}-0000-4000-8000-000000000000"
    return Picture(**{"id": number, "uuid": uuid, "data": b"x", "prompt": f"p{number}", **fields})


def source(site: Site, **params: Any) -> CivitaiSource:
    fast = {"requests_per_s": 1000, "retries": 2, "timeout_s": 2, "page_size": 3}
    return CivitaiSource(base_url=site.url, **{**fast, **params})


def read(site: Site, cursor: str | None = None, **params: Any) -> list[Page]:
    return list(pages(source(site, **params), cursor))


def prompts(found: Iterable[Page]) -> list[str | None]:
    return [record.prompt for page in found for record in page.records]


def queries(site: Site, path: str = "/api/v1/images") -> Iterator[dict[str, list[str]]]:
    for request in site.api_requests:
        if urlsplit(request).path == path:
            yield parse_qs(urlsplit(request).query)


# Items


def test_an_item_becomes_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {
        "id": 1329102,
        "url": URL,
        "hash": "UAGb",
        "nsfw": False,
        "nsfwLevel": "None",
        "browsingLevel": 1,
        "type": "image",
        "createdAt": "2026-01-02T03:04:05.000Z",
        "postId": 77,
        "username": "somebody",
        "baseModel": "SD 1.5",
        "meta": {"prompt": "a cat", "negativePrompt": "a dog", "seed": 1, "Model": "catMix"},
    }
    record = parsed(monkeypatch, item)
    assert (record.key, record.source_id, record.url) == ("1329102", "1329102", URL)
    assert (record.prompt, record.negative_prompt) == ("a cat", "a dog")
    assert (record.author, record.model, record.nsfw_level) == ("somebody", "catMix", "none")
    assert record.page_url == "https://civitai.com/images/1329102"
    assert record.created_at == "2026-01-02T03:04:05.000Z"
    assert record.settings == {
        "seed": 1,
        "Model": "catMix",
        "baseModel": "SD 1.5",
        "postId": 77,
        "blurhash": "UAGb",
    }


@pytest.mark.parametrize(
    ("meta", "prompt"),
    [
        ({"prompt": "a cat"}, "a cat"),
        ({"id": 5, "meta": {"prompt": "a cat"}}, "a cat"),
        ({"id": 5, "meta": None}, None),
        ({"prompt": None}, None),
        ({"prompt": ""}, ""),
        ({"prompt": 42}, "42"),
        ({"prompt": ["a", "cat"]}, None),
        ({}, None),
        (None, None),
        ("words", None),
        ([], None),
    ],
)
def test_meta_may_be_flat_nested_null_or_odd(
    monkeypatch: pytest.MonkeyPatch, meta: object, prompt: str | None
) -> None:
    record = parsed(monkeypatch, {"id": 5, "url": URL, "meta": meta})
    assert record.prompt == prompt
    assert not {"prompt", "negativePrompt", "meta"} & set(record.settings)


def test_settings_may_be_numbers_or_strings(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = {"seed": "123", "cfgScale": 7, "steps": 20.5, "resources": [{"name": "x"}]}
    assert parsed(monkeypatch, {"id": 5, "meta": meta}).settings == meta


@pytest.mark.parametrize(
    ("item", "key"),
    [
        ({"id": 5, "url": URL}, "5"),
        ({"url": URL}, UUID),
        ({"id": None, "url": URL.replace(UUID, UUID.upper())}, UUID),
        ({"url": URL.replace("width=450", "original=true")}, UUID),
        ({"id": 0, "url": None}, "0"),
        ({"id": "abc"}, "abc"),
        ({"url": "https://image.civitai.com/x/5.jpeg"}, "https://image.civitai.com/x/5.jpeg"),
    ],
)
def test_the_key_is_the_id_else_the_uuid_else_the_url(
    monkeypatch: pytest.MonkeyPatch, item: dict[str, Any], key: str
) -> None:
    assert parsed(monkeypatch, item).key == key


def test_items_without_any_name_have_different_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{"meta": {"prompt": "a"}}, {"meta": {"prompt": "b"}}]
    answering(monkeypatch, [{"items": items}])
    (page,) = pages(CivitaiSource(), None)
    assert len({record.key for record in page.records}) == 2


@pytest.mark.parametrize(
    ("meta", "prompt", "missed"),
    [
        ("a red kite\nNegative prompt: blurry\nSteps: 20, Seed: 1", "a red kite", None),
        ('{"prompt": "a red kite"}', "a red kite", None),
        ({"meta": '{"prompt": "a red kite"}'}, "a red kite", None),
        ("nothing that a dialect knows", None, "nothing that a dialect knows"),
        ({"prompt": ["a red kite", "over the barley"]}, None, '["a red kite", "over the barley"]'),
        ({"prompt": {"say": "a red kite over barley"}}, None, '{"say": "a red kite over barley"}'),
        ({"prompt": None, "steps": 20}, None, None),
        ({"prompt": ["a", "b"]}, None, None),
    ],
)
def test_a_prompt_in_another_form_is_read_or_told(
    monkeypatch: pytest.MonkeyPatch, meta: Any, prompt: str | None, missed: str | None
) -> None:
    answering(monkeypatch, [{"items": [{"id": 1, "url": URL, "meta": meta}]}])
    (page,) = pages(CivitaiSource(), None)
    (record,) = page.records
    assert record.prompt == prompt
    assert record.settings.get("not_understood") == (missed and {"meta": missed})


@pytest.mark.parametrize(
    ("item", "level"),
    [
        ({"nsfwLevel": "None"}, "none"),
        ({"nsfwLevel": "Soft", "nsfw": True}, "soft"),
        ({"nsfwLevel": "Mature"}, "mature"),
        ({"nsfwLevel": "X"}, "x"),
        ({"nsfw": "Soft"}, "soft"),
        ({"nsfw": "None"}, "none"),
        ({"nsfw": True}, "x"),
        ({"nsfw": False}, "none"),
        ({"nsfwLevel": 1}, "none"),
        ({"nsfwLevel": 2}, "soft"),
        ({"nsfwLevel": 4}, "mature"),
        ({"nsfwLevel": 8}, "x"),
        ({"nsfwLevel": 16}, "x"),
        ({"nsfwLevel": 32}, "x"),
        ({"nsfwLevel": 3}, "soft"),
        ({"browsingLevel": 4}, "mature"),
        ({"nsfw": True, "browsingLevel": 2}, "soft"),
        ({"nsfwLevel": None, "nsfw": False, "browsingLevel": 8}, "x"),
        ({"nsfw": False, "browsingLevel": "4"}, "mature"),
        ({"nsfw": False, "nsfwLevel": "R"}, "mature"),
        ({"nsfw": "Soft", "browsingLevel": 16}, "x"),
        ({"nsfw": "None", "browsingLevel": -1}, "none"),
        ({"nsfwLevel": "Blocked"}, None),
        ({}, None),
    ],
)
def test_levels_come_as_words_bools_and_bits(item: dict[str, Any], level: str | None) -> None:
    assert nsfw_level(item) == level


@pytest.mark.parametrize(
    "item",
    [
        {"type": "video"},
        {"type": "audio"},
        {"url": "https://image.civitai.com/x/5.mp4"},
        {"url": "https://image.civitai.com/x/5.WEBM?x=1"},
        {"url": "https://image.civitai.com/x/5.mp4", "type": "image"},
    ],
)
def test_what_is_no_image_is_left_out(
    monkeypatch: pytest.MonkeyPatch, item: dict[str, Any]
) -> None:
    answering(monkeypatch, [{"items": [{"id": 1, **item}, {"id": 2, "type": "image"}, "?", None]}])
    (page,) = pages(CivitaiSource(), None)
    assert [record.source_id for record in page.records] == ["2"]


@pytest.mark.parametrize(
    ("width", "url", "becomes"),
    [
        (None, URL, URL),
        (1024, URL, URL.replace("width=450", "width=1024")),
        ("original", URL, URL.replace("width=450", "original=true")),
        (450, URL.replace("width=450", "original=true"), URL),
        (512, "https://image.civitai.com/x/5.jpeg", "https://image.civitai.com/x/5.jpeg"),
        (
            512,
            "https://cdn.example.org/width=450/5.jpeg",
            "https://cdn.example.org/width=450/5.jpeg",
        ),
        (512, "https://notcivitai.com/width=450/5.jpeg", "https://notcivitai.com/width=450/5.jpeg"),
        (512, "https://x.org/?civitai.com/width=450/", "https://x.org/?civitai.com/width=450/"),
        (512, "http://[broken/width=450/5.jpeg", "http://[broken/width=450/5.jpeg"),
        (512, None, None),
    ],
)
def test_the_width_is_asked_of_civitais_image_server_alone(
    monkeypatch: pytest.MonkeyPatch, width: Any, url: str | None, becomes: str | None
) -> None:
    assert parsed(monkeypatch, {"id": 1, "url": url}, image_width=width).url == becomes


@pytest.mark.parametrize(
    "answer", [{}, {"items": None}, {"items": {}}, {"items": "x"}, {"error": "no"}]
)
def test_an_answer_without_items_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]
) -> None:
    answering(monkeypatch, [answer])
    with pytest.raises(SourceError, match=r"^https://civitai\.com: .*items$"):
        list(pages(CivitaiSource(), None))


def test_nul_bytes_lone_surrogates_and_a_megabyte_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    odd = ["\0" * 3, "a\ud800b", "x" * 1_000_000, "🐙"]
    items = [{"url": f"https://x.org/{n}\ud800", "meta": {"prompt": p}} for n, p in enumerate(odd)]
    answering(
        monkeypatch,
        [
            {"items": items, "metadata": {"nextCursor": "n\ud800"}},
            {"items": [{"id": 9, "meta": {"prompt": "end"}}]},
        ],
    )
    assert prompts(pages(CivitaiSource(), None)) == [*odd, "end"]


# Models


def test_models_of_2023_carry_their_prompts(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {
        "id": 7,
        "name": "catMix",
        "creator": {"username": "maker"},
        "allowCommercialUse": "Sell",
        "allowNoCredit": True,
        "allowDerivatives": False,
        "modelVersions": [
            {
                "id": 70,
                "baseModel": "SD 1.5",
                "images": [{"id": 1, "url": URL, "nsfw": "Soft", "meta": {"prompt": "a cat"}}],
            }
        ],
    }
    asked = answering(monkeypatch, [{"items": [model]}])
    (page,) = pages(CivitaiSource(endpoint="models"), None)
    (record,) = page.records
    assert (record.prompt, record.author, record.model) == ("a cat", "maker", "catMix")
    assert record.nsfw_level == "soft"
    assert record.licence == (
        'Civitai allowCommercialUse="Sell" allowNoCredit=true allowDerivatives=false'
    )
    assert (record.settings["modelId"], record.settings["modelVersionId"]) == (7, 70)
    assert [path for path, _ in asked] == ["models"]


def test_a_licence_of_2026_is_a_list_of_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    model = {
        "id": 7,
        "allowCommercialUse": ["Image", "Sell"],
        "modelVersions": [{"images": [{"id": 1}]}],
    }
    answering(monkeypatch, [{"items": [model]}])
    (page,) = pages(CivitaiSource(endpoint="models"), None)
    assert page.records[0].licence == 'Civitai allowCommercialUse=["Image","Sell"]'


def test_prompts_left_out_of_models_are_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [{"id": 1, "hasMeta": True}, {"id": 2, "hasMeta": False}, {"id": 3, "hasMeta": True}]
    model = {"id": 7, "modelVersions": [{"id": 70, "images": images}]}
    asked = answering(
        monkeypatch,
        [
            {"items": [model]},
            {"items": [{"id": 1, "meta": {"prompt": "a"}}], "metadata": {"nextCursor": 5}},
            {"items": [{"id": 3, "meta": {"id": 3, "meta": {"prompt": "c"}}}]},
        ],
    )
    assert prompts(pages(CivitaiSource(endpoint="models"), None)) == ["a", None, "c"]
    look_ups = [query for path, query in asked if path == "images"]
    assert all((q["modelId"], q["modelVersionId"]) == ("7", "70") for q in look_ups)
    assert [query["withMeta"] for query in look_ups] == ["true", "true"]
    assert [query.get("cursor") for query in look_ups] == [None, "5"]


def test_a_look_up_that_fails_costs_its_prompts_and_no_images(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = {"id": 7, "modelVersions": [{"id": 70, "images": [{"id": 1, "hasMeta": True}]}]}
    answering(monkeypatch, [{"items": [model]}, SourceError("no answer")])
    assert prompts(pages(CivitaiSource(endpoint="models"), None)) == [None]
    assert "prompts of model 7: no answer" in caplog.text


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"modelVersions": None},
        {"modelVersions": [None, {}, {"images": None}, {"images": [None]}]},
        {"creator": None, "modelVersions": "x"},
    ],
)
def test_a_model_without_images_gives_none(
    monkeypatch: pytest.MonkeyPatch, model: dict[str, Any]
) -> None:
    answering(monkeypatch, [{"items": [model]}])
    assert prompts(pages(CivitaiSource(endpoint="models"), None)) == []


@pytest.mark.parametrize("shape", ["2023", "2026"])
@pytest.mark.parametrize("page_size", [1, 2, 100])
def test_every_image_of_every_model_comes_once_with_its_prompt(shape: Any, page_size: int) -> None:
    pictures = [picture(n, model_id=n // 3, version_id=n // 2) for n in range(10)]
    with Site(pictures, models_shape=shape) as site:
        found = read(site, endpoint="models", page_size=page_size)
    assert sorted(prompts(found)) == sorted(p.prompt or "" for p in pictures)
    assert len(found) == {1: 4, 2: 2, 100: 1}[page_size]


def test_a_real_answer_of_2023_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    if not REAL.exists():
        pytest.skip("the recorded answer is not part of the repository")
    answer = json.loads(REAL.read_text(encoding="utf-8"))
    listed = [i for m in answer["items"] for v in m["modelVersions"] for i in v["images"]]
    assert [len(listed), sum(item["type"] == "video" for item in listed)] == [539, 2]
    answering(monkeypatch, [{**answer, "metadata": {}}])
    (page,) = pages(CivitaiSource(endpoint="models"), None)
    assert len(page.records) == 537
    assert sum(record.prompt is not None for record in page.records) == 495
    assert len({record.key for record in page.records}) == 537
    assert all(record.url and record.licence and record.author for record in page.records)
    assert {record.nsfw_level for record in page.records} <= {"none", "soft", "mature", "x"}


# Paging


@pytest.mark.parametrize("numeric", [True, False])
@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("page_size", [1, 3, 200])
def test_every_image_comes_once_in_order(numeric: bool, repeats: bool, page_size: int) -> None:
    pictures = [picture(n) for n in range(8)]
    with Site(pictures, numeric_cursor=numeric, repeat_cursor_item=repeats) as site:
        found = read(site, page_size=page_size)
    assert prompts(found) == [p.prompt for p in pictures]


@pytest.mark.parametrize("meta_shape", ["flat", "nested"])
def test_meta_is_asked_for_on_every_page(meta_shape: Any) -> None:
    with Site([picture(n) for n in range(8)], meta_shape=meta_shape) as site:
        assert None not in prompts(read(site))
        assert len(site.api_requests) > 2
        assert [query["withMeta"] for query in queries(site)] == [["true"]] * len(site.api_requests)


@pytest.mark.parametrize(
    ("options", "params"),
    [
        ({}, {}),
        ({"numeric_cursor": True}, {}),
        ({"repeat_cursor_item": False}, {}),
        ({"models_shape": "2023"}, {"endpoint": "models", "page_size": 1}),
        ({"models_shape": "2026"}, {"endpoint": "models", "page_size": 1}),
    ],
)
def test_reading_from_the_cursor_of_any_page_gives_that_page_and_the_rest(
    options: dict[str, Any], params: dict[str, Any]
) -> None:
    with Site([picture(n, model_id=n // 2) for n in range(8)], **options) as site:
        whole = read(site, **params)
        assert len(whole) > 2
        assert whole[0].cursor is None
        for at, page in enumerate(whole):
            assert read(site, page.cursor, **params) == whole[at:]


def test_a_page_that_only_repeats_does_not_end_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(
        monkeypatch,
        [
            {"items": [{"id": 1}], "metadata": {"nextCursor": "a"}},
            {"items": [{"id": 1}], "metadata": {"nextCursor": "b"}},
            {"items": [{"id": 1}, {"id": 2}], "metadata": {}},
        ],
    )
    found = list(pages(CivitaiSource(), None))
    assert [[record.key for record in page.records] for page in found] == [["1"], [], ["2"]]


def test_cursors_that_go_in_a_circle_end_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(
        monkeypatch,
        [{"items": [{"id": n}], "metadata": {"nextCursor": c}} for n, c in enumerate("aba")],
    )
    assert len(list(pages(CivitaiSource(), None))) == 3


def test_the_next_link_is_read_for_its_cursor_and_never_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = "https://evil.example/api/v1/images?cursor=9%7C1&limit=1&token=x"
    asked = answering(monkeypatch, [{"items": [], "metadata": {"nextPage": link}}, {"items": []}])
    list(pages(CivitaiSource(limit=5, sort="Newest"), None))
    path, query = asked[1]
    assert path == "images"
    wanted = {"limit": "5", "sort": "Newest", "withMeta": "true", "type": "image"}
    assert query == {**wanted, "cursor": "9|1"}


@pytest.mark.parametrize("metadata", [None, {}, [], {"nextCursor": None}, {"nextPage": "??"}])
def test_no_cursor_means_the_last_page(monkeypatch: pytest.MonkeyPatch, metadata: object) -> None:
    answering(monkeypatch, [{"items": [{"id": 1}], "metadata": metadata}])
    assert len(list(pages(CivitaiSource(), None))) == 1


def test_filters_are_sent_under_the_names_of_each_endpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answering(monkeypatch, [{"items": []}, {"items": []}])
    chosen = {"nsfw": "None", "period": "Week", "model_id": 7, "page_size": 150}
    chosen |= {"browsing_level": 3, "base_models": ["SDXL 1.0", "Flux.1 D"]}
    for endpoint, tag in (("images", "5169,7"), ("models", "cat")):
        list(pages(CivitaiSource(endpoint=endpoint, tag=tag, **chosen), None))
    shared = {"nsfw": "None", "period": "Week", "baseModels": "SDXL 1.0,Flux.1 D"}
    more = {"limit": "150", "modelId": "7", "tags": "5169,7", "withMeta": "true"}
    more |= {"browsingLevel": "3", "type": "image"}
    assert asked[0] == ("images", {**shared, **more})
    assert asked[1] == ("models", {**shared, "limit": "100", "ids": "7", "tag": "cat"})


def test_the_name_of_a_tag_is_refused_where_only_numbers_work() -> None:
    with pytest.raises(ValidationError, match=r"'cat': images are chosen by the number of a tag"):
        CivitaiSource(tag="cat")
    assert CivitaiSource(tag="cat", endpoint="models").tag == "cat"


@pytest.mark.parametrize(
    ("base_url", "level", "page_url"),
    [
        ("https://civitai.com", "None", "https://civitai.com/images/5"),
        ("https://civitai.com", "Soft", "https://civitai.com/images/5"),
        ("https://civitai.com", "Mature", "https://civitai.red/images/5"),
        ("https://civitai.com/api/v1", "X", "https://civitai.red/images/5"),
        ("https://civitai.red", "None", "https://civitai.red/images/5"),
        ("https://mirror.example", "X", "https://mirror.example/images/5"),
    ],
)
def test_the_page_of_an_image_is_on_the_site_that_shows_its_rating(
    monkeypatch: pytest.MonkeyPatch, base_url: str, level: str, page_url: str
) -> None:
    item = {"id": 5, "url": URL, "nsfwLevel": level}
    assert parsed(monkeypatch, item, base_url=base_url).page_url == page_url


def test_images_without_meta_are_told_with_their_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bare, whole = {"id": 1, "meta": None}, {"id": 2, "meta": {"prompt": "a cat"}}
    video = {"id": 3, "type": "video"}
    answering(monkeypatch, [{"items": [bare, whole, video]}])
    assert len(next(iter(pages(CivitaiSource(), None))).records) == 2
    assert "gave 1 of 2 images without meta" in caplog.text


def listing(items: int, first: int) -> dict[str, Any]:
    """A full page of items, and the cursor of the next."""
    return {
        "items": [{"id": first + number, "meta": {"prompt": "p"}} for number in range(items)],
        "metadata": {"nextCursor": f"feed:{first + items}"},
    }


@pytest.mark.parametrize("end", [{"items": []}, RefusedError("HTTP 400", 400)])
def test_the_end_that_the_api_puts_to_a_list_is_told_with_the_way_round(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: Any
) -> None:
    start = "cursor=feed%3A1&after=1&listed=49800"
    answering(monkeypatch, [listing(200, 2), end])
    list(pages(CivitaiSource(page_size=200), start))
    assert "after 50000" in caplog.text and "another period, sort, model_id" in caplog.text


def test_the_end_of_a_short_list_is_none_of_the_apis(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answering(monkeypatch, [listing(200, 1), {"items": []}])
    list(pages(CivitaiSource(page_size=200), None))
    assert not caplog.text


def test_a_cursor_that_has_expired_begins_the_list_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked = answering(monkeypatch, [RefusedError("HTTP 400", 400), {"items": [{"id": 1}]}])
    (page,) = pages(CivitaiSource(), "cursor=feed%3A1&after=1&listed=200")
    assert page.cursor is None and len(page.records) == 1
    assert "cursor" in asked[0][1] and "cursor" not in asked[1][1]
    assert "begins again" in caplog.text


def test_a_query_that_is_refused_is_no_expired_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, [RefusedError("HTTP 400", 400)])
    with pytest.raises(RefusedError):
        list(pages(CivitaiSource(), None))


# Bad days


@pytest.mark.parametrize(
    "fault", ["429", "500", "502", "503", "524", "html_200", "malformed_json", "not_an_object"]
)
def test_an_api_that_fails_once_is_asked_again(fault: str, waits: list[float]) -> None:
    with Site([picture(n) for n in range(5)], api_faults={1: fault}) as site:
        assert prompts(read(site)) == [f"p{n}" for n in range(5)]
        assert len(site.api_requests) == 3
    assert max(waits) <= 2


@pytest.mark.parametrize("fault", ["reset", "stall"])
def test_a_connection_that_breaks_once_is_made_again(fault: str, waits: list[float]) -> None:
    with Site([picture(n) for n in range(5)], api_faults={1: fault}) as site:
        assert prompts(read(site, timeout_s=0.3)) == [f"p{n}" for n in range(5)]


def test_retry_after_is_waited_for(waits: list[float]) -> None:
    with Site([picture(1)], api_faults={0: "429"}) as site:
        read(site)
    assert 1 in waits


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("429", "HTTP 429: too many requests; lower requests_per_s"),
        ("500", "HTTP 500: the site is failing; try again later"),
        ("403_html", "HTTP 403: access refused"),
        ("html_200", "answers an HTML page"),
        ("malformed_json", "answers broken JSON"),
        ("not_an_object", "answers with a JSON list instead of an object"),
        ("items_missing", "the answer has no list of items"),
        ("reset", "no answer"),
        ("stall", "no answer"),
    ],
)
def test_an_api_that_keeps_failing_is_an_error_of_one_line_after_the_pages_it_gave(
    fault: str, says: str, waits: list[float]
) -> None:
    faults = dict.fromkeys(range(1, 20), fault)
    with Site([picture(n) for n in range(5)], api_faults=faults) as site:
        reading = pages(source(site, timeout_s=0.2), None)
        assert prompts([next(reading)]) == ["p0", "p1", "p2"]
        with pytest.raises(SourceError, match=says) as caught:
            next(reading)
        assert str(caught.value).startswith(site.url)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200
        assert len(site.api_requests) <= 4


def test_a_server_that_is_not_there_is_an_error_of_one_line(waits: list[float]) -> None:
    with Site([]) as site:
        pass
    with pytest.raises(SourceError, match=r"no answer .*is the address right") as caught:
        read(site, retries=1)
    assert "\n" not in str(caught.value)


def test_an_answer_that_breaks_off_once_is_asked_for_again(waits: list[float]) -> None:
    import socket
    import threading

    body = b'{"items": [{"id": 1}]}'
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for sent in (body[:9], body):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65_536)
                    connection.sendall(head + sent)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        server.settimeout(2)
        base_url = f"http://127.0.0.1:{server.getsockname()[1]}"
        fast = {"requests_per_s": 1000, "retries": 2, "timeout_s": 1}
        found = list(pages(CivitaiSource(base_url=base_url, **fast), None))
    assert [record.key for record in found[0].records] == ["1"]


def test_requests_keep_to_the_asked_rate(waits: list[float]) -> None:
    with Site([picture(n) for n in range(7)], repeat_cursor_item=False) as site:
        read(site, requests_per_s=0.01)
    assert [wait > 90 for wait in waits] == [False, True, True]


# Address and key


@pytest.mark.parametrize(
    "tail", ["", "/", "/api/v1", "/api/v1/"], ids=["bare", "slash", "path", "path and slash"]
)
def test_the_base_url_may_name_the_api_or_leave_it_out(tail: str) -> None:
    with Site([picture(1)]) as site:
        made = source(site)
        changed = CivitaiSource(**{**made.model_dump(), "base_url": site.url + tail})
        assert changed.base_url == site.url
        assert prompts(pages(changed, None)) == ["p1"]


@pytest.mark.parametrize(
    "url",
    ["https://user:secret@civitai.com", "https://secret@civitai.com", "https://:secret@x.org"],
)
def test_a_base_url_may_not_hold_a_secret(url: str) -> None:
    with pytest.raises(ValidationError, match=f"put it into {TOKEN_VARIABLE}"):
        CivitaiSource(base_url=url)


@pytest.mark.parametrize("url", ["ftp://civitai.com", "civitai.com", "file:///x", "https://", ""])
def test_a_base_url_is_an_http_address(url: str) -> None:
    with pytest.raises(ValidationError, match="http or https url"):
        CivitaiSource(base_url=url)


class Headers:
    """A loopback API that notes the headers it gets and may redirect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import requests

        self.sent: list[tuple[str, str | None]] = []
        send = requests.Session.send

        def noting(session: Any, request: Any, **options: Any) -> Any:
            self.sent.append((request.url, request.headers.get("Authorization")))
            return send(session, request, **options)

        monkeypatch.setattr(requests.Session, "send", noting)


def test_the_key_comes_from_the_environment_and_goes_into_the_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    headers = Headers(monkeypatch)
    with Site([picture(1)]) as site:
        read(site)
        assert headers.sent == [(f"{site.url}{site.api_requests[0]}", "Bearer s3cret")]
        assert "s3cret" not in "".join(site.api_requests)


@pytest.mark.parametrize("token", ["…", "a\nb"])
def test_a_placeholder_in_the_place_of_the_key_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with (
        Site([picture(1)]) as site,
        pytest.raises(SourceError, match=f"^{TOKEN_VARIABLE}: not an API key; .*unset it$"),
    ):
        read(site)


def test_no_key_means_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = Headers(monkeypatch)
    with Site([picture(1)]) as site:
        read(site)
    assert [token for _, token in headers.sent] == [None]


def test_a_redirect_to_another_host_is_refused_and_gets_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    headers = Headers(monkeypatch)
    with Site([picture(1)], api_faults={0: "redirect_other_host"}) as site:
        with pytest.raises(
            SourceError, match=r"redirects to http://localhost:.*set base_url"
        ) as caught:
            read(site)
        assert len(site.api_requests) == 1
    assert all(url.startswith(site.url) for url, _ in headers.sent)
    assert "s3cret" not in str(caught.value)


def test_the_key_is_not_in_any_error(monkeypatch: pytest.MonkeyPatch, waits: list[float]) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "s3cret")
    for fault in ("403_html", "500", "html_200"):
        with Site([], api_faults=dict.fromkeys(range(9), fault)) as site:
            with pytest.raises(SourceError) as caught:
                read(site)
            assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("location", ["http://[", "http://127.0.0.1:no/", "http://a:70000/"])
def test_a_redirect_to_what_is_no_url_is_one_line(
    monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    import requests

    def redirect(session: Any, method: str, url: str, **_: Any) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.url = 302, url
        answer.headers["Location"], answer.raw = location, io.BytesIO()
        return answer

    monkeypatch.setattr(requests.Session, "request", redirect)
    with pytest.raises(SourceError, match="which is no url"):
        list(pages(CivitaiSource(base_url="http://127.0.0.1:1"), None))


def test_a_cursor_that_is_no_unicode_is_asked_for_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import requests

    asked: list[str] = []

    def say(session: Any, method: str, url: str, params: str, **_: Any) -> requests.Response:
        asked.append(requests.Request(method, url, params=params).prepare().url or "")
        answer = requests.Response()
        answer.status_code, answer.url = 200, url
        answer.raw = io.BytesIO(b'{"items": [], "metadata": {"nextCursor": "\\ud800"}}')
        return answer

    monkeypatch.setattr(requests.Session, "request", say)
    source = CivitaiSource(base_url="http://127.0.0.1:1", requests_per_s=1000)
    assert len(list(pages(source, None))) == 2
    assert asked[1].endswith("&cursor=%3F")


def test_redirects_in_circles_end(monkeypatch: pytest.MonkeyPatch) -> None:
    import requests

    def circle(session: Any, method: str, url: str, **_: Any) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.url = 302, url
        answer.headers["Location"], answer.raw = "/again", io.BytesIO()
        return answer

    monkeypatch.setattr(requests.Session, "request", circle)
    ask = open_api(
        "http://127.0.0.1:1/api/v1",
        token=None,
        contact=None,
        requests_per_s=1000,
        retries=0,
        timeout_s=1,
    )
    with pytest.raises(SourceError, match="redirects in a circle"):
        ask("images", {})


def test_a_prompt_that_only_comfyuis_graph_holds_is_read_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "catMix"}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a cat", "clip": ["1", 1]}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "a dog", "clip": ["1", 1]}},
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "seed": 1,
                "steps": 2,
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
            },
        },
    }
    for comfy in (json.dumps({"prompt": graph}), {"prompt": json.dumps(graph)}):
        for meta in ({"comfy": comfy}, {"id": 5, "meta": {"comfy": comfy, "prompt": ""}}):
            record = parsed(monkeypatch, {"id": 5, "url": URL, "meta": meta})
            assert (record.prompt, record.negative_prompt) == ("a cat", "a dog")
            assert record.model == "catMix"
