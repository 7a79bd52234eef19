"""caption, score, dedup and filter on a small workspace, with the demo's models."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support import digests, rows_of
from support_report import shown_workspace
from support_rounding import assert_only_rounded, rounding

from surd.demo.painter import paint
from surd.demo.reading import read_sentence
from surd.demo.scenes import Scene, matches
from surd.demo.sentences import simple_sentence
from surd.demo.tags import complex_prompt
from surd.models.clip import load_clip

Surd = Callable[..., Any]

SCENES = [
    Scene(3, "red", "heart", "row", "falling"),
    Scene(1, "blue", "cross", "single", "still"),
    Scene(2, "green", "star", "column", "spinning"),
    Scene(4, "yellow", "heart", "ring", "bouncing"),
]
MODELS = [
    "caption.model=demo:captioner",
    "caption.candidates=3",
    "caption.max_new_tokens=24",
    "score.clip=demo:clip",
    "score.nsfw=none",
    "part_size=4",
]

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def sets(*values: str) -> list[str]:
    return [argument for value in (*MODELS, *values) for argument in ("--set", value)]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """Each scene with its prompts, one repeated byte for byte, one broken file."""
    folder = tmp_path / "release"
    folder.mkdir()
    lines = []
    for number, scene in enumerate([*SCENES, SCENES[0]]):
        seed = number % len(SCENES)
        name = f"{number}.png"
        Image.fromarray(paint(scene, seed=seed, size_px=128)).save(folder / name)
        prompts = {"text": simple_sentence(scene, seed=seed)}
        prompts["prompt"] = complex_prompt(scene, seed=number)
        lines.append({"file_name": name, **prompts})
    (folder / "5.png").write_bytes(b"\x89PNG\r\n broken")
    lines.append({"file_name": "5.png", "text": "nothing", "prompt": "masterpiece, nothing at all"})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def test_from_a_release_to_verdicts(surd: Surd, release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "w"
    assert surd("import", "surd", release, "-o", folder, *sets()).code == 0
    for stage in ("caption", "score", "dedup"):
        ran = surd(stage, folder, *sets())
        assert ran.code == 0, ran.err
    captions, clip = rows_of(folder, "captions"), rows_of(folder, "clip")
    assert [row["status"] for row in captions] == ["ok"] * 5 + ["no_image"]
    assert {c["how"] for row in captions for c in row["candidates"]} == {"given"}
    assert clip[0]["simple_prompt"] == simple_sentence(SCENES[0], seed=0)
    assert all(row["cos_simple"] > 0.87 and row["cos_complex"] > 0.87 for row in clip[:5])
    assert clip[5]["status"] == "no_image" and clip[5]["image_embedding"] is None
    ran = surd("filter", folder, *sets("filter.min_side=100"), "--clip-threshold", "0.8", "--json")
    assert ran.json["kept"] == 4
    assert {d["reason"]: d["samples"] for d in ran.json["dropped"]} == {
        "no_image": 1,
        "duplicate": 1,
    }
    again = digests(folder)
    surd("filter", folder, "--json")
    assert digests(folder) == again


def test_filter_says_what_auto_chose_and_what_is_off_stays_off(surd: Surd, tmp_path: Path) -> None:
    folder = shown_workspace(tmp_path / "w", 60).location
    assert "complex_threshold" not in surd("filter", folder).out
    told = surd("filter", folder, "--complex-threshold", "auto")
    assert told.code == 0
    assert "auto: drops at most the lowest tenth, since too few scores" in told.out
    before = digests(Path(folder))
    again = surd("filter", folder, "--json").json["dropped"]
    (chosen,) = [one for one in again if one["reason"] == "complex_threshold"]
    assert f"(threshold {chosen['threshold']:.4g})" in told.out and "auto" in chosen["why"]
    assert digests(Path(folder)) == before


def test_what_is_gone_makes_new_verdicts_and_nothing_else_until_it_is_back(
    surd: Surd, release: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    kept = sets("filter.min_side=100", "filter.clip_threshold=0.8")
    assert surd("import", "surd", release, "-o", folder, *kept).code == 0
    for stage in ("caption", "score", "dedup", "filter"):
        assert surd(stage, folder, "--json").code == 0
    whole = digests(folder)
    (release / "0.png").rename(release / "0.away")
    assert surd("collect", folder, "--refresh", "--json").json["stages"][0]["counts"]["gone"] == 1
    assert (
        "verdicts: 2 stale; 4 keep, 2 drop\n  parts 0-1 stale: gone changed\n"
        in surd("status", folder).out
    )
    assert surd("filter", folder, "--json").json["kept"] == 4, "the same picture, posted again"
    first, *_, repeated, _ = rows_of(folder, "verdicts")
    assert [reason["reason"] for reason in first["reasons"]] == ["gone"] and repeated["keep"]
    now = digests(folder)
    assert {name for name in now if now[name] != whole.get(name)} == {
        "verdicts/part-00000.parquet",
        "verdicts/part-00001.parquet",
    }
    (release / "0.away").rename(release / "0.png")
    assert surd("collect", folder, "--refresh", "--json").json["stages"][0]["counts"]["back"] == 1
    assert surd("filter", folder, "--json").code == 0
    assert digests(folder) == whole


def test_candidates_are_drawn_by_id_and_the_best_is_chosen(
    surd: Surd, release: Path, tmp_path: Path
) -> None:
    def captioned(name: str, *more: str) -> Path:
        folder = tmp_path / name
        surd("import", "surd", release, "-o", folder, *sets("caption.given=ignore", *more))
        for stage in ("caption", "score"):
            assert surd(stage, folder).code == 0
        return folder

    whole, cut = captioned("a"), captioned("b", "caption.batch_size=1", "part_size=1")
    by_id = {row["id"]: row for row in rows_of(whole, "captions")}
    for row in rows_of(cut, "captions"):
        assert row == by_id[row["id"]]
    for captions, clip in zip(rows_of(whole, "captions"), rows_of(whole, "clip"), strict=True):
        if captions["status"] != "ok":
            continue
        texts = [candidate["text"] for candidate in captions["candidates"]]
        assert captions["candidates"][0]["how"] == "beam" and len(set(texts)) == len(texts)
        best = max(range(len(texts)), key=lambda i: clip["candidate_scores"][i])
        assert clip["simple_prompt"] == texts[best]
        assert clip["cos_simple"] == clip["candidate_scores"][best]
    said = [read_sentence(row["simple_prompt"]) for row in rows_of(whole, "clip")[:4]]
    assert [matches(r, s) for r, s in zip(said, SCENES, strict=True)] == [True] * 4


def test_another_number_of_cores_changes_captions_and_scores_by_rounding_alone(
    surd: Surd, release: Path, tmp_path: Path
) -> None:
    for cores in ("1", "3"):
        folder = tmp_path / cores
        surd("import", "surd", release, "-o", folder, *sets("caption.given=ignore"))
        told = [sys.executable, "-m", "surd", "build", "-o", str(folder), "-q", "--until", "score"]
        subprocess.run(told, check=True, env=os.environ | {"OMP_NUM_THREADS": cores})
    one, three = tmp_path / "1", tmp_path / "3"
    assert rows_of(one, "captions") == rows_of(three, "captions")
    here, there = rows_of(one, "clip")[:5], rows_of(three, "clip")[:5]
    for name in ("id", "status", "simple_prompt", "complex_chunks"):
        assert [row[name] for row in here] == [row[name] for row in there]
    images = [row["bytes"] for row in rows_of(one, "images")[:5]]
    computed, exact = (judged(images, here, dtype) for dtype in (torch.float32, torch.float64))
    for name, right in exact.items():
        error = rounding(computed[name], right)
        for row in (here, there):
            stored = np.float16 if name == "image_embedding" else np.float32
            assert_only_rounded(np.array([one[name] for one in row], stored), right, error)


@torch.inference_mode()
def judged(
    images: list[bytes], prompts: list[dict[str, Any]], dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """By open_clip alone, one picture at a time: its embedding, and the simple prompt's cosine."""
    clip = load_clip("demo:clip")
    model = clip.model.to(dtype)
    pixels = [clip.preprocess(Image.open(io.BytesIO(data)).convert("RGB")) for data in images]
    seen = torch.cat([model.encode_image(one[None].to(dtype), normalize=True) for one in pixels])
    texts = clip.tokenize([row["simple_prompt"] for row in prompts])
    read = model.encode_text(texts, normalize=True)
    return {"image_embedding": seen, "cos_simple": (seen * read).sum(dim=-1)}


