"""Addresses of the gallery: what they mean, and that nothing else gets through."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from surd.view.query import Query, QueryError, parse

ID = "0123456789abcdef0123456789abcdef"


def test_a_query_survives_its_own_address() -> None:
    found = ("a&b=c", "red, cup", "two cups", ID, "1.2.3.4.50.60")
    query = Query("dropped", "min_side", "folder", *found, "cos_simple", "up", 3)
    assert parse(parse_qsl(urlsplit(query.url(page=3)).query)) == query
    assert Query().url() == "/"


def test_another_filter_leads_back_to_the_first_page() -> None:
    assert Query(words="cup", page=4).url(show="kept") == "/?show=kept&words=cup"


@pytest.mark.parametrize(
    "address",
    [
        *("page=abc", "page=0", "page=-1", "page=1e9", "page=٣", f"page={'9' * 20}", "page=1.0"),
        *("show=secret", "reason=<script>", "sort=__class__", "order=sideways", "tab=kept"),
        *("like=../../etc/passwd", "like=0123", "lasso=1.2.3.4.5.6.", "page=1&page=2"),
        *(f"{name}={'a' * 1_001}" for name in ("words", "tag", "text", "source")),
    ],
)
def test_what_the_gallery_does_not_know_is_refused_by_name(address: str) -> None:
    name = address.partition("=")[0]
    with pytest.raises(QueryError, match=f"^{name}: ") as refused:
        parse(parse_qsl(address))
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("address", "query"),
    [
        ("show=&reason=&sort=&page=&words=+&like=&lasso=", Query()),
        ("page=1&page=1&words=+cup+&sort=collected", Query(words="cup")),
        ("page=02", Query(page=2)),
    ],
)
def test_addresses_that_earlier_pages_led_to_stay_good(address: str, query: Query) -> None:
    assert parse(parse_qsl(address, keep_blank_values=True)) == query
