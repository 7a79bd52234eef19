"""What opts out of being used for AI, and what does not."""

from __future__ import annotations

import pytest

from surd.net.opt_outs import meta_opts_out, opt_out

ROBOTS_TAG = [
    ["noai"],
    ["noimageai"],
    ["NoAI"],
    [" noai "],
    ["noml"],
    ["noindex"],
    ["noimageindex"],
    ["none"],
    ["no-ai"],
    ["noindex, noimageai"],
    ["noai, noindex"],
    ["nofollow,noai,noarchive"],
    ["*: noai"],
    ["surd: noimageai"],
    ["SURD: nofollow, noai"],
    ["nofollow", "noai"],
    ["examplebot: noai", "noimageai"],
    ["nofollow, max-snippet: 5, noai"],
    ["max-image-preview: large, noai"],
    ["max-image-preview: none, noai"],
    ["max-snippet: -1, noimageai"],
    ["unavailable_after: 25 Jun 2030 15:00:00 PST, noai"],
    ["nofollow; noai"],
    ["noai;"],
    ['"noai"'],
    ["nofollow noai"],
    ["nofollow, surd: noai"],
    ["googlebot: nofollow, surd: noai"],
    ["googlebot: noindex, *: noai"],
    ["surd/1.0: noai"],
    ["noai=1"],
    ["noai: 1"],
    ["all: noai"],
    ["noai."],
    ["noarchive/noai"],
    ["noarchive: 1, noai"],
    ["index, follow: noai"],
    ["max-snippet:, noai"],
    ["googlebot: nofollow, surd/1.0 : noai"],
    ["nofollow\xa0noai"],
    ["nofollow\udca0noai"],
]
NOT_ROBOTS_TAG = [
    [],
    [""],
    ["all"],
    ["nofollow, noarchive"],
    ["examplebot: noai"],
    ["examplebot: noindex, noai"],
    ["examplebot/2.1: noindex"],
    ["noairplane"],
    ["max-image-preview: large"],
    ["max-image-preview: none"],
    ["unavailable_after: 25 Jun 2030 15:00:00 PST"],
    [":"],
]
OTHERS = [
    ("Content-Usage", "train-ai=n", True),
    ("Content-Usage", "search=y, train-ai=n", True),
    ("Content-Usage", "Train-AI = N", True),
    ("Content-Usage", 'train-ai="n"', True),
    ("Content-Usage", "train-ai=?0", True),
    ("Content-Usage", "train-genai=n", True),
    ("Content-Usage", "train-ai=n;exceptions=none", True),
    ("Content-Usage", "train_ai=n", True),
    ("Content-Usage", "train-ai=disallow", True),
    ("Content-Usage", "train-ai=( n )", True),
    ("Content-Usage", "bots=n", True),
    ("Content-Usage", "all=n, search=y", True),
    ("Content-Usage", "bots=n, train-ai=y", False),
    ("Content-Usage", "bots=y", False),
    ("Content-Usage", "train-ai=y;because=no", False),
    ("Content-Usage", "train-ai=y", False),
    ("Content-Usage", "search=n", False),
    ("Content-Usage", "train-ai=none-yet", False),
    ("Content-Usage", "dont-train-ai=n", False),
    ("Content-Signal", "search=yes,ai-train=no", True),
    ("Content-Signal", "ai-training: no", True),
    ("Content-Signal", "ai-train=yes, search=no", False),
    ("Content-Signal", "ai-input=no", False),
    ("TDM-Reservation", "1", True),
    ("TDM-Reservation", ' "1" ', True),
    ("TDM-Reservation", "true", True),
    ("TDM-Reservation", "0", False),
    ("TDM-Reservation", "", False),
]


def found(name: str, lines: list[str]) -> str | None:
    return opt_out(lambda asked: lines if asked == name else [])


@pytest.mark.parametrize("lines", ROBOTS_TAG)
def test_an_opt_out_in_any_form_is_honoured(lines: list[str]) -> None:
    told = found("X-Robots-Tag", lines)
    assert told is not None and told.startswith("X-Robots-Tag: ")


@pytest.mark.parametrize("lines", NOT_ROBOTS_TAG)
def test_other_tags_and_those_for_other_robots_are_no_opt_out(lines: list[str]) -> None:
    assert found("X-Robots-Tag", lines) is None


@pytest.mark.parametrize(("name", "value", "opts_out"), OTHERS)
def test_usage_preferences_and_reservations_are_read(name: str, value: str, opts_out: bool) -> None:
    assert (found(name, [value]) is not None) is opts_out


def test_a_long_header_of_a_hostile_site_is_told_in_short() -> None:
    assert len(found("X-Robots-Tag", ["x" * 10_000 + " noai"]) or "") < 200


@pytest.mark.parametrize("piece", ["noairplane.", "a/b ", "a:", " ", "max-snippet: ", "train-ai="])
def test_long_headers_are_read_in_linear_time(piece: str) -> None:
    assert found("X-Robots-Tag", [piece * (2**16 // len(piece))]) is None
    assert found("Content-Usage", ["train-ai=" + piece * (2**16 // len(piece))]) is None


@pytest.mark.parametrize(
    ("name", "content", "opts_out"),
    [
        ("robots", "index, noai", True),
        ("ROBOTS", "NOIMAGEAI", True),
        ("surd", "noml", True),
        ("googlebot", "noai", False),
        ("tdm-reservation", "1", True),
        ("tdm-reservation", "0", False),
        ("description", "noai", False),
    ],
)
def test_a_pages_meta_tags_opt_out_as_headers_do(name: str, content: str, opts_out: bool) -> None:
    assert meta_opts_out(name, content) is opts_out
