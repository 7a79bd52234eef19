"""Addresses of the gallery: what they mean, and that nothing else gets through."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from surd.view.query import Query, misread, parse

ID = "0123456789abcdef0123456789abcdef"


def test_a_query_survives_its_own_address() -> None:
    found = ("a&b=c", "red, cup", "two cups", ID, "1.2.3.4.50.60")
    query = Query("dropped", "min_side", "folder", *found, "cos_simple", "up", 3)
    assert parse(dict(parse_qsl(urlsplit(query.url(page=3)).query))) == query
    assert Query().url() == "/"


def test_another_filter_leads_back_to_the_first_page() -> None:
    assert Query(words="cup", page=4).url(show="kept") == "/?show=kept&words=cup"


def test_what_the_gallery_does_not_know_is_left_out() -> None:
    asked = {
        "show": "secret",
        "reason": "<script>",
        "sort": "__class__",
        "order": "sideways",
        "like": "../../etc/passwd",
        "page": "-1",
        "nonsense": "1",
    }
    assert parse(asked) == Query()
    for page in ("x", "", "1e9", "٣", "9" * 30):
        assert parse({"page": page}).page == 1


def test_a_filter_that_is_not_taken_as_it_is_is_named() -> None:
    assert misread({"lasso": "1.2.3.4.5.6", "show": "kept", "like": ID, "words": " cup "}) == []
    assert misread({"lasso": "1.2.3.4.5.6.", "show": "secret"}) == ["show", "lasso"]
    assert misread({"like": "0123", "words": "a" * 1_001, "page": "x"}) == ["words", "like"]
