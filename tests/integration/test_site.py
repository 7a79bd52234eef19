"""The demo site, asked over real connections."""

from __future__ import annotations

import io
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from PIL import Image, ImageOps

from surd.demo.broken_images import broken_images, deflated_zeros
from surd.demo.picture import Picture
from surd.demo.site import Site

TIMEOUT_S = 0.3
SLOW_TO_ANSWER = requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((64, 48)).save(buffer, "JPEG")
    return buffer.getvalue()


DATA = jpeg()


def picture(number: int, **fields: Any) -> Picture:
    made = Picture(id=number, uuid=f"uuid-{number}", data=DATA, width=64, height=48)
    return replace(made, **{"prompt": f"picture {number}", **fields})


def images(site: Site, **query: str | int) -> Any:
    return requests.get(f"{site.url}/api/v1/images", params=query, timeout=2).json()


def models(site: Site, **query: str | int) -> Any:
    return requests.get(f"{site.url}/api/v1/models", params=query, timeout=2).json()


def pages(answer: Any) -> Iterator[Any]:
    """`answer` and those its nextPage links lead to."""
    yield answer
    while "nextPage" in answer["metadata"]:
        answer = requests.get(answer["metadata"]["nextPage"], timeout=2).json()
        yield answer


def ids(answers: Iterator[Any]) -> list[int]:
    return [item["id"] for answer in answers for item in answer["items"]]


def fetch(fault: str, **options: Any) -> requests.Response:
    """What a client gets which asks once for a picture with this fault."""
    with Site([picture(1, fault=fault)]) as site:
        url = images(site)["items"][0]["url"]
        return requests.get(url, **{"timeout": TIMEOUT_S, **options})


# Listing


def test_following_next_page_visits_every_image_once_when_nothing_repeats() -> None:
    with Site([picture(n) for n in range(7)], repeat_cursor_item=False) as site:
        assert ids(pages(images(site, limit=3))) == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("numeric", [True, False])
def test_a_page_starts_at_its_cursors_own_item_which_so_comes_twice(numeric: bool) -> None:
    with Site([picture(n) for n in range(7)], numeric_cursor=numeric) as site:
        first = images(site, limit=3)
        second = images(site, limit=3, cursor=first["metadata"]["nextCursor"])
        assert ids(iter([second])) == [2, 3, 4]
        assert ids(pages(first)) == [0, 1, 2, 2, 3, 4, 4, 5, 6]
        assert isinstance(first["metadata"]["nextCursor"], int if numeric else str)


def test_pages_of_one_image_end_although_items_repeat() -> None:
    with Site([picture(n) for n in range(3)]) as site:
        assert ids(pages(images(site, limit=1))) == [0, 1, 2]


def test_the_last_page_has_neither_cursor_nor_link() -> None:
    with Site([picture(1)]) as site:
        assert images(site)["metadata"] == {}


def test_limits_are_brought_into_the_range_the_site_allows() -> None:
    with Site([picture(n) for n in range(9)], page_size_cap=4) as site:
        assert [len(images(site, limit=limit)["items"]) for limit in (0, 3, 999)] == [1, 3, 4]


@pytest.mark.parametrize("query", [{"limit": "many"}, {"cursor": "x"}, {"nsfw": "Spicy"}])
def test_a_query_that_makes_no_sense_is_a_400(query: dict[str, str]) -> None:
    with Site([picture(1)]) as site:
        response = requests.get(f"{site.url}/api/v1/images", params=query, timeout=2)
        assert response.status_code == 400
        assert "error" in response.json()