def test_a_prompt_beyond_the_window_is_scored_in_pieces(tmp_path: Path) -> None:
    clip = load_clip("demo:clip")
    tags = "3 heart, red, row, falling, masterpiece, best quality, highres"
    pieces = clip.split(", ".join([tags] * 5))
    assert len(pieces) > 1
    assert all(clip.count_tokens(piece) <= clip.context_tokens for piece in pieces)
    assert ", ".join(pieces) == ", ".join([tags] * 5)
    assert clip.split(tags) == [tags]
    assert clip.split("") == [""]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["score", "DIR"], "captions is missing; first run: surd caption"),
        (["filter", "DIR"], "first run: surd score"),
        (["filter", "DIR", "--suggest"], "first run: surd score"),
        (["filter", "DIR", "--clip-threshold", "1.5"], "between -1 and 1"),
        (["filter", "DIR", "--clip-threshold", "p101"], "p0 to p100"),
        (["filter", "DIR", "--max-nsfw", "2"], "filter.max_nsfw"),
        (["publish", "DIR"], "first run: surd score"),
        (["caption", "DIR", "--set", "caption.model=/nowhere"], "no such folder"),
        (["caption", "DIR", "--set", "caption.model=demo:captionor"], "available: "),
        (["caption", "DIR", "--set", "caption.device=tpu"], "use auto, cpu or cuda"),
        (["caption", "nowhere"], "not a surd workspace"),
    ],
)
def test_bad_input_is_one_line(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture = io.BytesIO()
    Image.fromarray(paint(SCENES[0], seed=0, size_px=64)).save(picture, "png")
    Path("pictures").mkdir()
    Path("pictures/a.png").write_bytes(picture.getvalue())
    Path("pictures/a.txt").write_text("masterpiece, a red circle")
    assert surd("import", "folder", "pictures", "-o", "DIR", *sets()).code == 0
    ran = surd(*arguments)
    assert ran.code == 2, ran.out + ran.err
    assert says in ran.err and len(ran.err.strip().splitlines()) == 1


def test_when_every_sample_is_dropped_the_next_step_is_named(
    surd: Surd, release: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    surd("import", "surd", release, "-o", folder, *sets())
    for stage in ("caption", "score", "dedup"):
        surd(stage, folder)
    ran = surd("filter", folder, "--clip-threshold", "1.0")
    assert ran.code == 0 and "--suggest" in ran.out
    ran = surd("publish", folder)
    assert ran.code == 2 and "nothing to publish" in ran.err


def test_a_captioner_whose_weights_are_cut_off_or_missing_is_one_line(tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    from surd.errors import ModelError
    from surd.models.captioner import load_captioner
    from surd.models.names import demo_model

    folder = shutil.copytree(demo_model("captioner"), tmp_path / "m")
    whole = load_file(folder / "model.safetensors")
    short = {name: weight for name, weight in whole.items() if "text_decoder" not in name}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="not a captioning BLIP") as caught:
        load_captioner(str(folder))
    assert "\n" not in str(caught.value)
    content = (demo_model("captioner") / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:100_000])
    with pytest.raises(ModelError, match="is cut short") as caught:
        load_captioner(str(folder))
    assert "\n" not in str(caught.value)


def test_an_imported_dataset_takes_the_name_it_is_given(
    surd: Surd, release: Path, tmp_path: Path
) -> None:
    ran = surd("import", "surd", release, "-o", tmp_path / "w", "--name", "mine")
    assert ran.code == 0, ran.err
    assert json.loads((tmp_path / "w" / "surd.json").read_text())["recipe"]["name"] == "mine"
