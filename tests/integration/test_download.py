"""Forty and more ways a site can fail, and what becomes of each."""

from __future__ import annotations

import asyncio
import io
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import NoReturn

import aiodns
import aiohttp
import numpy as np
import pyarrow as pa
import pytest
from aiohttp import connector
from aiohttp.abc import AbstractResolver
from PIL import Image
from support_site import Answer, Asked, serving

from surd.demo.broken_images import broken_images
from surd.demo.faults import FAULTS
from surd.demo.picture import Picture
from surd.demo.site import Site
from surd.net.fetch import Fetcher
from surd.net.fetched import Fetched
from surd.net.hosts import Hosts
from surd.net.request import open_session
from surd.stages.base import Batch
from surd.stages.download import downloader
from surd.stages.download.downloader import Downloader
from surd.stages.download.stage import DownloadParams, open_download
from surd.store.schema import IMAGE_STATUSES, IMAGES

OF_FAULTS = {
    "not_found": "http_error",
    "gone": "http_error",
    "forbidden": "http_error",
    "server_error": "http_error",
    "server_error_once": "ok",
    "unavailable_once": "ok",
    "rate_limited": "http_error",
    "rate_limited_once": "ok",
    "rate_limited_date_once": "ok",
    "stall": "timeout",
    "stall_before_headers": "timeout",
    "stall_once": "ok",
    "slow_drip": "timeout",
    "slow_ok": "ok",
    "reset_mid_body": "truncated",
    "short_body": "truncated",
    "truncated_file": "truncated",
    "endless_body": "too_large",
    "huge_content_length": "too_large",
    "gzip_ok": "ok",
    "gzip_bomb": "too_large",
    "brotli_label": "bad_encoding",
    "mislabelled": "ok",
    "html_page": "not_an_image",
    "svg": "not_an_image",
    "empty": "empty",
    "noai": "opt_out",
    "noimageai": "opt_out",
    "noai_other_bot": "ok",
    "redirect_ok": "ok",
    "redirect_relative": "ok",
    "redirect_chain": "ok",
    "redirect_loop": "too_many_redirects",
    "redirect_private": "blocked_address",
    "redirect_metadata": "blocked_address",
    "redirect_ipv6_mapped": "blocked_address",
    "redirect_file": "bad_redirect",
    "redirect_no_location": "bad_redirect",
    "corrupt": "decode_error",
    "flipped_header": "not_an_image",
}
OF_FILES = {
    "huge_png": "too_many_pixels",
    "animated_webp": "animated",
    "apng": "animated",
    "png_text_bomb": "decode_error",
    "png_bad_crc": "decode_error",
}
OF_URLS = {
    "ftp://127.0.0.1/x.jpg": "bad_url",
    "javascript:alert(1)": "bad_url",
    "//no-scheme/x.jpg": "bad_url",
    "http://": "bad_url",
    "http://[::1": "bad_url",
    "not a url": "bad_url",
    "http://10.1.2.3/x.jpg": "blocked_address",
    "http://169.254.169.254/latest/meta-data": "blocked_address",
    "http://[::ffff:10.0.0.1]/x.jpg": "blocked_address",
    "http://0.0.0.0/x.jpg": "blocked_address",
    "http://does-not-exist.invalid/x.jpg": "dns_error",
    "http://127.0.0.1:9/x.jpg": "connect_error",
    "": "no_location",
    None: "no_location",
}
PARAMS = DownloadParams(
    respect_robots=False,
    allow_private_addresses=["127.0.0.0/8"],
    stall_timeout_s=0.5,
    total_timeout_s=2,
    retries=1,
    max_bytes=5_000_000,
)


