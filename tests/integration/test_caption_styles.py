"""Dense captions and tags from the recipe to the dataset, the report and the viewer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image
from support import digests, rows_of
from support_chat import ChatServer
from support_tagger import save_tagger

from surd.demo.painter import paint
from surd.demo.scenes import Scene
from surd.models.captions import QUESTIONS
from surd.store.workspace import Workspace

Surd = Callable[..., Any]

SCENES = [
    Scene(3, "red", "circle", "row", "falling"),
    Scene(1, "blue", "star", "single", "still"),
    Scene(2, "green", "square", "column", "spinning"),
]
DENSE = "caption.styles=[simple, dense]"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def say(body: dict[str, Any]) -> str:
    is_dense = question_of(body) == QUESTIONS["dense"]
    return "A cup stands on a table. It is red." if is_dense else "A red cup."


def question_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"][1]["text"])


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, scene in enumerate(SCENES):
        Image.fromarray(paint(scene, seed=number, size_px=64)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"masterpiece, art {number}")
    return folder


def build(surd: Surd, folder: Path, pictures: Path, server: ChatServer) -> Any:
    sets = [
        f"sources.0.path={pictures}", f"caption.model={server.name}", "caption.candidates=1",
        "score.clip=demo:clip", "score.nsfw=none", "part_size=2", "filter.clip_threshold=-1",
        "filter.complex_threshold=-1", "filter.min_side=16", "publish.validation=0",
        "publish.test=0", "filter.min_words=null",
    ]  # fmt: skip
    options = [argument for one in sets for argument in ("--set", one)]
    return surd("build", "folder", "-o", folder, "-q", *options)


def test_styles_that_are_asked_for_later_recompute_no_simple_prompt(
    surd: Surd, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    with ChatServer(say=say) as server:
        ran = build(surd, folder, pictures, server)
        assert ran.code == 0, ran.err
        before = digests(folder)
        assert len(server.bodies) == 3 and not (folder / "dense").exists()
        server.bodies.clear()

        ran = surd("caption", folder, "--set", DENSE)
        assert ran.code == 0, ran.err
        assert "caption: 3 rows; 0 parts computed, 2 up to date" in ran.out
        assert "dense: 3 rows; 2 parts computed" in ran.out
        assert [question_of(body) for body in server.bodies] == 3 * [QUESTIONS["dense"]]
        after = digests(folder)
        assert {name: after[name] for name in before if "dataset" not in name} == {
            name: found for name, found in before.items() if "dataset" not in name
        }
        server.bodies.clear()
        assert surd("publish", folder, "-q").code == 0
        assert surd("build", "-o", folder, "-q").code == 0 and not server.bodies
        (published,) = (folder / "dataset").glob("*.parquet")
        table = pq.read_table(published)
        assert set(table["dense_caption"].to_pylist()) == {"A cup stands on a table. It is red."}
        assert set(table["simple_prompt"].to_pylist()) == {"A red cup"}
        card = (folder / "dataset" / "README.md").read_text()
        assert "| `dense_caption` | a detailed caption" in card and "max_new_tokens: 300" in card

        changed = surd("publish", folder, "--set", "caption.dense.max_new_tokens=50")
        assert changed.code == 2
        assert "dense captions of part 0 are stale (settings changed); run: surd caption" in (
            changed.err
        )
        ran = surd("build", "-o", folder, "-q", "--set", "caption.styles=[simple]")
        assert ran.code == 0 and not server.bodies
        (published,) = (folder / "dataset").glob("*.parquet")
        assert pq.read_table(published)["dense_caption"].null_count == 3


def test_captions_that_are_newer_than_their_scores_are_not_passed_over(
    surd: Surd, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    with ChatServer(say=say) as server:
        assert build(surd, folder, pictures, server).code == 0
        server.say = lambda body: "A blue cup."
        told = surd("caption", folder, "-q", "--set", "caption.prompt=What is it?")
        assert told.out.endswith(f"next: surd score {folder}, or surd build -o {folder}\n")
        judged = surd("filter", folder, "-q")
        assert judged.code == 0 and "captions of part 0 are newer than its scores" in judged.err
        assert judged.out.endswith(f"next: surd score {folder}, or surd build -o {folder}\n")
        before = digests(folder)
        refused = surd("publish", folder, "-q")
        assert refused.code == 2 and "captions of part 0 are newer than its scores" in refused.err
        assert f"run: surd score {folder}" in refused.err and digests(folder) == before
        told = surd("build", "-o", folder, "-q", "--until", "score")
        assert f"next: surd dedup {folder}, or surd build -o {folder}\n" in told.out
        until = ("--until", "filter", "--set", "filter.min_side=100")
        assert "several reasons): 3 min_side; more: surd" in surd("build", "-o", folder, *until).out
        assert surd("build", "-o", folder, "-q", "--set", "filter.min_side=16").code == 0
    (published,) = (folder / "dataset").glob("*.parquet")
    assert set(pq.read_table(published)["simple_prompt"].to_pylist()) == {"A blue cup"}


def test_tags_are_a_style_too_and_all_is_shown(surd: Surd, pictures: Path, tmp_path: Path) -> None:
    folder, tagger = tmp_path / "w", save_tagger(tmp_path / "tagger")
    (pictures / "broken.png").write_bytes(b"\x89PNG\r\n broken")
    (pictures / "broken.txt").write_text("masterpiece")
    with ChatServer(say=say) as server:
        assert build(surd, folder, pictures, server).code == 0
        styles = ("--set", "caption.styles=[simple, tags]", "--set", f"caption.tags.model={tagger}")
        low = ("--set", "caption.tags.min_general=0", "--set", "caption.tags.min_character=0")
        ran = surd("build", "-o", folder, *styles, *low)
    assert ran.code == 0, ran.err
    assert len(server.bodies) == 3
    found = rows_of(folder, "tags")
    assert sorted(row["status"] for row in found) == ["no_image", "ok", "ok", "ok"]
    [shown, *_] = [row for row in found if row["tags"]]
    assert "red theme" in shown["tags"].split(", ")
    states = json.loads(surd("status", folder, "--json").out)["groups"]
    assert states["tags"]["states"] == {"fresh": 2} and "dense" not in states
    assert surd("report", folder, "-q").code == 0
    assert "red theme" in (folder / "report" / "index.html").read_text()
    assert "red theme" in surd("inspect", folder, shown["id"], "--all").out


def test_a_style_that_no_model_can_write_does_not_stay(
    surd: Surd, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w"
    blip = tmp_path / "blip"
    blip.mkdir()
    (blip / "config.json").write_text(json.dumps({"model_type": "blip"}))
    with ChatServer(say=say) as server:
        assert build(surd, folder, pictures, server).code == 0
        wrong = surd("caption", folder, "--set", DENSE, "--set", f"caption.dense.model={blip}")
        assert wrong.code == 2 and "set caption.dense.model" in wrong.err, wrong.err
        told = Workspace(folder).read_manifest().recipe["caption"]
        assert told["styles"] == ["simple"] and told["dense"]["model"] is None
        opened = Path.open

        def refuse(self: Path, *arguments: Any, **named: Any) -> Any:
            if self.name == "config.json" and self.parent == blip:
                raise PermissionError(13, "Permission denied")
            return opened(self, *arguments, **named)

        with monkeypatch.context() as patched:
            patched.setattr(Path, "open", refuse)
            wrong = surd("caption", folder, "--set", DENSE, "--set", f"caption.dense.model={blip}")
            assert wrong.code == 2 and "config.json cannot be read" in wrong.err, wrong.err
            assert Workspace(folder).read_manifest().recipe["caption"] == told
            assert surd("status", folder).code == 0
        assert surd("build", "-o", folder, "-q").code == 0
        wrong = surd("build", "-o", folder, "-q", "--set", "caption.styles=[dense]")
        assert wrong.code == 2 and "simple cannot be left out" in wrong.err
