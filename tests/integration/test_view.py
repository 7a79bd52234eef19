"""surd view over real connections: what it shows, what it writes, and whom it refuses."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import requests
from support_publish import make_workspace, picture, samples
from support_view import BAD, FOREIGN, HOSTILE, id_of, painted, viewing, workspace_with

from surd.errors import SurdError
from surd.store import edits, manual
from surd.store.workspace import Workspace
from surd.view import gallery
from surd.view.nearest import TextEncoder

Surd = Callable[..., Any]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return workspace_with(tmp_path / "w")


@pytest.fixture
def site(workspace: Workspace) -> Iterator[str]:
    with viewing(workspace) as url:
        yield url


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """For tests that change nothing."""
    return workspace_with(tmp_path_factory.mktemp("untouched") / "w")


@pytest.fixture(scope="module")
def shown_site(untouched: Workspace) -> Iterator[str]:
    with viewing(untouched) as url:
        yield url


def get(url: str, **options: Any) -> requests.Response:
    return requests.get(url, timeout=30, **options)


def token_of(site: str) -> str:
    found = re.search(r'name="surd-token" content="([^"]+)"', get(site).text)
    assert found
    return found[1]


def post(site: str, path: str, content: Any, **headers: str) -> requests.Response:
    headers = {"X-Surd-Token": token_of(site)} | headers
    return requests.post(f"{site}{path}", json=content, headers=headers, timeout=60)


def decide(site: str, number: int, decision: str) -> dict[str, Any]:
    answer = post(site, "/decide", {"id": id_of(number), "decision": decision})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def shown(page: str) -> list[int]:
    """Numbers of the samples on a page of the gallery, in order."""
    return [int(id_, 16) for id_ in re.findall(r'<li class="sample" data-id="(\w+)"', page)]


# what it shows -------------------------------------------------------------------------------


def test_the_gallery_shows_filters_and_sorts(shown_site: str) -> None:
    every = [0, 1, 2, 3, 4, 5]
    assert shown(get(shown_site).text) == every
    assert shown(get(f"{shown_site}/?show=kept").text) == [0, 1, 2, 4]
    assert shown(get(f"{shown_site}/?show=dropped").text) == [BAD, FOREIGN]
    assert shown(get(f"{shown_site}/?reason=clip_threshold").text) == [BAD]
    assert shown(get(f"{shown_site}/?source=folder").text) == [FOREIGN]
    assert shown(get(f"{shown_site}/?sort=cos_simple").text) == [4, 2, 1, 0, BAD, FOREIGN]
    assert shown(get(f"{shown_site}/?sort=cos_simple&order=up").text) == [BAD, 0, 1, 2, 4, FOREIGN]
    beyond = get(f"{shown_site}/?page=99").text
    assert shown(beyond) == every and "There is no page 99; this is the last one." in beyond


def test_a_search_by_clip_counts_the_nearest_and_calls_them_so(
    shown_site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PAGE_ROWS", 2)
    page = get(f"{shown_site}/?like={id_of(0)}").text  # without itself, and what has no image
    assert "The 4 nearest images, whether they match or not" in page
    counts = dict(re.findall(r'data-count="(\w+)">(\d+)<', page))
    assert counts == {"all": "4", "kept": "3", "dropped": "1", "hand": "0"}
    assert "All 4 nearest, matches or not</button>" in page
    assert "All 6 found</button>" in get(shown_site).text


def test_words_are_searched_in_both_prompts_whatever_their_case(shown_site: str) -> None:
    assert shown(get(shown_site, params={"words": "<SCRIPT> onerror"}).text) == [FOREIGN]
    assert shown(get(shown_site, params={"words": "onerror nowhere"}).text) == []
    assert shown(get(shown_site, params={"words": "HEART"}).text) == [BAD]


def test_what_is_found_so_far_is_told_and_not_offered_as_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PATIENCE_S", 0.0)
    monkeypatch.setattr(gallery, "PAGE_ROWS", 2)
    rows = samples(9, prompt=lambda n: f"red cup {n}")
    with viewing(make_workspace(tmp_path / "w", [rows[at : at + 3] for at in (0, 3, 6)])) as site:
        page = get(f"{site}/?words=cup&page=3").text
        assert "3 found so far, in 33% of the samples." in page
        assert "There is no page" not in page and 'data-select="found"' not in page
        assert 'href="/?words=cup&amp;page=3">Search on</a>' in page
        assert get(f"{site}/search?words=cup").json() == {"searched": 2 / 3, "found": 6}
        assert get(f"{site}/search?words=cup&show=dropped").json() == {"searched": 1, "found": 0}
        page = get(f"{site}/?words=cup&page=3").text
        assert "9 samples." in page and "All 9 found</button>" in page
        assert get(f"{site}/search?wrods=cup").status_code == 400


def test_a_search_that_clip_cannot_sort_is_not_said_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: TextEncoder, text: str) -> None:
        raise SurdError("the model is missing")

    monkeypatch.setattr(gallery, "PATIENCE_S", 0.0)
    monkeypatch.setattr(TextEncoder, "encode", fail)
    rows = samples(6, prompt=lambda n: f"red cup {n}")
    with viewing(make_workspace(tmp_path / "w", [rows[:3], rows[3:]])) as site:
        page = get(f"{site}/?words=cup&text=a+cup").text
    assert "the model is missing" in page and "found so far" not in page


def test_a_score_that_nobody_has_does_not_sort_in_silence(tmp_path: Path) -> None:
    rows = samples(3, aesthetic=None)
    with viewing(make_workspace(tmp_path / "w", [rows])) as site:
        told = "Not sorted: no sample has the aesthetic score yet."
        assert told in get(f"{site}/?sort=aesthetic").text
        assert "Not sorted" not in get(f"{site}/?sort=cos_simple").text


def test_an_id_leads_to_its_sample(shown_site: str) -> None:
    answer = get(f"{shown_site}/?words={id_of(2)}")
    assert answer.url == f"{shown_site}/sample/{id_of(2)}" and answer.status_code == 200


def test_a_sample_tells_everything(shown_site: str) -> None:
    page = get(f"{shown_site}/sample/{id_of(BAD)}").text
    for told in ("clip_threshold", "cosine(image, simple prompt) is too low", "author 3", "CC BY"):
        assert told in page
    assert f"https://example.org/images/{BAD}" in page


def test_a_duplicate_leads_to_the_one_that_is_kept(tmp_path: Path) -> None:
    like_bad = {"cluster": id_of(BAD), "kind": "clip", "similarity": 0.97}
    changes = {BAD: {"width": 256}, 1: like_bad, 2: like_bad | {"width": 99}}
    with viewing(workspace_with(tmp_path, changes=changes)) as site:
        assert (
            f'href="/sample/{id_of(1)}">The copy of this picture that is kept'
            in get(f"{site}/sample/{id_of(2)}").text
        )
        for number in (BAD, 1):
            assert (
                "The copy of this picture that is kept"
                not in get(f"{site}/sample/{id_of(number)}").text
            )


def test_more_like_this_finds_the_nearest_and_not_itself(shown_site: str) -> None:
    assert shown(get(f"{shown_site}/like/{id_of(0)}").text)[0] == 4
    assert shown(get(f"{shown_site}/?like={id_of(0)}&show=kept").text)[0] == 4
    assert 0 not in shown(get(f"{shown_site}/?like={id_of(0)}").text)
    assert shown(get(f"{shown_site}/like/{id_of(FOREIGN)}").text) == []


def test_pages_of_the_gallery_follow_one_another(
    shown_site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.view.gallery.PAGE_ROWS", 4)
    first = get(shown_site).text
    assert shown(first) == [0, 1, 2, 3] and 'href="/?page=2"' in first
    assert shown(get(f"{shown_site}/?page=2").text) == [4, 5]


def test_without_clip_or_verdicts_there_is_something_to_see_all_the_same(tmp_path: Path) -> None:
    later = ["prompts", "captions", "clip", "duplicates", "verdicts"]
    workspace = workspace_with(tmp_path / "w", without=later)
    with viewing(workspace) as site:
        page = get(site).text
        assert shown(page) == [0, 1, 2, 3, 4, 5] and "not filtered yet" in page
        assert get(f"{site}/sample/{id_of(0)}").status_code == 200
        assert "prompts is missing" in post(site, "/apply", {}).json()["problem"]


def test_a_clip_that_cannot_be_loaded_is_one_line_and_words_are_found_still(
    tmp_path: Path,
) -> None:
    workspace = workspace_with(tmp_path / "w")
    manifest = workspace.read_manifest()
    manifest.recipe["score"]["clip"] = str(tmp_path / "nowhere")
    workspace.write_manifest(manifest)
    with viewing(workspace) as site:
        page = get(f"{site}/?text=a+red+circle")
        assert page.status_code == 200 and "no such folder" in page.text
        assert shown(page.text) == []
        assert shown(get(f"{site}/?words=heart").text) == [BAD]
        assert shown(get(f"{site}/?like={id_of(0)}").text)[0] == 4


def test_a_damaged_part_is_a_line_on_the_page(workspace: Workspace, site: str) -> None:
    Path(workspace.location, "verdicts", "part-00001.parquet").write_bytes(b"no parquet")
    answer = get(site)
    assert answer.status_code == 500 and "damaged" in answer.text
    assert "Traceback" not in answer.text


def test_a_workspace_in_an_object_store_is_shown_and_decided_on() -> None:
    workspace = workspace_with("memory://view")
    with viewing(workspace) as site:
        assert shown(get(site).text) == [0, 1, 2, 3, 4, 5]
        assert get(f"{site}/image/{id_of(1)}").content == painted(1)
        assert decide(site, 1, "drop")["state"] == "dropped"
    assert manual.read(workspace) == {id_of(1): "drop"}


# what it writes ------------------------------------------------------------------------------


def test_a_decision_counts_at_once_and_in_the_dataset_once_it_is_applied(
    surd: Surd, workspace: Workspace, site: str
) -> None:
    assert decide(site, 0, "drop") == {
        "state": "dropped",
        "label": "dropped by hand",
        "hand": "drop",
        "pending": 1,
        "counts": {"all": 6, "kept": 3, "dropped": 3, "hand": 1},
    }
    assert decide(site, BAD, "keep")["label"] == "kept by hand"
    assert shown(get(f"{site}/?show=kept").text) == [1, 2, BAD, 4]
    assert shown(get(f"{site}/?show=hand").text) == [0, BAD]
    assert surd("publish", workspace.location).code == 2
    assert post(site, "/apply", {}).json() == {"pending": 0}
    assert shown(get(f"{site}/?show=kept").text) == [1, 2, BAD, 4]
    assert "clip_threshold" in get(f"{site}/sample/{id_of(BAD)}").text
    assert surd("publish", workspace.location).code == 0
    files = Path(workspace.location, "dataset").glob("*.parquet")
    ids = {id_ for file in files for id_ in pq.read_table(file)["id"].to_pylist()}
    assert ids == {id_of(n) for n in (1, 2, BAD, 4)}


def test_a_decision_is_undone(site: str, workspace: Workspace) -> None:
    decide(site, 0, "drop")
    said = decide(site, 0, "undo")
    assert (said["state"], said["label"], said["hand"], said["pending"]) == ("kept", "kept", "", 0)
    assert manual.read(workspace) == {}


def test_what_has_no_image_stays_dropped_and_says_why(site: str) -> None:
    said = decide(site, FOREIGN, "keep")
    assert said["state"] == "dropped" and said["label"].startswith("dropped: no image")
    page = get(f"{site}/sample/{id_of(FOREIGN)}").text
    assert "No image:" in page
    assert re.search(r'data-decide="keep"[^>]* disabled', page)


def test_decisions_of_somebody_else_are_seen(site: str, workspace: Workspace) -> None:
    manual.decide(workspace, id_of(2), "drop")
    assert shown(get(f"{site}/?show=hand").text) == [2]


def test_a_workspace_that_is_being_written_to_is_a_line_and_the_decision_stays(
    site: str, workspace: Workspace
) -> None:
    with workspace.locked():
        assert decide(site, 0, "drop")["pending"] == 1
        answer = post(site, "/apply", {})
    assert answer.status_code == 409 and "another surd process" in answer.json()["problem"]
    assert manual.read(workspace) == {id_of(0): "drop"}


@pytest.mark.parametrize(
    "content",
    [None, [], "drop", {}, {"id": "0" * 32}, {"id": "0" * 32, "decision": "burn"}],
)
def test_a_write_that_makes_no_sense_is_refused(
    shown_site: str, untouched: Workspace, content: Any
) -> None:
    assert post(shown_site, "/decide", content).status_code == 400
    assert manual.read(untouched) == {}


@pytest.mark.parametrize("id_", ["f" * 32, "../../etc/passwd", "", 7, None, {"a": 1}])
def test_a_sample_that_is_not_there_is_not_decided_on(
    shown_site: str, untouched: Workspace, id_: Any
) -> None:
    answer = post(shown_site, "/decide", {"id": id_, "decision": "drop"})
    assert answer.status_code == 404 and answer.text == "no such sample\n"
    assert manual.read(untouched) == {}


# editing -------------------------------------------------------------------------------------


def edit(site: str, **content: Any) -> dict[str, Any]:
    answer = post(site, "/edit", content)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_prompt_is_edited_seen_at_once_and_undone(site: str, workspace: Workspace) -> None:
    said = edit(site, ids=[id_of(0)], action="simple", words=["a <b>cup</b>"])
    assert said["changed"] == 1 and said["edit"]
    page = get(f"{site}/sample/{id_of(0)}").text
    assert "a &lt;b&gt;cup&lt;/b&gt;" in page and "(edited by hand)" in page
    assert shown(get(f"{site}/?words=cup").text) == [0]
    assert shown(get(f"{site}/?show=hand").text) == [0]
    assert "<b>1</b> decided or edited by hand, not in the verdicts yet" in page
    assert edit(site, action="undo", edit=said["edit"])["changed"] == 1
    page = get(f"{site}/sample/{id_of(0)}").text
    assert "undone by" in page and "(edited by hand)" not in page
    assert re.search(r'id="pending" role="status" hidden', page), "it was never scored"


def test_an_edit_is_applied_with_the_decisions(site: str, workspace: Workspace) -> None:
    edit(site, ids=[id_of(0)], action="simple", words=["two boxes"])
    assert post(site, "/apply", {}).json() == {"pending": 0}
    row = workspace.read("clip", 0).to_pylist()[0]
    assert row["simple_prompt"] == "two boxes" and row["cos_simple"] < 0.9
    edit(site, ids=[id_of(0)], action="undo")
    assert "<b>1</b> decided or edited" in get(site).text
    assert post(site, "/apply", {}).json() == {"pending": 0}
    assert workspace.read("clip", 0).to_pylist()[0]["simple_prompt"] != "two boxes"


def test_many_prompts_are_edited_by_selection_and_by_what_was_found(
    site: str, workspace: Workspace
) -> None:
    ids = [id_of(n) for n in (0, 1, BAD)]
    assert edit(site, ids=ids, action="trigger", words=["sks"])["changed"] == 3
    assert shown(get(f"{site}/?tag=SKS").text) == [0, 1, BAD]
    said = edit(site, found="?tag=sks&show=kept&page=7", action="replace", words=["sks", "sls"])
    assert said["changed"] == 2
    assert shown(get(f"{site}/?tag=sls").text) == [0, 1]
    tags = get(f"{site}/tags").text
    assert re.search(r'href="/\?tag=sls"><bdi>sls</bdi></a></td><td class="number">2', tags)
    assert set(edits.current(workspace)) == set(ids)


def test_many_samples_are_decided_on_at_once(site: str, workspace: Workspace) -> None:
    answer = post(site, "/decide", {"ids": [id_of(0), id_of(BAD)], "decision": "drop"}).json()
    assert [one["hand"] for one in answer["samples"]] == ["drop", "drop"]
    answer = post(site, "/decide", {"found": "?show=kept", "decision": "drop"}).json()
    assert len(answer["samples"]) == 3 and answer["counts"]["kept"] == 0
    assert set(manual.read(workspace)) == {id_of(n) for n in range(5)}
    post(site, "/decide", {"found": "", "decision": "undo"})
    assert manual.read(workspace) == {}


@pytest.mark.parametrize(
    "filter_",
    [
        *("lasso=0.0.9.0.9.9.", "reason=gone!", "like=0123", "page=0", "tab=kept"),
        *("source=nowhere", f"like={'0' * 31}f"),
    ],
)
def test_an_address_that_is_not_understood_changes_nothing_and_says_so(
    site: str, workspace: Workspace, filter_: str
) -> None:
    name = filter_.partition("=")[0]
    for path, asked in (
        ("/decide", {"decision": "drop"}),
        ("/edit", {"action": "trigger", "words": ["sks"]}),
    ):
        answer = post(site, path, {"found": f"?{filter_}", **asked})
        assert answer.status_code == 400 and answer.json()["problem"].startswith(f"{name}: ")
    assert manual.read(workspace) == {} and edits.current(workspace) == {}
    for path in ("/", "/map", "/map/points"):
        answer = get(f"{site}{path}?{filter_}")
        if path != "/map" or name not in ("source", "like"):  # its points tell
            assert answer.status_code == 400 and f"{name}: " in answer.text


def test_tabs_count_what_is_found(shown_site: str) -> None:
    def tabs(query: str) -> list[int]:
        return [int(n) for n in re.findall(r'data-count="\w+">(\d+)', get(shown_site + query).text)]

    assert tabs("/") == [6, 4, 2, 0]
    assert tabs("/?words=heart") == [1, 0, 1, 0]
    assert tabs("/?words=heart&show=kept") == [1, 0, 1, 0]


def test_the_beginning_of_an_id_leads_to_its_sample(shown_site: str) -> None:
    answer = get(f"{shown_site}/?words={id_of(2)[:-1]}")
    assert "/sample/" not in answer.url, "all ids begin so"
    one = get(f"{shown_site}/?words={'F' * 6}")
    assert one.status_code == 200 and shown(one.text) == []


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (None, 400),
        ({"ids": [], "action": "simple", "words": ["x"]}, 404),
        ({"ids": ["f" * 32], "action": "simple", "words": ["x"]}, 404),
        ({"ids": [id_of(0)], "action": "burn", "words": []}, 400),
        ({"ids": [id_of(0)], "action": "replace", "words": ["x"]}, 400),
        ({"ids": [id_of(0)], "action": "simple", "words": [""]}, 409),
        ({"ids": [id_of(0)], "action": "trigger", "words": [" "]}, 409),
        ({"ids": [id_of(0)], "action": "simple", "words": ["\x00"]}, 409),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(
    shown_site: str, untouched: Workspace, content: Any, status: int
) -> None:
    assert post(shown_site, "/edit", content).status_code == status
    assert post(shown_site, "/edit", content, Origin="https://evil.example").status_code == 403
    assert edits.current(untouched) == {}


# whom it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "["])
def test_a_rebound_name_is_refused(shown_site: str, host: str) -> None:
    answer = get(shown_site, headers={"Host": host})
    assert answer.status_code == 403 and "samples" not in answer.text


def test_localhost_is_as_good_as_its_number(shown_site: str) -> None:
    port = shown_site.rsplit(":", 1)[1]
    assert get(shown_site, headers={"Host": f"localhost:{port}"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Surd-Token": ""},
        {"X-Surd-Token": "guessed"},
    ],
)
def test_a_write_from_elsewhere_is_refused(
    shown_site: str, untouched: Workspace, headers: dict[str, str]
) -> None:
    content = {"id": id_of(0), "decision": "drop"}
    assert post(shown_site, "/decide", content, **headers).status_code == 403
    assert post(shown_site, "/apply", {}, **headers).status_code == 403
    assert manual.read(untouched) == {}


@pytest.mark.parametrize(
    ("mode", "place", "status"),
    [
        ("navigate", "document", 200),
        ("navigate", "iframe", 403),
        ("no-cors", "image", 403),
        ("no-cors", "script", 403),
        ("cors", "empty", 403),
    ],
)
def test_another_site_may_link_to_a_page_and_nothing_else(
    shown_site: str, mode: str, place: str, status: int
) -> None:
    asked = {"Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": place}
    for site in ("cross-site", "same-site"):
        answer = get(shown_site, headers=asked | {"Sec-Fetch-Site": site})
        assert answer.status_code == status
    assert get(shown_site, headers=asked | {"Sec-Fetch-Site": "same-origin"}).status_code == 200


def test_a_token_of_any_bytes_is_refused(shown_site: str) -> None:
    content = {"id": id_of(0), "decision": "drop"}
    headers = {"X-Surd-Token": "\xff\xe9".encode("latin-1")}
    answer = requests.post(f"{shown_site}/decide", json=content, headers=headers, timeout=60)
    assert answer.status_code == 403


def test_a_write_from_our_own_page_is_let_through(site: str) -> None:
    content = {"id": id_of(0), "decision": "drop"}
    own = {"Origin": site, "Sec-Fetch-Site": "same-origin"}
    assert post(site, "/decide", content, **own).status_code == 200


@pytest.mark.parametrize("path", ["/sample/", "/image/", "/like/"])
@pytest.mark.parametrize("id_", ["f" * 32, "x", "..%2f..%2fetc%2fpasswd", "%00", "'"])
def test_an_unknown_id_is_not_found(shown_site: str, path: str, id_: str) -> None:
    assert get(f"{shown_site}{path}{id_}").status_code == 404


def test_assets_are_those_there_are(shown_site: str) -> None:
    assert get(f"{shown_site}/assets/view.js").headers["Content-Type"].startswith("text/javascript")
    for name in ("../app.py", "..%2fapp.py", "none.css"):
        assert get(f"{shown_site}/assets/{name}").status_code == 404


# hostile text and files ------------------------------------------------------------------------


def test_hostile_text_stays_text(shown_site: str) -> None:
    pages = ("/", f"/sample/{id_of(FOREIGN)}", f"/?words={HOSTILE}", f"/?text={HOSTILE}")
    for page in pages:
        text = get(shown_site + page).text
        assert "<script>document" not in text and "<img src=x" not in text
        assert "javascript:alert" not in re.sub(r"<dd>.*?</dd>", "", text)
    assert "&lt;script&gt;" in get(shown_site).text


def test_every_answer_forbids_what_a_page_does_not_need(shown_site: str) -> None:
    for path in ("/", f"/image/{id_of(0)}", "/sample/none", "/nowhere", "/assets/view.js"):
        headers = get(shown_site + path).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"


def test_an_image_is_what_its_bytes_are_whatever_its_row_says(tmp_path: Path) -> None:
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    changes = {
        0: {"mime": "text/html", "bytes": picture(0, "JPEG")},
        1: {"mime": "image/png", "bytes": b"<script>alert(1)</script>"},
        2: {"mime": "image/svg+xml", "bytes": svg},
    }
    with viewing(workspace_with(tmp_path / "w", changes=changes)) as site:
        answer = get(f"{site}/image/{id_of(0)}")
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.content == picture(0, "JPEG")
        assert get(f"{site}/image/{id_of(1)}").status_code == 404
        assert get(f"{site}/image/{id_of(2)}").status_code == 404
        assert get(f"{site}/image/{id_of(3)}").content == painted(3)


# the command ------------------------------------------------------------------------------------


def test_a_port_in_use_is_one_line(surd: Surd, workspace: Workspace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = surd("view", workspace.location, "--port", port)
    assert ran.code == 2
    assert f"port {port} is in use" in ran.err and len(ran.err.splitlines()) == 1


def test_what_is_no_workspace_is_one_line(surd: Surd, tmp_path: Path) -> None:
    ran = surd("view", tmp_path)
    assert ran.code == 2 and "not a surd workspace" in ran.err


@pytest.mark.skipif(os.name == "nt", reason="there is no Ctrl-C to send")
def test_ctrl_c_stops_it_and_names_what_is_left_to_do(workspace: Workspace) -> None:
    command = [sys.executable, "-m", "surd", "view", workspace.location, "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stderr
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found
            decide(found[0], 0, "drop")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0 and err == ""
    assert (
        f"1 decision by hand not in the verdicts yet; run: surd filter {workspace.location}" in out
    )


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /?words=" + b"a" * 9000 + b" HTTP/1.1\r\n{host}\r\n",
        b"GET / HTTP/1.1\r\n{host}X: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n{host}no header\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n{host}\r\n",
        b"POST /edit HTTP/1.1\r\n{host}{token}"
        b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
        b"POST /edit HTTP/1.1\r\n{host}{token}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_request_that_is_none_is_answered_and_logs_nothing(
    shown_site: str, caplog: pytest.LogCaptureFixture, request_: bytes
) -> None:
    port = int(shown_site.rpartition(":")[2])
    heads = {
        b"{host}": f"Host: 127.0.0.1:{port}\r\n",
        b"{token}": f"X-Surd-Token: {token_of(shown_site)}\r\nConnection: close\r\n",
    }
    for name, head in heads.items():
        request_ = request_.replace(name, head.encode())
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request_)
        answer = b"".join(iter(lambda: connection.recv(1000), b""))
    assert answer.split(b" ")[1] == b"400"
    assert not [record for record in caplog.records if record.exc_info]