def test_meta_comes_only_when_asked_for_and_next_page_forgets_the_question() -> None:
    with Site([picture(1, meta={"seed": 7}, negative_prompt="blur"), picture(2)]) as site:
        assert images(site)["items"][0]["meta"] is None
        answer = images(site, limit=1, withMeta="true", username="painter")
        assert answer["items"][0]["meta"] == {
            "seed": 7,
            "prompt": "picture 1",
            "negativePrompt": "blur",
        }
        assert "withMeta" not in answer["metadata"]["nextPage"]
        assert "username=painter" in answer["metadata"]["nextPage"]
        following = requests.get(answer["metadata"]["nextPage"], timeout=2).json()
        assert following["items"][0]["meta"] is None


def test_meta_may_be_nested_one_deeper_and_is_null_without_settings() -> None:
    pictures = [picture(1), picture(2, prompt=None)]
    with Site(pictures, meta_shape="nested") as site:
        metas = [item["meta"] for item in images(site, withMeta="true")["items"]]
    assert metas == [{"id": 1, "meta": {"prompt": "picture 1"}}, {"id": 2, "meta": None}]
    with Site(pictures) as site:
        assert images(site, withMeta="true")["items"][1]["meta"] is None


def test_listings_can_be_narrowed_by_model_author_and_level() -> None:
    pictures = [
        picture(1, model_id=5, nsfw_level="X"),
        picture(2, model_id=5, username="ann", nsfw_level="Soft"),
        picture(3, model_id=6, username="ann"),
    ]
    with Site(pictures) as site:
        assert ids(iter([images(site, modelId=5)])) == [1, 2]
        assert ids(iter([images(site, username="ann")])) == [2, 3]
        assert ids(iter([images(site, nsfw="false")])) == [3]
        assert ids(iter([images(site, nsfw="Soft")])) == [2, 3]
        assert ids(iter([images(site)])) == [1, 2, 3]


def test_an_item_has_what_civitai_says_of_an_image() -> None:
    with Site([picture(3, nsfw_level="X", mime="image/png"), picture(4, url="ftp://x/y")]) as site:
        item, odd = images(site)["items"]
        assert (item["nsfw"], item["nsfwLevel"], item["browsingLevel"]) == (True, "X", 16)
        assert (item["width"], item["height"], item["type"]) == (64, 48, "image")
        path = "/images/xG1nkqKTMzGDvpLrqFT7WA/uuid-3/width=450/3.png"
        assert item["url"] == site.url + path
        assert odd["url"] == "ftp://x/y"