def jpeg(seed: int) -> bytes:
    colours = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((320, 240)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def picture(number: int, **changes: object) -> Picture:
    plain = Picture(id=number, uuid=str(uuid.UUID(int=number + 1)), data=jpeg(number))
    return replace(plain, **changes)


def run(rows: list[dict[str, object]], params: DownloadParams) -> dict[str, dict[str, object]]:
    schema = pa.schema([("id", pa.string()), ("url", pa.string()), ("path", pa.string())])
    batch = Batch(pa.Table.from_pylist(rows, schema=schema))
    tables = list(open_download(params)([batch]))
    found = pa.concat_tables(tables).to_pylist()
    assert [row["id"] for row in found] == [row["id"] for row in rows], "order is kept"
    return {row["id"]: row for row in found}


def url_of(site: Site, shown: Picture) -> str:
    return f"{site.url}/images/account/{shown.uuid}/width=450/{shown.id}.jpeg"


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, object]]:
    faulty = {name: picture(number, fault=name) for number, name in enumerate(FAULTS)}
    files = {
        name: picture(1000 + number, data=data, mime=mime)
        for number, (name, (data, mime)) in enumerate(broken_images().items())
    }
    good = {f"good {number}": picture(2000 + number) for number in range(40)}
    shown = faulty | files | good
    with Site(list(shown.values())) as site:
        rows = [
            {"id": name, "url": url_of(site, picture_), "path": None}
            for name, picture_ in shown.items()
        ]
        rows += [{"id": f"url {url}", "url": url, "path": None} for url in OF_URLS]
        return run(rows, PARAMS)


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_of_a_site_ends_as_its_status(name: str, outcomes: dict) -> None:
    assert outcomes[name]["status"] == OF_FAULTS[name], outcomes[name]["detail"]


@pytest.mark.parametrize("name", broken_images())
def test_every_odd_file_ends_as_its_status(name: str, outcomes: dict) -> None:
    assert outcomes[name]["status"] == OF_FILES.get(name, "ok"), outcomes[name]["detail"]


@pytest.mark.parametrize("url", OF_URLS)
def test_every_odd_url_ends_as_its_status(url: str, outcomes: dict) -> None:
    assert outcomes[f"url {url}"]["status"] == OF_URLS[url], outcomes[f"url {url}"]["detail"]


def test_the_good_pictures_among_them_are_all_there_byte_for_byte(outcomes: dict) -> None:
    for number in range(40):
        row = outcomes[f"good {number}"]
        assert row["bytes"] == jpeg(2000 + number)
        assert (row["mime"], row["width"], row["height"]) == ("image/jpeg", 320, 240)


def test_every_status_is_a_documented_one_and_failures_say_why(outcomes: dict) -> None:
    for row in outcomes.values():
        assert row["status"] in IMAGE_STATUSES
        assert (row["bytes"] is not None) == (row["status"] == "ok")
        assert row["status"] == "ok" or row["detail"]


def test_width_and_height_are_those_of_the_upright_picture(outcomes: dict) -> None:
    row = outcomes["jpeg_exif_rotated"]
    assert (row["width"], row["height"], row["exif_orientation"]) == (20, 40, 6)


def test_loopback_is_refused_unless_allowed() -> None:
    shown = picture(1)
    with Site([shown]) as site:
        rows = [{"id": "a", "url": url_of(site, shown), "path": None}]
        refused = run(rows, DownloadParams(retries=0))
        assert refused["a"]["status"] == "blocked_address"
        assert not site.image_requests
        assert run(rows, PARAMS)["a"]["status"] == "ok"


def test_resizing_gives_the_asked_size_and_names_it(tmp_path) -> None:
    source = tmp_path / "a.jpg"
    source.write_bytes(jpeg(1))
    params = DownloadParams(resize={"mode": "shorter", "size": 120})
    row = run([{"id": "a", "url": None, "path": str(source)}], params)["a"]
    assert (row["width"], row["height"], row["resized"]) == (160, 120, True)
    assert Image.open(io.BytesIO(row["bytes"])).size == (160, 120)


def test_without_checks_damage_goes_unseen_but_size_and_kind_are_known() -> None:
    cut = picture(1, data=jpeg(1)[:2000])
    with Site([cut]) as site:
        rows = [{"id": "a", "url": url_of(site, cut), "path": None}]
        unchecked = PARAMS.model_copy(update={"decode_check": False})
        row = run(rows, unchecked)["a"]
    assert (row["status"], row["width"], row["phash"]) == ("ok", 320, None)


