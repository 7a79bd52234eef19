"""Forty and more ways a site can fail, and what becomes of each."""

from __future__ import annotations

import io
import uuid
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from surd.demo.broken_images import broken_images
from surd.demo.faults import FAULTS
from surd.demo.picture import Picture
from surd.demo.site import Site
from surd.stages.base import Batch
from surd.stages.download.stage import DownloadParams, open_download
from surd.store.schema import IMAGE_STATUSES

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
    "animated_gif": "animated",
    "animated_webp": "animated",
    "apng": "animated",
    "tiff": "unsupported_format",
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
    import threading

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