def test_models_of_2023_are_paged_by_number_and_hold_meta() -> None:
    pictures = [picture(n, model_id=n // 2, version_id=n % 2 + 10) for n in range(6)]
    with Site(pictures) as site:
        answers = list(pages(models(site, limit=2)))
        assert ids(iter(answers)) == [0, 1, 2]
        counts = {"totalItems": 3, "currentPage": 1, "pageSize": 2, "totalPages": 2}
        assert counts.items() <= answers[0]["metadata"].items()
        assert "prevPage" in answers[1]["metadata"]
        model = answers[0]["items"][1]
        assert [version["id"] for version in model["modelVersions"]] == [10, 11]
        image = model["modelVersions"][0]["images"][0]
        assert (image["nsfw"], image["meta"]) == ("None", {"prompt": "picture 2"})
        assert model["creator"]["username"] == "painter"
        assert model["allowCommercialUse"] == "Image"


def test_models_of_2026_are_paged_by_cursor_and_only_tell_of_meta() -> None:
    pictures = [picture(n, model_id=n, nsfw_level="Mature") for n in range(3)]
    with Site(pictures, models_shape="2026") as site:
        answer = models(site, limit=2)
        assert ids(pages(answer)) == [0, 1, 2]
        assert set(answer["metadata"]) == {"nextCursor", "nextPage"}
        image = answer["items"][0]["modelVersions"][0]["images"][0]
        assert (image["hasMeta"], image["nsfwLevel"], "meta" in image) == (True, 4, False)


# Faults of the API


@pytest.mark.parametrize("fault", ["429", "500", "502", "503", "524", "403_html"])
def test_an_api_error_is_answered_with_its_status_then_all_is_well(fault: str) -> None:
    with Site([picture(1)], api_faults={0: fault}) as site:
        response = requests.get(f"{site.url}/api/v1/images", timeout=2)
        assert response.status_code == int(fault[:3])
        assert response.headers.get("Retry-After") == ("1" if fault == "429" else None)
        assert ids(iter([images(site)])) == [1]


@pytest.mark.parametrize("fault", ["html_200", "malformed_json", "not_an_object", "items_missing"])
def test_an_api_answer_may_be_200_and_useless_then_all_is_well(fault: str) -> None:
    with Site([picture(1)], api_faults={1: fault}) as site:
        assert ids(iter([images(site)])) == [1]
        response = requests.get(f"{site.url}/api/v1/images", timeout=2)
        assert response.status_code == 200
        try:
            answer = response.json()
        except requests.exceptions.JSONDecodeError:
            answer = None
        assert not (isinstance(answer, dict) and "items" in answer)
        assert ids(iter([images(site)])) == [1]


@pytest.mark.parametrize("fault", ["stall", "reset"])
def test_an_api_request_may_go_unanswered_then_all_is_well(fault: str) -> None:
    with Site([picture(1)], api_faults={0: fault}) as site:
        with pytest.raises(SLOW_TO_ANSWER):
            requests.get(f"{site.url}/api/v1/images", timeout=TIMEOUT_S)
        assert ids(iter([images(site)])) == [1]


def test_an_api_request_may_be_sent_to_another_host() -> None:
    with Site([picture(1)], api_faults={0: "redirect_other_host"}) as site:
        url = f"{site.url}/api/v1/images?limit=1"
        response = requests.get(url, timeout=2, allow_redirects=False)
        assert response.status_code == 302
        assert response.headers["Location"] == url.replace("127.0.0.1", "localhost")


def test_api_requests_are_remembered_in_order() -> None:
    with Site([picture(1)], api_faults={0: "500"}) as site:
        requests.get(f"{site.url}/api/v1/images?limit=5", timeout=2)
        models(site)
        assert site.api_requests == ["/api/v1/images?limit=5", "/api/v1/models"]


# Images and their faults


def test_an_image_is_served_at_any_width_and_each_request_counted() -> None:
    with Site([picture(1), picture(2)]) as site:
        listed = images(site)["items"][0]["url"]
        for size in ("width=450", "width=64", "original=true", "anim=false,width=450"):
            response = requests.get(listed.replace("width=450", size), timeout=2)
            assert (response.content, response.headers["Content-Type"]) == (DATA, "image/jpeg")
        assert site.image_requests == {"uuid-1": 4}
        assert requests.get(listed.replace("width=450", "big"), timeout=2).status_code == 404
        assert requests.get(listed.replace("uuid-1", "uuid-9"), timeout=2).status_code == 404


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("not_found", 404),
        ("gone", 410),
        ("forbidden", 403),
        ("server_error", 500),
        ("rate_limited", 429),
    ],
)
def test_an_image_may_be_refused(fault: str, status: int) -> None:
    assert fetch(fault).status_code == status


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        ("server_error_once", 500),
        ("unavailable_once", 503),
        ("rate_limited_once", 429),
        ("rate_limited_date_once", 429),
    ],
)
def test_a_fault_that_comes_once_is_gone_at_the_second_attempt(fault: str, status: int) -> None:
    with Site([picture(1, fault=fault)]) as site:
        url = images(site)["items"][0]["url"]
        first, second = requests.get(url, timeout=2), requests.get(url, timeout=2)
        assert (first.status_code, second.status_code) == (status, 200)
        assert second.content == DATA
        assert (fault == "server_error_once") == ("Retry-After" not in first.headers)


@pytest.mark.parametrize("fault", ["stall", "stall_before_headers", "stall_once"])
def test_a_stalled_image_never_comes(fault: str) -> None:
    with pytest.raises(SLOW_TO_ANSWER):
        fetch(fault, timeout=0.1)