def test_a_buffer_smaller_than_one_picture_still_lets_everything_through() -> None:
    shown = [picture(number, fault="slow_ok" if number == 0 else None) for number in range(60)]
    big = bytes(2_000_000)
    shown = [replace(p, data=p.data + big) for p in shown]
    with Site(shown) as site:
        rows = [{"id": str(p.id), "url": url_of(site, p), "path": None} for p in shown]
        tight = PARAMS.model_copy(update={"buffer_mb": 1, "concurrency": 8})
        found = run(rows, tight)
    assert {row["status"] for row in found.values()} == {"ok"}


def test_a_consumer_that_stops_early_leaves_no_thread_behind() -> None:
    shown = [picture(number) for number in range(300)]
    with Site(shown) as site:
        rows = [{"id": str(p.id), "url": url_of(site, p), "path": None} for p in shown]
        schema = pa.schema([("id", pa.string()), ("url", pa.string()), ("path", pa.string())])
        batches = [Batch(pa.Table.from_pylist(rows, schema=schema))]
        stream = open_download(PARAMS)(batches)
        next(stream)
        stream.close()
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("surd-")]


def test_an_error_while_reading_ahead_comes_after_the_rows_before_it() -> None:
    shown = [picture(number) for number in range(64)]
    schema = pa.schema([("id", pa.string()), ("url", pa.string()), ("path", pa.string())])

    def batches(site: Site):
        rows = [{"id": str(p.id), "url": url_of(site, p), "path": None} for p in shown]
        yield Batch(pa.Table.from_pylist(rows, schema=schema))
        raise OSError("the disk is gone")

    with Site(shown) as site:
        stream = open_download(PARAMS)(batches(site))
        assert next(stream).num_rows == 64
        with pytest.raises(OSError, match="the disk is gone"):
            next(stream)


# Room, connections and silence


def requested(answers: dict[str, list[Answer]]) -> Callable[[Asked], Answer]:
    """What a server answers: for each path one after the other, the last one for ever."""

    def answer(asked: Asked) -> Answer:
        left = answers[asked.path]
        return left.pop(0) if len(left) > 1 else left[0]

    return answer


BUSY = Answer("busy", 429, {"Retry-After": "30"})
BUSY_FOR_A_MOMENT = Answer("busy", 429, {"Retry-After": "0"})
PAGE = Answer("a page")


def test_the_room_of_a_row_that_is_given_out_at_once_is_free_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emitted = threading.Event()

    class TakenAtOnce(Future):
        """A row that is given out before whoever set it goes on."""

        def set_result(self, row: dict[str, object]) -> None:
            super().set_result(row)
            assert emitted.wait(30)
            emitted.clear()

    def jobs(batch: Batch) -> Iterator[downloader._Job]:
        return (replace(job, row=TakenAtOnce()) for job in real_jobs(batch))

    class Watched(Downloader):
        def _emit(self, some: list[downloader._Job]) -> pa.Table:
            table = super()._emit(some)
            emitted.set()
            return table

    real_jobs = downloader._jobs
    monkeypatch.setattr(downloader, "_jobs", jobs)
    rows = [{"id": str(number), "url": "x", "path": None} for number in range(5)]
    earlier = [{"id": row["id"], "status": "ok", "bytes": bytes(1000)} for row in rows]
    batch = Batch(
        pa.Table.from_pylist(rows),
        pa.Table.from_pylist(earlier, schema=IMAGES),
        same_settings=True,
    )
    watched = Watched(
        PARAMS.limits(),
        lambda fetched: {},
        table_rows=1,
        concurrency=1,
        per_host=1,
        host_patience_s=None,
        contact=None,
        threads=1,
        buffer_bytes=1_000_000,
    )
    assert pa.concat_tables(watched.run([batch])).num_rows == 5
    assert watched._held_bytes == 0


def test_a_row_that_sleeps_as_its_host_asks_lets_another_have_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sleep = asyncio.sleep

    async def until_the_other_was_asked(_: float) -> None:
        for _ in range(3000):
            if "/other" in site.paths:
                return
            await sleep(0.01)
        raise AssertionError("the row that sleeps keeps its connection")

    monkeypatch.setattr(asyncio, "sleep", until_the_other_was_asked)
    answers = {"/busy": [BUSY_FOR_A_MOMENT, PAGE], "/other": [PAGE]}
    with serving(requested(answers)) as site:
        rows = [{"id": p, "url": f"{site.url}/{p}", "path": None} for p in ("busy", "other")]
        found = run(rows, PARAMS.model_copy(update={"concurrency": 1}))
    assert site.paths == ["/busy", "/other", "/busy"]
    assert {row["status"] for row in found.values()} == {"not_an_image"}


