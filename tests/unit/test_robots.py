"""What robots.txt allows."""

from __future__ import annotations

import pytest

from surd.errors import SourceError
from surd.net.http_api import RefusedError, read_robots
from surd.net.robots import Robots, allows, opts_out, parse


@pytest.mark.parametrize(
    ("text", "path", "allowed"),
    [
        ("", "/prompts/a", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: *\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow: /private", "/private/a", False),
        ("User-agent: *\nDisallow: /private", "/prompts", True),
        ("User-agent: *\nDisallow: /p\nAllow: /prompts", "/prompts/a", True),
        ("User-agent: *\nAllow: /prompts\nDisallow: /prompts", "/prompts", True),
        ("User-agent: *\nDisallow: /*?page=", "/prompts/a?page=2", False),
        ("User-agent: *\nDisallow: /*?page=", "/prompts/a", True),
        ("User-agent: *\nDisallow: /*.php$", "/a.php", False),
        ("User-agent: *\nDisallow: /*.php$", "/a.php5", True),
        ("User-agent: *\nDisallow: /a$", "/a", False),
        ("User-agent: *\nDisallow: /a$", "/ab", True),
        ("User-agent: *\nDisallow: /a*b*c", "/a1b2c3", False),
        ("User-agent: *\nDisallow: /a*b*c", "/a1c2b3", True),
        ("User-agent: *\nDisallow: /%61bc", "/abc", False),
        ("User-agent: other\nDisallow: /", "/a", True),
        ("User-agent: surd\nDisallow: /\n\nUser-agent: *\nAllow: /", "/a", False),
        ("User-agent: SURD/2.0\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow: /\n\nUser-agent: surd\nDisallow: /b", "/a", True),
        ("User-agent: a\nUser-agent: *\nDisallow: /a", "/a", False),
        ("User-agent: *\nDisallow: /a\nUser-agent: *\nDisallow: /b", "/b", False),
        ("\ufeffuser-agent : * # all\ndisallow : /a # this", "/a", False),
        ("Disallow: /", "/a", True),
        ("<html>no robots here: <b>at all</b>", "/a", True),
    ],
)
def test_the_longest_rule_of_the_right_group_decides(text: str, path: str, allowed: bool) -> None:
    assert allows(parse(text), path) is allowed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2), ("0.5", 0.5), ("1000000", 60), ("nan", 0), ("-3", 0), ("soon", 0), ("inf", 0)],
)
def test_a_crawl_delay_is_kept_within_reason(text: str, seconds: float) -> None:
    assert parse(f"User-agent: *\nCrawl-delay: {text}").delay_s == seconds


def test_many_stars_take_no_time() -> None:
    rules = "User-agent: *\nDisallow: /" + "*a" * 5000 + "b"
    assert allows(parse(rules), "/" + "a" * 5000)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_site_without_rules_allows_everything(status: int) -> None:
    def ask(path: str, query: object) -> str:
        raise RefusedError("refused", status)

    assert read_robots(ask) == Robots()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_site_that_cannot_tell_its_rules_is_not_asked(status: int) -> None:
    def ask(path: str, query: object) -> str:
        assert path == "robots.txt"
        raise RefusedError("refused", status)

    with pytest.raises(SourceError, match="refused"):
        read_robots(ask)


@pytest.mark.parametrize(
    ("text", "path", "opted_out"),
    [
        ("User-agent: *\nContent-Usage: train-ai=n", "/a", True),
        ("User-agent: *\nAllow: /\nContent-Usage: train-ai=n", "/a", True),
        ("User-agent: *\nContent-Usage: search=y, train-ai=n", "/a", True),
        ("User-agent: *\nContent-Usage: train-ai=y", "/a", False),
        ("User-agent: *\nContent-Usage: search=n", "/a", False),
        ("User-agent: *\nContent-Usage: /art/ train-ai=n", "/art/a", True),
        ("User-agent: *\nContent-Usage: /art/ train-ai=n", "/b", False),
        (
            "User-agent: *\nContent-Usage: train-ai=n\nContent-Usage: /free/ train-ai=y",
            "/free/a",
            False,
        ),
        ("User-agent: *\nContent-Usage: train-ai=y\nContent-Usage: train-ai=n", "/a", True),
        ("User-agent: *\nContent-Usage: bots=n", "/a", True),
        ("User-agent: *\nContent-Usage: bots=n\nContent-Usage: /a train-ai=y", "/a", False),
        ("User-agent: surd\n\nUser-agent: other\nContent-Usage: train-ai=n", "/a", True),
        ("User-agent: surd\nContent-Usage: train-ai=n", "/a", True),
        ("User-agent: other\nContent-Usage: train-ai=n", "/a", False),
        (
            "User-agent: a\nDisallow: /x\n\nUser-agent: b\nContent-Usage: train-ai=n"
            "\n\nUser-agent: surd\nDisallow: /y",
            "/a",
            False,
        ),
        ("Content-Usage: train-ai=n", "/a", True),
        ("User-agent: *\nContent-Signal: search=yes,ai-train=no\nAllow: /", "/a", True),
        ("User-agent: *\nContent-Signal: search=yes,ai-train=yes\nAllow: /", "/a", False),
        ("User-agent: *\nDisallow: /", "/a", False),
    ],
)
def test_usage_preferences_in_robots_txt_opt_out_by_group_and_path(
    text: str, path: str, opted_out: bool
) -> None:
    assert opts_out(parse(text), path) is opted_out