@pytest.mark.parametrize("fault", ["reset_mid_body", "short_body"])
def test_a_connection_may_break_in_the_middle_of_an_image(fault: str) -> None:
    with pytest.raises(
        (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)
    ):
        fetch(fault)


@pytest.mark.parametrize("fault", ["slow_drip", "endless_body", "huge_content_length"])
def test_some_bodies_have_no_end(fault: str) -> None:
    with Site([picture(1, fault=fault), picture(2)]) as site:
        bad, good = (item["url"] for item in images(site)["items"])
        with requests.get(bad, timeout=1, stream=True) as response:
            wanted = 2 if fault == "slow_drip" else 1_000_000
            assert len(response.raw.read(wanted)) == wanted
            length = response.headers.get("Content-Length")
            assert length == ("10000000000" if fault == "huge_content_length" else None)
            assert requests.get(good, timeout=2).content == DATA


@pytest.mark.parametrize("fault", ["slow_ok", "gzip_ok", "mislabelled", "redirect_ok"])
def test_some_odd_ways_still_bring_the_picture(fault: str) -> None:
    assert fetch(fault, timeout=2).content == DATA


@pytest.mark.parametrize(("fault", "hops"), [("redirect_relative", 1), ("redirect_chain", 3)])
def test_redirects_lead_to_the_picture(fault: str, hops: int) -> None:
    response = fetch(fault)
    assert (response.content, len(response.history)) == (DATA, hops)


@pytest.mark.parametrize(
    ("fault", "target"),
    [
        ("redirect_private", "http://10.0.0.1/x.jpg"),
        ("redirect_metadata", "http://169.254.169.254/latest/meta-data"),
        ("redirect_ipv6_mapped", "http://[::ffff:10.0.0.1]/x"),
        ("redirect_file", "file:///etc/passwd"),
        ("redirect_no_location", None),
    ],
)
def test_redirects_may_lead_where_nobody_should_follow(fault: str, target: str | None) -> None:
    response = fetch(fault, allow_redirects=False)
    assert (response.status_code, response.headers.get("Location")) == (302, target)


def test_a_redirect_loop_has_no_end() -> None:
    with pytest.raises(requests.exceptions.TooManyRedirects):
        fetch("redirect_loop")


def test_a_gzip_bomb_grows_a_thousandfold() -> None:
    with Site([picture(1, fault="gzip_bomb")]) as site:
        url = images(site)["items"][0]["url"]
        with requests.get(url, timeout=1, stream=True) as response:
            sent = response.raw.read(50_000, decode_content=False)
    assert len(zlib.decompressobj(31).decompress(sent)) > 40_000_000


@pytest.mark.parametrize(
    "fault", ["truncated_file", "html_page", "svg", "empty", "corrupt", "flipped_header"]
)
def test_a_whole_answer_may_not_be_an_image(fault: str) -> None:
    response = fetch(fault)
    assert (response.status_code, response.headers["Content-Type"].split(";")[0]) == (
        200,
        "image/jpeg",
    )
    with pytest.raises(OSError):
        Image.open(io.BytesIO(response.content)).load()


@pytest.mark.parametrize(
    ("fault", "tag"),
    [("noai", "noai"), ("noimageai", "noindex, noimageai"), ("noai_other_bot", "examplebot: noai")],
)
def test_opt_out_headers_come_with_the_picture(fault: str, tag: str) -> None:
    response = fetch(fault)
    assert (response.headers["X-Robots-Tag"], response.content) == (tag, DATA)


def test_brotli_may_be_claimed_without_being_sent() -> None:
    with Site([picture(1, fault="brotli_label")]) as site:
        url = images(site)["items"][0]["url"]
        with requests.get(url, timeout=1, stream=True) as response:
            assert response.headers["Content-Encoding"] == "br"


# Starting and stopping


