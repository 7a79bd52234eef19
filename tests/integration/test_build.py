"""surd build and its sister commands, against a site that answers like Civitai."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import digests, pictures

from surd.demo.site import Site
from surd.recipe.pipeline import stage_names

Surd = Callable[..., Any]


def overrides(site: Site, *more: str) -> list[str]:
    values = [
        f"sources.0.base_url={site.url}",
        "sources.0.requests_per_s=1000",
        "sources.0.page_size=20",
        "download.allow_private_addresses=true",
        "download.stall_timeout_s=0.5",
        "download.retries=0",
        "part_size=30",
        "until=prompts",
        *more,
    ]
    return [argument for value in values for argument in ("--set", value)]


@pytest.mark.parametrize("endpoint", ["images", "models"])
def test_a_civitai_build_ends_with_every_picture_and_prompt(
    surd: Surd, tmp_path: Path, endpoint: str
) -> None:
    with Site(pictures(75)) as site:
        endpoint_set = f"sources.0.endpoint={endpoint}"
        ran = surd("build", "civitai", "-o", tmp_path / "w", *overrides(site, endpoint_set))
    assert ran.code == 0, ran.err
    for group in ("samples", "images", "prompts"):
        tables = [pq.read_table(p) for p in sorted((tmp_path / "w" / group).glob("*.parquet"))]
        assert [table.num_rows for table in tables] == [30, 30, 15]
    prompts = pq.read_table(tmp_path / "w" / "prompts").to_pylist()
    assert prompts[7]["complex_prompt"] == "masterpiece, thing number 7"
    assert prompts[7]["networks"][0]["name"] == "x"
    images = pq.read_table(tmp_path / "w" / "images").to_pylist()
    assert {row["status"] for row in images} == {"ok"}


def test_every_group_holds_the_same_ids_in_the_same_order(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(50)) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
    for part in ("part-00000.parquet", "part-00001.parquet"):
        ids = [
            pq.read_table(tmp_path / group / part)["id"].to_pylist()
            for group in ("samples", "images", "prompts")
        ]
        assert ids[0] == ids[1] == ids[2]


def test_a_second_run_asks_the_site_for_nothing(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(50, p3="not_found")) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
        before, images, api = digests(tmp_path), site.image_requests.total(), len(site.api_requests)
        ran = surd("build", "civitai", "-o", tmp_path, *overrides(site))
        assert ran.code == 0
        assert (site.image_requests.total(), len(site.api_requests)) == (images, api)
    assert digests(tmp_path) == before


def test_retry_failed_asks_again_for_what_failed_and_for_nothing_else(
    surd: Surd, tmp_path: Path
) -> None:
    shown = pictures(50, p3="server_error_once", p40="not_found")
    with Site(shown) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
        ran = surd("build", "civitai", "-o", tmp_path, "--retry-failed", "--json", *overrides(site))
        counts = {s["stage"]: s["counts"] for s in ran.json["stages"]}
        assert counts["download"] == {"ok": 49, "http_error": 1}
        asked_twice = {key for key, n in site.image_requests.items() if n > 1}
        assert asked_twice == {shown[3].uuid, shown[40].uuid}


def test_retrying_without_success_recomputes_nothing_downstream(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(10, p3="not_found")) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
        before = digests(tmp_path)
        surd("build", "civitai", "-o", tmp_path, "--retry-failed", *overrides(site))
    assert digests(tmp_path) == before


def test_collecting_again_adds_only_what_is_new(surd: Surd, tmp_path: Path) -> None:
    shown = pictures(50)
    with Site(shown[:40]) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
        port = int(site.url.rsplit(":", 1)[1])
    with Site(shown, port=port) as site:
        ran = surd("collect", tmp_path, "--json")
        assert ran.json["stages"][0]["counts"] == {"new": 10, "known": 40}
        ran = surd("build", "civitai", "-o", tmp_path, "--json", *overrides(site))
        assert ran.json["stages"][1]["counts"] == {"ok": 50}
        assert site.image_requests.total() == 10


def test_a_larger_limit_goes_on_where_the_smaller_one_stopped(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(90)) as site:
        surd("build", "civitai", "-o", tmp_path / "a", *overrides(site, "sources.0.limit=35"))
        assert site.image_requests.total() == 35
        surd("build", "civitai", "-o", tmp_path / "a", *overrides(site, "sources.0.limit=80"))
        assert site.image_requests.total() == 80
        surd("build", "civitai", "-o", tmp_path / "b", *overrides(site, "sources.0.limit=80"))
    a, b = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert {k: v for k, v in a.items() if "images" in k} == {
        k: v for k, v in b.items() if "images" in k
    }


def test_resizing_later_reuses_the_originals_without_asking_the_site(
    surd: Surd, tmp_path: Path
) -> None:
    with Site(pictures(40)) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
        asked = site.image_requests.total()
        smaller = overrides(site, "download.resize.size=24")
        ran = surd("build", "civitai", "-o", tmp_path, "--json", *smaller)
        assert ran.json["stages"][1]["counts"] == {"ok": 40}
        assert site.image_requests.total() == asked
    row = pq.read_table(tmp_path / "images").to_pylist()[0]
    assert (row["width"], row["height"], row["resized"]) == (32, 24, True)


def test_an_api_that_breaks_off_keeps_what_it_gave_and_the_next_run_goes_on(
    surd: Surd, tmp_path: Path
) -> None:
    forever = dict.fromkeys(range(2, 50), "html_200")
    with Site(pictures(75), api_faults=forever) as site:
        port = int(site.url.rsplit(":", 1)[1])
        ran = surd("build", "civitai", "-o", tmp_path / "cut", *overrides(site))
        assert ran.code == 0
        assert "HTML page" in ran.err
        assert "Traceback" not in ran.err
        assert 0 < pq.read_table(tmp_path / "cut" / "samples").num_rows < 75
    with Site(pictures(75), port=port) as site:
        surd("build", "civitai", "-o", tmp_path / "cut", *overrides(site))
        surd("build", "civitai", "-o", tmp_path / "whole", *overrides(site))
    assert digests(tmp_path / "cut") == digests(tmp_path / "whole")


def test_a_dead_api_is_one_line_and_exit_code_2(surd: Surd, tmp_path: Path) -> None:
    ran = surd(
        "build",
        "civitai",
        "-o",
        tmp_path,
        "--set",
        "sources.0.base_url=http://127.0.0.1:9",
        "--set",
        "sources.0.retries=0",
    )
    assert ran.code == 2
    assert ran.err.startswith("surd: nothing was collected")
    assert len(ran.err.strip().splitlines()) == 1


def test_a_too_high_failure_rate_is_exit_code_1(surd: Surd, tmp_path: Path) -> None:
    faults = {f"p{n}": "not_found" for n in range(5)}
    with Site(pictures(10, **faults)) as site:
        arguments = ["build", "civitai", "-o", tmp_path, *overrides(site)]
        assert surd(*arguments, "--max-failure-rate", "0.6").code == 0
        assert surd(*arguments, "--max-failure-rate", "0.4").code == 1


def test_the_api_key_reaches_no_file(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CIVITAI_API_TOKEN", "planted-secret-0123456789")
    with Site(pictures(10)) as site:
        ran = surd("build", "civitai", "-o", tmp_path, *overrides(site))
    assert ran.code == 0
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"planted-secret" not in path.read_bytes()
    assert "planted-secret" not in ran.out + ran.err


def test_a_recipe_is_saved_even_when_nothing_is_left_to_do(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(5)) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
        surd(
            "build", "civitai", "-o", tmp_path, *overrides(site, "download.contact=me@example.org")
        )
    recipe = json.loads((tmp_path / "surd.json").read_text())["recipe"]
    assert recipe["download"]["contact"] == "me@example.org"


def test_status_says_what_is_stale_and_why(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(40)) as site:
        surd("build", "civitai", "-o", tmp_path, "--until", "download", *overrides(site))
    told = surd("status", tmp_path, "--json").json["groups"]
    assert told["images"]["states"] == {"fresh": 2}
    assert told["prompts"]["states"] == {"missing": 2}
    (tmp_path / "images" / "part-00001.parquet").write_bytes(b"PAR1 cut off")
    told = surd("status", tmp_path, "--json").json["groups"]
    assert told["images"]["states"] == {"fresh": 1, "damaged": 1}
    surd("prompts", tmp_path)
    surd("prompts", tmp_path, "--set", "prompts.max_chars=9")
    manifest = json.loads((tmp_path / "surd.json").read_text())
    assert manifest["recipe"]["prompts"]["max_chars"] == 9
    assert surd("status", tmp_path, "--json").json["groups"]["prompts"]["states"] == {"fresh": 2}


def test_a_damaged_part_is_computed_again_and_only_that(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(60)) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
        before, asked = digests(tmp_path), site.image_requests.total()
        part = tmp_path / "images" / "part-00001.parquet"
        part.write_bytes(part.read_bytes()[:-100])
        ran = surd("build", "civitai", "-o", tmp_path, *overrides(site))
        assert ran.code == 0
        assert site.image_requests.total() == asked + 30
    assert digests(tmp_path) == before


def test_a_manifest_that_a_kill_left_half_written_is_removed(surd: Surd, tmp_path: Path) -> None:
    (tmp_path / ".surd.json.0a1b2c3d.tmp").write_bytes(b"{")
    with Site(pictures(5)) as site:
        assert surd("build", "civitai", "-o", tmp_path, *overrides(site)).code == 0
    assert not list(tmp_path.glob("*.tmp"))


def test_parts_that_wait_or_fail_are_not_counted_as_fresh(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(pictures(40)) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
    parts = sorted((tmp_path / "images").glob("part-*.parquet"))
    assert len(parts) > 1
    for path in parts:
        path.write_bytes(path.read_bytes()[:-30])
    ran = surd("caption", tmp_path)
    assert ran.code == 1
    assert f"caption: 0 rows; 0 parts computed, 0 up to date, {len(parts)} failed; " in ran.out
    assert "caption: part 0 failed: images is damaged\n" in ran.err

    for path in (tmp_path / "prompts").glob("part-*.parquet"):
        path.unlink()
    monkeypatch.setattr("surd.stages.prompts.parse", lambda *_: 1 / 0)
    (summary,) = surd("prompts", tmp_path, "--json").json["stages"]
    assert (summary["computed"], summary["fresh"]) == (0, 0)
    assert list(summary["failed"]) == [str(part) for part in range(len(parts))]


def test_inspect_finds_a_sample_by_id_url_and_words(surd: Surd, tmp_path: Path) -> None:
    with Site(pictures(12)) as site:
        surd("build", "civitai", "-o", tmp_path, *overrides(site))
    listed = surd("inspect", tmp_path, "thing", "--json").json["matches"]
    assert len(listed) == 12
    by_id = surd("inspect", tmp_path, listed[4]["id"], "--json").json
    assert by_id["prompts"]["complex_prompt"] == "masterpiece, thing number 4"
    assert surd("inspect", tmp_path, by_id["samples"]["url"], "--json").json == by_id
    assert surd("inspect", tmp_path, "number 4:", "--json").json == by_id
    missing = surd("inspect", tmp_path, "no such words")
    assert missing.code == 2
    assert missing.err.startswith("surd: ")


def test_plan_checks_the_recipe_and_touches_nothing(surd: Surd, tmp_path: Path) -> None:
    ran = surd("build", "civitai", "-o", tmp_path / "w", "--plan", "--json")
    assert [step["stage"] for step in ran.json["steps"]] == stage_names()
    assert not (tmp_path / "w").exists()


def test_a_plan_says_what_would_be_done(surd: Surd, tmp_path: Path) -> None:
    words = ("build", "civitai", "-o", tmp_path / "w", "--plan")
    lines = surd(*words).out.splitlines()
    assert "collect: read civitai; no parts collected so far" in lines
    assert "download: compute everything that is collected" in lines
    assert lines[-1] == "publish: write the dataset; no shards there now"
    last = surd(*words, "--until", "download").out.splitlines()[-1]
    assert last == "download: compute everything that is collected"


def test_a_plan_counts_what_would_be_computed_again(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.csv").write_text("url,prompt\nhttp://127.0.0.1:1/1.png,a cup\n")
    words = ("build", "table", "-o", "w", "--set", "sources.0.path=t.csv")
    assert surd(*words, "--until", "collect").code == 0
    plan = surd(*words, "--plan").out.splitlines()
    assert "collect: read table; 1 part collected so far" in plan
    assert "prompts: compute 1 part (1 missing)" in plan
    assert surd("prompts", "w").code == 0
    assert "prompts: nothing to do (1 fresh)" in surd(*words, "--plan").out.splitlines()


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_plan_tells_of_a_path_that_is_wrong(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"in the working directory")
    ran = surd("build", kind, "-o", tmp_path / "w", "--plan")
    assert (ran.code, ran.out) == (2, "") and "correct the source's path" in ran.err
    path = tmp_path if kind == "folder" else tmp_path / "t.csv"
    (tmp_path / "t.csv").write_text("url,prompt\nhttp://a.example/1.png,a cup\n")
    right = surd("build", kind, "-o", tmp_path / "w", "--set", f"sources.0.path={path}", "--plan")
    assert right.code == 0 and "the recipe is valid" in right.out
    assert not (tmp_path / "w").exists()


def test_the_recipe_for_folders_reads_none_that_nobody_named(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"in the working directory")
    ran = surd("build", "folder", "-o", "w")
    assert ran.code == 2 and "--set sources.0.path=FOLDER" in ran.err
    assert not (tmp_path / "w" / "samples").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["build", "civtai", "-o", "w"], "did you mean civitai?"),
        (["build", "civitai"], "-o DIR"),
        (["build", "civitai", "-o", "w", "--until", "downlaod"], "did you mean download?"),
        (["build", "civitai", "-o", "w", "--set", "download.concurency=3"], "concurrency"),
        (["build", "civitai", "-o", "w", "--set", "sources.0.endpont=models"], "endpoint"),
        (["status", "nowhere"], "not a surd workspace"),
        (["inspect", "nowhere"], "not a surd workspace"),
        (["inspect", "nowhere/1.PNG"], "no such file"),
        (["schema", "sampels"], "did you mean samples?"),
        (["build", "folder", "-o", "w", "--set", "sources.0.path=nowhere"], "nowhere"),
        (["build", "table", "-o", "w", "--set", "sources.0.path=nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_exit_code_2(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = surd(*arguments)
    assert ran.code == 2
    assert says in ran.err
    assert ran.err.startswith("surd: ")
    assert len(ran.err.strip().splitlines()) == 1


def test_a_file_where_the_workspace_should_be_is_one_line(surd: Surd, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("here already")
    with Site(pictures(3)) as site:
        ran = surd("build", "civitai", "-o", tmp_path / "taken", *overrides(site))
    assert ran.code == 2
    assert "taken" in ran.err
    assert "Traceback" not in ran.err


def test_a_workspace_of_a_newer_format_is_left_alone(surd: Surd, tmp_path: Path) -> None:
    (tmp_path / "surd.json").write_text('{"format_version": 99, "recipe": {}}')
    ran = surd("build", "civitai", "-o", tmp_path)
    assert ran.code == 2
    assert "upgrade" in ran.err