@pytest.mark.parametrize("concurrency", [1, 3])
def test_a_row_that_slept_until_the_buffer_was_full_is_fetched_all_the_same(
    monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    sleep = asyncio.sleep

    async def until_the_buffer_is_full(_: float) -> None:
        for _ in range(3000):
            if running and running[0]._held_bytes > 1_000_000:
                return
            await sleep(0.01)
        raise AssertionError("the buffer is not full")

    class Watched(Downloader):
        def run(self, batches: Iterable[Batch]) -> Iterator[pa.Table]:
            running.append(self)
            return super().run(batches)

    running: list[Downloader] = []
    monkeypatch.setattr("surd.stages.download.downloader.Downloader", Watched)
    monkeypatch.setattr(asyncio, "sleep", until_the_buffer_is_full)
    others = [f"/{number}" for number in range(12)]
    answers = {"/busy": [BUSY_FOR_A_MOMENT, PAGE]} | {p: [Answer("x" * 1_500_000)] for p in others}
    with serving(requested(answers)) as site:
        rows = [{"id": p, "url": f"{site.url}{p}", "path": None} for p in ("/busy", *others)]
        found = run(rows, PARAMS.model_copy(update={"concurrency": concurrency, "buffer_mb": 1}))
    assert {row["status"] for row in found.values()} == {"not_an_image"}
    assert len(site.paths) == 14


def test_a_loop_that_cannot_start_is_an_error_and_no_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_loop(main: Coroutine[object, object, None]) -> None:
        main.close()
        raise OSError("too many open files")

    monkeypatch.setattr(asyncio, "run", no_loop)
    with pytest.raises(OSError, match="too many open files"):
        run([{"id": "a", "url": None, "path": None}], PARAMS)


def fetched(*urls: str, **limits: object) -> tuple[list[Fetched], list[float]]:
    """What comes of urls, and for how long their hosts were left alone, by a clock that nothing
    else moves. Each url is asked for when those before it wait or have ended."""
    seconds: list[float] = []

    async def main() -> list[Fetched]:
        clock_s = [0.0]

        def later(pause_s: float, wake: Callable[[], None]) -> None:
            seconds.append(pause_s)
            asyncio.get_running_loop().call_later(0.05, pass_by, clock_s[0] + pause_s, wake)

        def pass_by(until_s: float, wake: Callable[[], None]) -> None:
            clock_s[0] = max(until_s, clock_s[0])
            wake()

        async def sleep(pause_s: float) -> None:
            clock_s[0] += pause_s

        hosts = Hosts(1, clock=lambda: clock_s[0], later=later)
        given = replace(PARAMS.limits(), respect_robots=False, **limits)
        async with open_session(given, contact=None) as session:
            fetcher = Fetcher(session, given, hosts, sleep)
            return await asyncio.gather(*(fetcher.fetch(url, i) for i, url in enumerate(urls)))

    return asyncio.run(main()), seconds


@pytest.mark.parametrize("status", [429, 503])
def test_a_host_that_asks_for_time_is_asked_nothing_more_by_any_row_until_then(status: int) -> None:
    answers = {"/a": [Answer("busy", status, {"Retry-After": "30"}), PAGE], "/b": [PAGE]}
    with serving(requested(answers)) as site:
        found, seconds = fetched(f"{site.url}/a", f"{site.url}/b")
    assert seconds == [30], "both waited, the other without having asked"
    assert site.paths == ["/a", "/a", "/b"]
    assert {one.status for one in found} == {"ok"}


def test_a_redirect_to_a_host_that_asked_for_time_waits_as_well() -> None:
    with serving(requested({"/a": [BUSY, PAGE]})) as site:
        away = Answer("", 302, {"Location": f"{site.url}/a"})
        with serving(requested({"/to": [away]})) as another:
            found, seconds = fetched(f"{site.url}/a", f"{another.url}/to")
    assert seconds == [30] and site.paths == ["/a"] * 3
    assert {one.status for one in found} == {"ok"}


def test_other_hosts_are_asked_meanwhile() -> None:
    with (
        serving(requested({"/a": [BUSY, PAGE]})) as site,
        serving(requested({"/b": [PAGE]})) as another,
    ):
        found, seconds = fetched(f"{site.url}/a", f"{another.url}/b")
    assert seconds == [30]
    assert {one.status for one in found} == {"ok"}


def test_a_time_beyond_what_rows_may_wait_ends_one_row_and_slows_the_others_as_far_as_that() -> (
    None
):
    answers = {"/a": [Answer("busy", 429, {"Retry-After": "3600"})], "/b": [PAGE]}
    with serving(requested(answers)) as site:
        (first, other), seconds = fetched(f"{site.url}/a", f"{site.url}/b")
    assert (first.status, first.http_status, other.status) == ("http_error", 429, "ok")
    assert seconds == [60] and site.paths == ["/a", "/b"]


def test_an_error_of_one_url_silences_no_host() -> None:
    answers = {"/a": [Answer("gone", 404)], "/b": [PAGE]}
    with serving(requested(answers)) as site:
        found, seconds = fetched(f"{site.url}/a", f"{site.url}/b")
    assert [one.status for one in found] == ["http_error", "ok"] and seconds == []


# robots.txt, and hosts that fail

WITH_ROBOTS = PARAMS.model_copy(update={"respect_robots": True})


def rows_of(base: str, paths: Iterable[str]) -> list[dict[str, object]]:
    return [{"id": path, "url": f"{base}{path}", "path": None} for path in paths]


def test_robots_txt_is_read_once_a_host_and_what_it_forbids_is_not_asked_for() -> None:
    rules = "User-agent: *\nDisallow: /private/\nContent-Usage: /art/ train-ai=n"

    def answer(asked: Asked) -> Answer:
        return Answer(rules) if asked.path == "/robots.txt" else PAGE

    paths = [f"/{folder}/{number}" for folder in ("free", "private", "art") for number in range(5)]
    with serving(answer) as site:
        found = run(rows_of(site.url, paths), WITH_ROBOTS)
    assert sorted(site.paths) == [*paths[:5], "/robots.txt"]
    statuses = {path.split("/")[1]: row["status"] for path, row in found.items()}
    assert statuses == {"free": "not_an_image", "private": "robots_txt", "art": "opt_out"}


def test_robots_txt_of_the_host_that_a_redirect_leads_to_counts() -> None:
    def forbids(asked: Asked) -> Answer:
        is_rules = asked.path == "/robots.txt"
        return Answer("User-agent: surd\nDisallow: /" if is_rules else "a page")

    with serving(forbids) as site:
        away = Answer("", 302, {"Location": f"{site.url}/a"})
        missing = Answer("none", 404)
        with serving(lambda asked: missing if "robots" in asked.path else away) as another:
            found = run(rows_of(another.url, ["/to"]), WITH_ROBOTS)
    assert found["/to"]["status"] == "robots_txt" and site.paths == ["/robots.txt"]


@pytest.mark.parametrize(
    ("status", "expected"), [(404, "not_an_image"), (403, "not_an_image"), (500, "robots_txt")]
)
def test_a_site_without_rules_allows_all_and_one_that_cannot_tell_them_nothing(
    status: int, expected: str
) -> None:
    answers = {"/robots.txt": [Answer("", status)], "/a": [PAGE]}
    with serving(requested(answers)) as site:
        found = run(rows_of(site.url, ["/a"]), WITH_ROBOTS.model_copy(update={"retries": 0}))
    assert found["/a"]["status"] == expected
    assert ("/a" in site.paths) == (expected == "not_an_image")


def test_what_forbids_indexing_of_robots_txt_itself_says_nothing_of_the_images() -> None:
    rules = Answer("User-agent: *\nAllow: /", headers={"X-Robots-Tag": "noindex"})
    with serving(requested({"/robots.txt": [rules], "/a": [PAGE]})) as site:
        assert run(rows_of(site.url, ["/a"]), WITH_ROBOTS)["/a"]["status"] == "not_an_image"


@pytest.mark.parametrize(
    "headers", [{"Content-Usage": "train-ai=n"}, {"tdm-reservation": "1"}, {"X-Robots-Tag": "noml"}]
)
def test_a_header_that_opts_out_is_told_word_for_word(headers: dict[str, str]) -> None:
    with serving(requested({"/a": [Answer("x", headers=headers)]})) as site:
        row = run(rows_of(site.url, ["/a"]), PARAMS)["/a"]
        assert row["status"] == "opt_out" and next(iter(headers.values())) in row["detail"]
        ignoring = PARAMS.model_copy(update={"respect_noai": False})
        assert run(rows_of(site.url, ["/a"]), ignoring)["/a"]["status"] == "not_an_image"


def test_a_redirect_that_opts_out_is_not_followed() -> None:
    to_b = Answer("", 302, {"Location": "/b", "X-Robots-Tag": "noai"})
    with serving(requested({"/a": [to_b], "/b": [PAGE]})) as site:
        row = run(rows_of(site.url, ["/a"]), PARAMS)["/a"]
        assert row["status"] == "opt_out" and site.paths == ["/a"]
        ignoring = PARAMS.model_copy(update={"respect_noai": False})
        assert run(rows_of(site.url, ["/a"]), ignoring)["/a"]["status"] == "not_an_image"


def test_a_dead_host_is_asked_a_few_times_and_the_rows_it_never_saw_say_so() -> None:
    impatient = PARAMS.model_copy(update={"host_patience_s": 0.5, "per_host": 4})
    dead = [
        {"id": f"dead {number}", "url": f"http://127.0.0.1:9/{number}", "path": None}
        for number in range(300)
    ]
    with serving(lambda asked: PAGE) as site:
        good = rows_of(site.url, [f"/{number}" for number in range(300)])
        both = [row for pair in zip(dead, good, strict=True) for row in pair]
        found = run(both, impatient)
    asked = [row for name, row in found.items() if row["status"] == "connect_error"]
    left = [row for name, row in found.items() if row["status"] == "host_failed"]
    assert len(asked) + len(left) == 300 and len(asked) < 40
    assert {found[row["id"]]["status"] for row in good} == {"not_an_image"}
    assert all("not asked, because its host failed" in row["detail"] for row in left)


def test_a_name_that_does_not_exist_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class NoNames(AbstractResolver):
        async def resolve(self, host: str, *_: object, **__: object) -> NoReturn:
            asked.append(host)
            raise OSError(None, "not found") from aiodns.error.DNSError(
                aiodns.error.ARES_ENOTFOUND, "not found"
            )

        async def close(self) -> None:
            pass

    monkeypatch.setattr(connector, "DefaultResolver", lambda **_: NoNames())
    rows = rows_of("http://missing.example", [f"/{number}" for number in range(50)])
    found = run(rows, PARAMS.model_copy(update={"per_host": 1}))
    assert {row["status"] for row in found.values()} == {"dns_error"} and len(asked) == 1


def test_a_dead_host_has_its_robots_txt_asked_for_and_nothing_else() -> None:
    rows = [
        {"id": str(number), "url": f"http://127.0.0.1:9/{number}", "path": None}
        for number in range(50)
    ]
    found = run(rows, WITH_ROBOTS.model_copy(update={"retries": 0}))
    assert {row["status"] for row in found.values()} == {"connect_error"}
    assert all(row["detail"].startswith("robots.txt: ") for row in found.values())


def test_names_are_looked_up_without_threads_and_their_addresses_are_guarded() -> None:
    async def looked_up() -> Fetched:
        limits = replace(PARAMS.limits(), allowed_networks=(), respect_robots=False)
        async with open_session(limits, contact=None) as session:
            assert isinstance(session.connector._resolver, aiohttp.AsyncResolver)
            return await Fetcher(session, limits, Hosts(1)).fetch("http://localhost:9/a")

    assert asyncio.run(looked_up()).status == "blocked_address"