def test_stopping_is_quick_and_leaves_no_thread_though_clients_wait() -> None:
    site = Site(
        [picture(1, fault="stall"), picture(2, fault="endless_body")], api_faults={1: "stall"}
    )
    site.start()
    stalled, endless = (item["url"] for item in images(site)["items"])
    waiting = [requests.get(url, stream=True, timeout=5) for url in (stalled, endless, endless)]
    request = b"GET /api/v1/images HTTP/1.1\r\nHost: x\r\n\r\n"
    port = int(site.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as silent:
        silent.sendall(request)
        started = time.monotonic()
        site.stop()
        assert time.monotonic() - started < 1
        assert not [t for t in threading.enumerate() if t.name == "surd-demo-site"]
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
    for response in waiting:
        response.close()


def test_a_taken_port_is_an_os_error_and_leaves_no_thread() -> None:
    with Site([]) as site:
        other = Site([], port=int(site.url.rpartition(":")[2]))
        with pytest.raises(OSError):
            other.start()
    assert not [t for t in threading.enumerate() if t.name == "surd-demo-site"]


def test_a_site_can_be_started_again_but_not_twice_at_once() -> None:
    site = Site([picture(1)])
    for _ in range(2):
        with site:
            assert ids(iter([images(site)])) == [1]
            with pytest.raises(RuntimeError):
                site.start()
    site.stop()


def test_unknown_names_are_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"'stal' is not one of .*stall"):
        Site([picture(1, fault="stal")])
    with pytest.raises(ValueError, match="nsfw_level"):
        Site([picture(1, nsfw_level="Spicy")])
    with pytest.raises(ValueError, match="api_faults"):
        Site([], api_faults={0: "504"})


def test_the_site_says_what_it_is_and_what_robots_may_read() -> None:
    with Site([]) as site:
        assert "surd" in requests.get(site.url, timeout=2).text
        assert "User-agent: *" in requests.get(f"{site.url}/robots.txt", timeout=2).text


# Image files


REFUSED = {"huge_png", "png_text_bomb", "png_bad_crc"}


def test_awkward_images_decode_and_really_broken_ones_do_not() -> None:
    for name, (data, mime) in broken_images().items():
        if name in REFUSED:
            with pytest.raises((OSError, ValueError, Image.DecompressionBombError)):
                Image.open(io.BytesIO(data)).load()
        else:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                assert Image.MIME[image.format or ""] == mime, name


def test_awkward_images_are_what_their_names_say() -> None:
    made = broken_images()
    assert made == broken_images()
    opened = {n: Image.open(io.BytesIO(d)) for n, (d, _) in made.items() if n not in REFUSED}
    moving = {name for name, image in opened.items() if getattr(image, "n_frames", 1) > 1}
    assert moving == {"animated_gif", "animated_webp", "apng"}
    assert opened["png_16bit"].mode == "I;16"
    assert opened["jpeg_cmyk"].mode == "CMYK"
    assert opened["jpeg_grayscale"].mode == "L"
    assert opened["png_palette"].mode == opened["png_palette_transparent"].mode == "P"
    assert "transparency" in opened["png_palette_transparent"].info
    assert opened["jpeg_progressive"].info["progressive"]
    rotated = opened["jpeg_exif_rotated"]
    assert (rotated.size, ImageOps.exif_transpose(rotated).size) == ((40, 20), (20, 40))
    with pytest.warns(UserWarning, match="EXIF"):
        opened["jpeg_broken_exif"].getexif()


def test_the_huge_png_is_small_on_disk_and_declares_its_size() -> None:
    data, _ = broken_images()["huge_png"]
    assert len(data) < 500_000
    assert struct.unpack(">II", data[16:24]) == (60_000, 60_000)


def test_deflated_zeros_inflate_to_exactly_the_size_asked_for() -> None:
    for size_bytes in (0, 1000, 1 << 20, 3_000_000):
        assert zlib.decompress(b"".join(deflated_zeros(size_bytes)), -15) == bytes(size_bytes)
