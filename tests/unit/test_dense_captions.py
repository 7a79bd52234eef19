"""Dense captions, beside the simple ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support import jpeg
from support_chat import ChatServer
from support_vlm import saved as saved_vlm

from surd.errors import ModelError
from surd.models.captioner import load_captioner
from surd.models.captions import QUESTIONS, Proposal, whole_sentences
from surd.models.questions import question_for
from surd.stages import caption, dense
from surd.stages.base import Batch, settings_fingerprint
from surd.stages.caption import CaptionParams
from surd.stages.dense import DenseOptions, params_from

LONG = "A cup on a table. It is 3.5 cm wide"


def captioned(count: int = 3, **settings: Any) -> list[dict[str, Any]]:
    """Rows of so many pictures and one without."""
    pictures = pa.array([*(jpeg(number) for number in range(count)), None], pa.large_binary())
    ids = [f"{number:032x}" for number in range(len(pictures))]
    told, own = CaptionParams(retries=0, model=settings.pop("model")), DenseOptions(**settings)
    tables = dense.open_(params_from(told, own))([Batch(pa.table({"id": ids, "bytes": pictures}))])
    return [row for table in tables for row in table.to_pylist()]


def test_a_server_is_asked_for_one_detailed_paragraph_of_each_picture() -> None:
    with ChatServer(say=lambda body: "A cup.\n\nIt is  red.") as server:
        *rows, none = captioned(model=server.name)
    assert [(row["status"], row["dense_caption"]) for row in rows] == 3 * [
        ("ok", "A cup. It is red.")
    ]
    assert (none["status"], none["dense_caption"]) == ("no_image", None)
    assert len(server.bodies) == 3
    body = server.bodies[0]
    assert body["messages"][0]["content"][1]["text"] == QUESTIONS["dense"]
    assert (body["max_tokens"], body["temperature"]) == (300, 0) and "n" not in body


def test_the_question_and_the_length_are_the_users() -> None:
    with ChatServer() as server:
        captioned(1, model=server.name, prompt="What?", max_new_tokens=77)
    [body] = server.bodies
    assert body["messages"][0]["content"][1]["text"] == "What?" and body["max_tokens"] == 77


def test_a_caption_that_is_cut_keeps_its_whole_sentences_and_failures_are_rows() -> None:
    with ChatServer(say=lambda body: LONG, max_tokens=8) as server:
        assert captioned(1, model=server.name)[0]["dense_caption"] == "A cup on a table."
        server.max_tokens = 3
        row = captioned(1, model=server.name)[0]
        assert (row["status"], row["dense_caption"]) == ("empty", None)
        assert row["detail"].endswith("raise caption.dense.max_new_tokens")
        server.fault = lambda body, before: "refused"
        row = captioned(1, model=server.name)[0]
    assert (row["status"], row["detail"]) == ("no_answer", "HTTP 400: no way")
    assert "no_answer" in dense.STAGE.passing and "no_answer" not in dense.STAGE.final


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (LONG, "A cup on a table."), ("No end", ""), ('He says "go." And', 'He says "go."'),
        ("One. Two!", "One. Two!"), ("", ""),
    ],
)  # fmt: skip
def test_whole_sentences_end_in_a_mark_before_a_space(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole
    assert Proposal(text, "greedy", is_cut=True).whole == whole
    assert Proposal(text, "greedy").whole == text


def test_what_a_caption_is_wrapped_in_is_taken_off_also_of_the_version_before() -> None:
    said = '```json\n{"caption": "A cup. It is red."}\n```'
    with ChatServer(say=lambda body: said) as server:
        row, _ = captioned(1, model=server.name)
    assert row["dense_caption"] == "A cup. It is red."
    rows = pa.Table.from_pylist([{**row, "dense_caption": said}, {**row, "dense_caption": None}])
    upgraded = dense.STAGE.upgrades[1](rows.cast(dense.STAGE.schema), None)
    assert upgraded["dense_caption"].to_pylist() == ["A cup. It is red.", None]


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", ["qwen2.5-vl", "florence-2"])
def test_models_here_write_them_too_and_know_where_they_were_cut(tmp_path: Path, kind: str) -> None:
    folder = saved_vlm(tmp_path / kind, kind)
    rows = captioned(1, model=str(folder), max_new_tokens=1)
    assert [row["status"] for row in rows] == ["empty", "no_image"]
    assert rows[0]["detail"] == "its first sentence is cut; raise caption.dense.max_new_tokens"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", "qwen3_vl", QUESTIONS["dense"]),
        ("fancyfeast/llama-joycaption-beta-one-hf-llava", "llava", "long detailed description"),
        ("florence-community/Florence-2-large", "florence2", "<MORE_DETAILED_CAPTION>"),
    ],
)
def test_each_family_is_asked_in_its_own_words(name: str, kind: str, text: str) -> None:
    assert text in question_for(name, kind, "dense").text


def test_models_that_cannot_be_asked_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "blip"}))
    with pytest.raises(ModelError, match=r"short captions only; set caption\.dense\.model"):
        load_captioner(str(tmp_path), style="dense")
    folder = saved_vlm(tmp_path / "blip-2", "blip-2")
    with pytest.raises(ModelError, match=r"set caption\.dense\.model .* or caption\.dense\.prompt"):
        load_captioner(str(folder), style="dense")
    load_captioner(str(folder), style="dense", prompt="the cat")


def test_styles_change_no_simple_caption_and_simple_ones_change_no_dense_one() -> None:
    def of(params: CaptionParams) -> tuple[str, str]:
        own = params_from(params, params.dense)
        return settings_fingerprint(caption.STAGE, params), settings_fingerprint(dense.STAGE, own)

    plain = of(CaptionParams())
    asked = CaptionParams.model_validate(
        {"styles": ["simple", "dense", "tags"], "dense": {"model": "me/chat"}, "tags": {}}
    )
    assert of(asked)[0] == plain[0] and of(asked)[1] != plain[1]
    assert of(CaptionParams(candidates=2, top_p=0.5, seed=3, prompt="?"))[1] == plain[1]
    assert of(CaptionParams(model="me/other"))[1] != plain[1]
    kept = CaptionParams.model_validate({"model": "me/other", "dense": {"model": "me/own"}})
    changed = kept.model_copy(update={"model": "me/third"})
    assert of(kept)[1] == of(changed)[1]


def test_a_blip_is_refused_before_anything_is_captioned() -> None:
    with pytest.raises(ValueError, match=r"a BLIP; set caption\.dense\.model"):
        CaptionParams(styles=["simple", "dense"])
    CaptionParams(styles=["simple", "tags"])
    CaptionParams(styles=["simple", "dense"], dense=DenseOptions(model="me/chat"))


def test_simple_prompts_cannot_be_left_out() -> None:
    with pytest.raises(ValueError, match="simple cannot be left out"):
        CaptionParams(styles=["dense"])
    assert CaptionParams(styles=["simple", "tags", "tags"]).styles == ["simple", "tags"]
