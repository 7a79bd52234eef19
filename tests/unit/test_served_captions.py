"""Captions from an OpenAI-compatible server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pydantic import ValidationError
from support import jpeg
from support_chat import MODEL, ChatServer, picture_of

from surd.errors import ModelError
from surd.models.captioner import load_captioner
from surd.models.captions import QUESTIONS
from surd.models.names import identity, public_name, server_of
from surd.params import lasting
from surd.stages.base import Batch, settings_fingerprint
from surd.stages.caption import STAGE, CaptionParams, open_

ROWS = 10
BATCH = 4


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surd.net.chat._MAX_PAUSE_S", 0.01)


def batches(count: int = ROWS, **columns: Any) -> Iterator[Batch]:
    for first in range(0, count, BATCH):
        numbers = range(first, min(first + BATCH, count))
        nothing = pa.nulls(len(numbers), pa.string())
        yield Batch(
            pa.table(
                {
                    "id": [f"{number:032x}" for number in numbers],
                    "bytes": pa.array([jpeg(number) for number in numbers], pa.large_binary()),
                    "simple_prompt": nothing,
                    **{name: values[first : first + BATCH] for name, values in columns.items()},
                }
            )
        )


def captioned(server: ChatServer, rows: Any = None, **params: Any) -> list[dict[str, Any]]:
    params = {"model": server.name, "candidates": 3, "retries": 1, **params}
    tables = open_(CaptionParams(**params))(batches() if rows is None else rows)
    return [row for table in tables for row in table.to_pylist()]


def texts(row: dict[str, Any]) -> list[str]:
    return [candidate["text"] for candidate in row["candidates"]]


def test_every_picture_gets_its_likeliest_caption_and_its_samples() -> None:
    with ChatServer() as server:
        rows = captioned(server)
    assert [int(row["id"], 16) for row in rows] == list(range(ROWS))
    assert {row["status"] for row in rows} == {"ok"} and {row["detail"] for row in rows} == {None}
    assert all(
        [c["how"] for c in row["candidates"]] == ["greedy", *2 * ["nucleus"]] for row in rows
    )
    assert len({text for row in rows for text in texts(row)}) == 3 * ROWS
    assert len(server.bodies) == 2 * ROWS


def test_the_server_is_asked_in_full_and_a_seed_is_the_samples_own() -> None:
    with ChatServer() as server:
        captioned(server, batches(1), prompt="What is it?", seed=7, top_p=0.5, max_new_tokens=33)
    first, second = server.bodies
    image, text = first["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is it?"}
    assert image["image_url"]["url"].startswith("data:image/jpeg;base64,")
    asked = {"model": MODEL, "max_tokens": 33, "seed": 7}
    assert {k: v for k, v in first.items() if k != "messages"} == {**asked, "temperature": 0}
    assert {k: v for k, v in second.items() if k != "messages"} == {
        **asked, "temperature": 1, "top_p": 0.5, "n": 2
    }  # fmt: skip
    with ChatServer() as server:
        captioned(server, batches(1), candidates=1)
    assert server.bodies[0]["messages"][0]["content"][1]["text"] == QUESTIONS["simple"]
    assert len(server.bodies) == 1


@pytest.mark.parametrize(("size", "sent"), [((640, 480), (96, 72)), ((40, 64), (40, 64))])
def test_pictures_are_scaled_down_to_the_side_that_is_set(
    size: tuple[int, int], sent: tuple[int, int]
) -> None:
    data = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(data, "PNG")
    rows = batches(1, bytes=pa.array([data.getvalue()], pa.large_binary()))
    with ChatServer() as server:
        captioned(server, rows, image_side=96, candidates=1)
    picture = Image.open(io.BytesIO(picture_of(server.bodies[0])))
    assert picture.size == sent and picture.format == "JPEG"


def test_a_server_without_n_is_asked_for_each_sample() -> None:
    with ChatServer(takes_n=False) as server:
        rows = captioned(server)
    assert all(len(set(texts(row))) == 3 for row in rows)
    with ChatServer(fault=lambda body, _: "refused" if "n" in body else None) as refusing:
        again = captioned(refusing)
    assert [row["candidates"] for row in again] == [row["candidates"] for row in rows]


def test_a_picture_that_is_refused_is_a_row_that_says_why() -> None:
    with ChatServer() as server:
        good = captioned(server)
        refused = server.bodies[-1]["messages"]
        server.fault = lambda body, _: "refused" if body["messages"] == refused else None
        rows = captioned(server)
    [bad] = [row for row in rows if row["status"] != "ok"]
    assert (bad["status"], bad["detail"]) == ("no_answer", "HTTP 400: no way")
    assert not bad["candidates"]
    assert [row for row in rows if row != bad] == [row for row in good if row["id"] != bad["id"]]


@pytest.mark.parametrize(
    ("fault", "says", "why"),
    [
        ("500", "A cup.", "HTTP 500: out of memory"),
        ("html", "A cup.", "HTTP 502"),
        (None, "", "an answer without words"),
        (None, "<think> It may be", "Instruct versions"),
    ],
)
def test_a_server_that_captions_no_picture_ends_the_run_and_leaves_no_row(
    fault: str | None, says: str, why: str
) -> None:
    given = []
    with ChatServer(fault=lambda *_: fault, say=lambda _: says, max_tokens=3) as server:
        params = CaptionParams(model=server.name, candidates=1, retries=0)
        with pytest.raises(ModelError, match=r"none of \d+ pictures got a caption") as error:
            given += list(open_(params)(batches(20)))
    assert why in str(error.value) and not given


def test_first_pictures_without_a_caption_are_rows_where_others_have_theirs() -> None:
    with ChatServer() as server:
        captioned(server, batches(8))
        refused = [body["messages"] for body in server.bodies]
        server.fault = lambda body, _: "refused" if body["messages"] in refused else None
        whole = pa.concat_tables([batch.table for batch in batches(20)])
        rows = captioned(server, [Batch(whole)])
    assert [row["status"] for row in rows] == ["no_answer"] * 8 + ["ok"] * 12


def test_given_captions_of_a_picture_without_an_answer_stay_and_it_is_not_done() -> None:
    with ChatServer(fault=lambda *_: "500") as server:
        rows = captioned(
            server, batches(2, simple_prompt=pa.array(["a cup", None])), given="compete", retries=0
        )
    assert [row["status"] for row in rows] == ["no_answer", "no_answer"]
    assert texts(rows[0]) == ["a cup"] and not texts(rows[1])
    assert "no_answer" in STAGE.passing and "no_answer" not in STAGE.final


def test_captions_that_are_cut_keep_their_whole_sentences() -> None:
    say = lambda body: "A cat sits. It looks at the moon."  # noqa: E731
    with ChatServer(say=say, max_tokens=5) as server:
        [row] = captioned(server, batches(1))
    assert (row["status"], texts(row)) == ("ok", ["A cat sits"])
    with ChatServer(say=say, max_tokens=2) as server:
        [row] = captioned(server, batches(1))
    assert row["status"] == "empty" and "raise caption.max_new_tokens" in row["detail"]


def test_thoughts_are_no_caption_and_those_that_are_cut_are_told() -> None:
    say = lambda body: "<think>\nA dog. It may be.\n</think>\n\nA cat sits."  # noqa: E731
    with ChatServer(say=say) as server:
        [row] = captioned(server, batches(1), candidates=1)
        assert texts(row) == ["A cat sits"]
        server.max_tokens = 5
        [row] = captioned(server, batches(1), candidates=1)
    assert row["status"] == "empty" and "take their Instruct versions" in row["detail"]


def test_what_a_caption_is_wrapped_in_is_taken_off_and_kept_as_said() -> None:
    said = '```json {"caption": "A cup."} ```'
    with ChatServer(say=lambda body: said.replace(" ", "\n")) as server:
        [row] = captioned(server, batches(1), candidates=1)
    assert row["candidates"] == [{"text": "A cup", "raw": said, "how": "greedy"}]


def test_rows_are_given_out_as_they_are_done_and_not_batch_by_batch() -> None:
    whole = pa.concat_tables([batch.table for batch in batches(20)])
    with ChatServer() as server:
        params = CaptionParams(model=server.name, candidates=1, concurrency=1)
        tables = list(open_(params)([Batch(whole)]))
    assert [table.num_rows for table in tables] == [8, 8, 4]
    assert pa.concat_tables(tables)["id"].to_pylist() == whole["id"].to_pylist()


def test_captions_of_broken_characters_are_rows_like_others() -> None:
    with ChatServer(say=lambda body: "A cat\ud83d\x00 sits\nthere.") as server:
        [row] = captioned(server, batches(1))
    assert texts(row) == ["A cat sits there"]


def test_pictures_of_later_batches_are_with_the_server_meanwhile() -> None:
    with ChatServer(service_s=0.02, width=4) as server:
        captioned(server, batches(100), candidates=1, concurrency=8)
    assert server.peak == 8 > BATCH


def test_a_server_that_is_gone_ends_the_run_with_what_to_do() -> None:
    with ChatServer() as server:
        pass
    with pytest.raises(ModelError, match="start it first"):
        captioned(server)


def test_nothing_is_asked_for_pictures_that_need_no_caption() -> None:
    with ChatServer() as server:
        pass
    given = batches(2, simple_prompt=pa.array(["a cup", "a mug"]))
    assert [texts(row) for row in captioned(server, given)] == [["a cup"], ["a mug"]]


ONE, OTHER = "openai:http://localhost:8000/v1#a/b", "openai:https://example.org/v1#a/b"


def test_the_address_is_not_in_the_fingerprint_and_what_is_asked_is() -> None:
    def of(**params: Any) -> str:
        return settings_fingerprint(STAGE, CaptionParams(**params))

    assert of(model=ONE) == of(model=OTHER) == of(model="openai:a/b")
    assert of(model=ONE, concurrency=2, timeout_s=1, key_variable="K") == of(model=ONE)
    others = [{"model": f"{ONE}c"}, {"model": "a/b"}, {"prompt": "?"}, {"image_side": 512},
              {"seed": 1}, {"top_p": 0.5}, {"max_new_tokens": 9}]  # fmt: skip
    assert len({of(**{"model": ONE, **other}) for other in [{}, *others]}) == 8
    assert "example.org" not in str(lasting(CaptionParams(model=OTHER)))


def test_parts_that_blip_captioned_before_servers_came_are_still_fresh() -> None:
    assert "image_side" not in lasting(CaptionParams())
    assert lasting(CaptionParams(image_side=512))["image_side"] == 512


def test_names_of_models_on_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert server_of(ONE) == ("http://localhost:8000/v1", "a/b")
    assert server_of("a/b") is None
    assert (identity(ONE), public_name(ONE)) == ("openai:a/b", "a/b")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ModelError, match="name its server"):
        server_of("openai:a/b")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gpu:8000/v1/")
    assert server_of("openai:a/b") == ("http://gpu:8000/v1", "a/b")
    monkeypatch.setenv("OPENAI_BASE_URL", "gpu:8000")
    with pytest.raises(ModelError, match="OPENAI_BASE_URL: 'gpu:8000' is not an address"):
        server_of("openai:a/b")
    with pytest.raises(ModelError, match="a server can caption"):
        load_captioner(ONE)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("openai:http://localhost:8000/v1", "behind a #"),
        ("openai:http://me:secret@host/v1#m", "OPENAI_API_KEY"),
        ("openai:", "name the server's model"),
        ("openai:localhost:8000/v1#m", "not an address"),
        ("openai:http:///v1#m", "not an address"),
        ("openai:http://[::1/v1#m", "not an address"),
        ("openai:http://host:99999/v1#m", "not an address"),
        ("openai:http://a b/v1#m", "not an address"),
    ],
)
def test_names_that_cannot_be_meant_are_refused(name: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        CaptionParams(model=name)
    with pytest.raises(ModelError, match=why):
        server_of(name)
