"""Evaluation: the same noise with and without an adapter, judged, and never drawn twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from support_chat import ChatServer
from support_diffusion import MARKS, make_pipeline, make_published
from support_pickscore import saved as saved_pickscore

from surd import adapter as adapters
from surd.adapter.module import Adapter, AdapterConfig
from surd.demo.painter import paint
from surd.demo.reading import read_pair_sentence, read_sentence
from surd.demo.scenes import ATTRIBUTES, Scene, all_scenes, split_of
from surd.errors import SurdError
from surd.evaluate.answers import is_right
from surd.evaluate.demo_questions import (
    KINDS,
    MANNER_OF,
    ORDER_OF,
    VALIDATION,
    demo_prompts,
)
from surd.evaluate.gap import verdict
from surd.evaluate.judges import exact_judge
from surd.evaluate.measures import Measured, by_kind, row_of
from surd.evaluate.outcomes import Outcomes
from surd.evaluate.pictures import How, draw
from surd.evaluate.prompt import Prompt, Question
from surd.evaluate.quality import load_quality

Surd = Callable[..., Any]
FAST = ("--steps", 2, "--guidance", 3, "--clip", "demo:clip", "--quiet")

pytestmark = MARKS


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sd")
    make_pipeline().save_pretrained(folder)
    return folder


def make_run(folder: Path, diffusion: Path, learnt: bool, width: int = 32) -> Path:
    torch.manual_seed(1)
    small = {"heads": 4, "feed_forward": 32, "network": "encoder", "blend": "residual"}
    adapter = Adapter(AdapterConfig(width=width, **small))
    if learnt:
        torch.nn.init.normal_(adapter.out.weight, std=2.0)
    adapters.save(adapter, folder, about={"training": {"diffusion": str(diffusion)}})
    return folder


def pictures(run: Path) -> dict[str, int]:
    """Path of each picture -> when it was written."""
    root = run / "pictures"
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*.png")}


def test_an_adapter_that_changes_nothing_makes_no_difference(
    surd: Surd, diffusion: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", diffusion, learnt=False)
    liked = saved_pickscore(tmp_path / "liked")
    told = ("--prompts", "demo:plain", "--limit", 4, "--seeds", 2, "--pickscore", liked)
    ran = surd("evaluate", run, *told, *FAST)
    assert ran.code == 0, ran.err
    found = json.loads((run / "evaluation.json").read_text())
    assert set(found["models"]) == {"clip", "pickscore"}
    assert {row["measure"] for row in found["rows"]} == {*KINDS, "clip score", "PickScore"}
    for row in found["rows"]:
        assert row["pictures"] == 8
        is_score = row["measure"] in ("clip score", "PickScore")
        bound = 0 if is_score else pytest.approx(1 - 0.05 ** (1 / 4))
        found = row["difference"]
        assert (found["value"], -found["low"], found["high"]) == (0, bound, bound)
        assert row["p"] == 1.0
    told = json.loads((run / "evaluation.json").read_text())
    assert told["noise"] == [0, 1] and list(told["sets"]) == ["demo:plain"] and told["judge"]
    assert (run / "evaluation.md").read_text().strip() in ran.out
    assert len(pictures(run)) == 2 * 4 * 2
    judged = pq.read_table(run / "evaluation.parquet")
    assert {"questions_right", "clip_score", "pick_score"} <= set(judged.column_names)
    assert not judged["pick_score"].null_count


def test_pictures_are_drawn_once(surd: Surd, diffusion: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", diffusion, learnt=True)
    told = ("evaluate", run, "--prompts", "demo:plain", "--limit", 3, *FAST)
    assert surd(*told, "--seeds", 1).code == 0
    before = pictures(run)
    first = (run / "evaluation.json").read_bytes()
    gone = sorted(before)[0]
    kept = (run / "pictures" / gone).read_bytes()
    (run / "pictures" / gone).unlink()
    assert surd(*told, "--seeds", 1).code == 0
    after = pictures(run)
    assert [name for name in after if after[name] != before[name]] == [gone]
    assert (run / "pictures" / gone).read_bytes() == kept
    assert (run / "evaluation.json").read_bytes() == first
    assert not list(run.glob("evaluation-*"))
    assert surd(*told, "--seeds", 2).code == 0
    assert (run / "evaluation-1.json").read_bytes() == first
    assert json.loads((run / "evaluation.json").read_text())["seeds"] == 2
    more = pictures(run)
    assert len(more) == 2 * len(after)
    assert all(more[name] == when for name, when in after.items())


def test_a_damaged_picture_is_one_line_that_names_it(
    surd: Surd, diffusion: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", diffusion, learnt=False)
    told = ("evaluate", run, "--prompts", "demo:plain", "--limit", 1, "--seeds", 1, *FAST)
    assert surd(*told).code == 0
    path = next((run / "pictures").glob("*/*.png"))
    whole = path.read_bytes()
    for cut in (40, len(whole) // 2):
        path.write_bytes(whole[:cut])
        ran = surd(*told)
        assert ran.code == 2 and f"{path}: cannot be read; delete it" in ran.err
    path.unlink()
    assert surd(*told).code == 0 and path.read_bytes() == whole


def test_every_picture_and_answer_can_be_looked_up(
    surd: Surd, diffusion: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run", diffusion, learnt=True)
    ran = surd("evaluate", run, "--prompts", "demo:complex", "--limit", 2, "--seeds", 1, *FAST)
    assert ran.code == 0, ran.err
    rows = pq.read_table(run / "evaluation.parquet").to_pylist()
    assert len(rows) == 2 * 2 * len(KINDS)
    [told] = [
        row
        for row in json.loads((run / "evaluation.json").read_text())["rows"]
        if row["measure"] == "clip score"
    ]
    for side in ("base", "adapter"):
        scores = {row["prompt"]: row["clip_score"] for row in rows if row["side"] == side}
        assert np.mean(list(scores.values())) == pytest.approx(told[side]["value"])
    ran = surd("export", run, "preferences", "-o", tmp_path / "pairs.parquet", "--by", "clip_score")
    assert ran.code == 0 and "2 pairs decided by clip_score" in ran.out, ran.err
    for row in rows:
        assert (run / "pictures" / row["picture"]).is_file()
        assert row["right"] == (row["said"] == row["wanted"])
        assert row["questions"] == list(KINDS[row["kind"]])


def test_the_exact_judge_finds_the_demos_own_paintings_right() -> None:
    scene = Scene(3, "red", "star", "row", "falling")
    picture = Image.fromarray(paint(scene, seed=1, size_px=96))
    asked = [Question(name, str(getattr(scene, name))) for name in ATTRIBUTES]
    (said,) = exact_judge()([picture], [asked])
    assert said == [question.answer for question in asked]
    (said,) = exact_judge()([Image.new("RGB", (96, 96))], [asked])
    assert "3" not in said  # nothing is read where nothing is


def test_accuracy_is_counted_by_kind_and_paired() -> None:
    """With pictures that are known to be right or wrong, on a stand-in for drawings."""

    class Known:
        def __init__(self, right: Sequence[str]) -> None:
            self.right = right

        def name(self, text: str, seed: int) -> str:
            return f"{text}-{seed}"

        def open(self, text: str, seed: int) -> Any:
            return text in self.right

    prompts = [
        Prompt(text, kind, (Question("?", "yes"),))
        for text, kind in (("a", "action"), ("b", "action"), ("c", "counting"))
    ]
    outcomes = Outcomes()
    drawings: Any = {"base": Known(["a"]), "adapter": Known(["a", "b"])}
    judged = map(row_of, by_kind(
        "mine", prompts, [0, 1], drawings,
        lambda images, questions: [["Yes." if image else "no"] for image in images], outcomes,
    ))  # fmt: skip
    action, counting = judged
    assert (action.measure, action.pictures) == ("action", 4)
    assert (action.base.value, action.adapter.value, action.difference.value) == (0.5, 1.0, 0.5)
    assert action.p == 1.0  # of two scenes one differs
    assert (counting.base.value, counting.adapter.value, counting.p) == (0, 0, 1.0)
    assert sum(outcomes.columns["right"]) == 2 + 4


def test_what_is_no_yes_or_no_is_no_share() -> None:
    sides = {"base": np.array([[30.0], [31.0]]), "adapter": np.array([[20.0], [25.0]])}
    row = row_of(Measured("mine", "brisque", sides, ["a", "b"]))
    assert not row.is_share and (row.p, row.difference.value) == (0.5, -8)
    assert row_of(
        Measured("mine", "right", {s: v > 20 for s, v in sides.items()}, ["a", "b"])
    ).is_share


def test_the_demos_prompts_say_what_they_are_judged_by() -> None:
    held_out = {scene for scene in all_scenes() if split_of(scene) == "test"}
    for name in (*MANNER_OF, *(f"{name}{VALIDATION}" for name in MANNER_OF)):
        for prompt in demo_prompts(name):
            if prompt.kind == "all right":
                reading = read_sentence(prompt.text)
                for question in prompt.questions:
                    assert str(getattr(reading, question.question)) == question.answer
    wanted = [
        {p.kind: p.questions[0].answer for p in demo_prompts("demo:plain")[i : i + len(KINDS)]}
        for i in range(0, len(KINDS) * 5, len(KINDS))
    ]
    for one in wanted:
        scene = Scene(
            int(one["count"]), one["color"], one["shape"], one["arrangement"], one["action"]
        )
        assert scene in held_out
    for name, ordered in ORDER_OF.items():
        for prompt in demo_prompts(name):
            read = read_pair_sentence(prompt.text)
            assert read is not None and read[1] == ordered
            (question,) = prompt.questions
            assert getattr(read[0], question.question) == question.answer


def test_answers_are_compared_by_meaning() -> None:
    assert is_right("Two", "2") and is_right("a red.", "Red")
    assert is_right("grey", "gray") and is_right("Gray cat", "grey cat")
    assert is_right("2 dogs", "2") and is_right("there are two dogs", "2")
    assert not is_right("3", "two") and not is_right("", "yes")
    assert is_right("Yes, it is red.", "yes") and is_right("No.", "no")
    assert not is_right("Yes, it is", "no") and not is_right("It is, yes", "yes")
    assert (
        not is_right("2 dogs", "3") and not is_right("dogs", "2") and not is_right("red 2", "red")
    )


def test_a_killed_drawing_leaves_whole_pictures(
    diffusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import DiffusionPipeline

    pipeline = DiffusionPipeline.from_pretrained(diffusion)
    pipeline.set_progress_bar_config(disable=True)
    real, saved = Image.Image.save, []

    def save(self: Image.Image, fp: Any, format: str | None = None, **params: Any) -> None:
        if len(saved) == 2:
            Path(fp).write_bytes(b"\x89PNG")
            raise KeyboardInterrupt
        real(self, fp, format, **params)
        saved.append(fp)

    told: Any = (pipeline, None, "", ["a", "b", "c"], [0], How("x", 2, 1.0, ""), tmp_path)
    monkeypatch.setattr(Image.Image, "save", save)
    with pytest.raises(KeyboardInterrupt):
        draw(*told, batch=3)
    monkeypatch.undo()
    assert len(list(tmp_path.rglob("*.png"))) == 2
    drawing = draw(*told, batch=3)
    assert all(drawing.open(text, 0).size for text in "abc")


def test_a_server_judges_and_its_address_is_not_told_but_what_is_cut_of_a_prompt(
    surd: Surd, diffusion: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(tmp_path / "run", diffusion, learnt=True)
    questions = [["how many?", "two"], ["b", "No"]]
    asked = {"prompt": "two cups, " * 30, "atom_count": 2, "vqa_list": questions}
    (tmp_path / "set.jsonl").write_text(json.dumps(asked))
    likeliest = {"Two": -0.5, "No": -1.5, "Yes": -2.0}
    with ChatServer(say=lambda body: "two", likeliest=likeliest) as server:
        told = ("--prompts", tmp_path / "set.jsonl", "--vqa", server.name, "--seeds", 1)
        ran = surd("evaluate", run, *told, *FAST)
    assert ran.code == 0, ran.err
    found = json.loads((run / "evaluation.json").read_text())
    value = {row["measure"]: row["base"]["value"] for row in found["rows"]}
    two, no, yes = (np.exp(p) for p in likeliest.values())
    assert value["2 atoms"] == 0 and value["questions right"] == 0.5
    assert value["VQAScore"] == pytest.approx(yes)
    assert value["Soft-TIFA (atoms)"] == pytest.approx((two + no) / 2)
    assert value["Soft-TIFA (prompts)"] == pytest.approx((two * no) ** 0.5)
    assert "1 of 1 prompts are too long, such as two cups, two cups" in caplog.text
    assert found["judge"] == "openai:stand-in/vl" and "127.0.0.1" not in json.dumps(found)


def test_wrong_input_is_one_line(surd: Surd, diffusion: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", diffusion, learnt=False)
    wide = make_run(tmp_path / "wide", diffusion, learnt=False, width=64)
    wrong = {
        "no adapter here": (tmp_path,),
        "width 64": (wide, "--prompts", "demo:plain", "--limit", 1),
        "demo:nothing": (run, "--prompts", "demo:nothing"),
        "neither a prompt file nor a bundled set": (run, "--prompts", tmp_path / "none.txt"),
        "./none: no such folder": (run, "--prompts", "action", "--vqa", "./none"),
        "name one with --vqa": (run, "--prompts", "action", "--vqa", "none"),
        "too large; choose a smaller one": (run, *("--seeds", 2, "--first-seed", 2**63 - 1)),
        "s3://a/b: must be a local path": ("s3://a/b", "--gap"),
        "9,999 steps: this diffusion model takes 1 to 1,000": (
            *(run, "--prompts", "demo:plain", "--limit", 1, "--clip", "none", "--steps", 9999),
        ),
    }
    for said, told in wrong.items():
        ran = surd("evaluate", *FAST, *told)
        assert ran.code == 2 and said in ran.err, ran.err
        assert len(ran.err.strip().splitlines()) == 1


def test_a_quality_metric_needs_pyiqa_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(SurdError, match="pip install pyiqa"):
        load_quality("brisque", torch.device("cpu"))


class Metric:
    """As pyiqa's: of a kind, lower or higher better."""

    lower_better = True

    def __init__(self, mode: str, value: float | None = 1.0, least_px: int = 0) -> None:
        self.metric_mode, self.value, self.least_px = mode, value, least_px

    def __call__(self, pixels: torch.Tensor) -> float:
        if self.value is None:
            raise AssertionError("needs two folders")
        assert pixels.shape[-1] >= self.least_px, "too small"
        return self.value


def test_a_metric_of_more_than_one_picture_is_refused_before_anything_is_drawn(
    surd: Surd, diffusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    from types import SimpleNamespace

    metrics = {
        **{"psnr": Metric("FR"), "fid": Metric("NR", None), "brisque": Metric("NR")},
        "niqe": Metric("NR", least_px=96),
    }
    module = SimpleNamespace(create_metric=lambda name, device: metrics[name])
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    run = make_run(tmp_path / "run", diffusion, learnt=False)
    told = ("evaluate", run, "--prompts", "demo:plain", "--limit", 1, "--seeds", 1, *FAST)
    for name, says in {
        "psnr": "compares a picture with a reference",
        "fid": "does not measure a single picture of 256 x 256 px: needs two folders",
    }.items():
        ran = surd(*told, "--quality", name)
        assert ran.code == 2 and f"--quality {name}: {says}" in ran.err
        assert ran.err.count("\n") == 1 and not (run / "pictures").exists()
    ran = surd(*told, "--quality", "niqe")
    assert ran.code == 2 and "a single picture of 16 x 16 px: too small" in ran.err
    ran = surd(*told, "--quality", "brisque")
    assert ran.code == 0 and "brisque (lower is better)" in ran.out
    assert "+0.0 (one scene: no interval)" in ran.out and "may be chance" not in ran.err
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    assert all(row["difference"] == {"value": 0.0, "low": None, "high": None} for row in rows)
    assert surd("report", run).code == 0


def test_prompts_that_differ_in_a_sign_have_pictures_of_their_own(
    diffusion: Path, tmp_path: Path
) -> None:
    from surd.models.diffusion import load_pipeline

    texts = ["cup!", "cup?", "\U0001d4d0" * 80]
    how = How("x", 1, 1.0, "")
    drawing = draw(load_pipeline(str(diffusion)), None, "", texts, [0], how, tmp_path, batch=3)
    assert len([*drawing.folder.iterdir()]) == len({drawing.name(text, 0) for text in texts}) == 3


def test_variants_are_trained_and_measured_alike(
    surd: Surd, diffusion: Path, tmp_path: Path
) -> None:
    make_published(tmp_path / "ws")
    file = tmp_path / "variants.yaml"
    file.write_text("published: {denoising_weight: 0}\npaper: {}\n")
    settings = {
        "diffusion": str(diffusion), "llm": "tiny-llm", "layer": 3, "steps": 2, "heads": 4,
        "feed_forward": 32, "accumulate": 1, "report_to": "none",
    }  # fmt: skip
    told = [f"--set=train_adapter.{key}={value}" for key, value in settings.items()]
    told += ["--prompts", "demo:plain", "--limit", "3", "--seeds", "1", *map(str, FAST)]
    ran = surd("ablate", tmp_path / "ws", file, "--vary", "adapter_weight=0.1,0.5", *told)
    assert ran.code == 0, ran.err
    root = tmp_path / "ws" / "adapter" / "ablation"
    names = ["published", "paper", "adapter_weight=0.1", "adapter_weight=0.5"]
    assert all((root / name / "adapter_model.safetensors").is_file() for name in names)
    table, pairs, *_ = re.split(
        r"\n\n.*minus that of the column", (root / "ablation.md").read_text()
    )
    first, second = (
        [line.split(" | ")[0] for line in some.splitlines() if line.startswith("| ")]
        for some in (table, pairs)
    )
    assert first == ["| adapter", "| none", *(f"| {name}" for name in names)]
    assert second == ["|", *(f"| {name}" for name in names[1:])]
    assert len(list((root / "pictures").iterdir())) == 1 + len(names) - 1  # one is named twice
    before = (root / "paper" / "adapter_model.safetensors").stat().st_mtime_ns
    again = surd("ablate", tmp_path / "ws", file, "--vary", "adapter_weight=0.1,0.5", *told)
    assert again.out == ran.out and not list(root.glob("ablation-*"))
    earlier = (root / "ablation.json").read_bytes()
    assert (root / "paper" / "adapter_model.safetensors").stat().st_mtime_ns == before
    twice = surd("ablate", tmp_path / "ws", "--vary", "adapter_weight=0.1", "--trainings", 2, *told)
    assert twice.code == 0 and "trained 2 times" in twice.out
    assert (root / "adapter_weight=0.1+seed=1" / "adapter_model.safetensors").is_file()
    assert (root / "ablation-1.json").read_bytes() == earlier
    (variant,) = json.loads((root / "ablation.json").read_text())["variants"]
    assert list(variant["trainings"]) == ["0", "1"]
    assert variant["rows"][0]["pictures"] == 2 * variant["trainings"]["1"][0]["pictures"]


def test_a_wrong_setting_stops_an_ablation_before_it_trains(surd: Surd, tmp_path: Path) -> None:
    make_published(tmp_path / "ws")
    for said, told in {
        "adapter_wieght": ("--vary", "adapter_wieght=0.1,0.5"),
        "expected KEY=VALUE": ("--vary", "layer"),
        "layer=2001-99-99: ValueError": ("--vary", "layer=2001-99-99"),
        "nothing to compare": (),
        "no such file of variants": (tmp_path / "none.yaml",),
    }.items():
        ran = surd("ablate", tmp_path / "ws", *told)
        assert ran.code == 2 and said in ran.err and "Traceback" not in ran.err
    assert not (tmp_path / "ws" / "adapter").exists()


def test_what_is_wrong_with_the_last_variant_stops_an_ablation_before_the_first(
    surd: Surd, diffusion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_published(tmp_path / "ws")
    variants = tmp_path / "variants.yaml"
    variants.write_text("a b: {}\na/b: {}\n")
    settings = {"diffusion": str(diffusion), "llm": "tiny-llm", "report_to": "none"}
    told = [f"--set=train_adapter.{key}={value}" for key, value in settings.items()]
    told += ["--prompts", "demo:plain", *map(str, FAST)]
    trained = list[Any]()
    monkeypatch.setattr("surd.training.ablation.train", lambda *told, **how: trained.append(told))
    for said, vary in {
        "layer=9: ": ("--vary", "layer=3,9"),
        "network=reader: ": ("--vary", "network=sur,reader"),
        "a/b: its folder has the same name as that of a b": (variants,),
    }.items():
        ran = surd("ablate", tmp_path / "ws", *told, *vary)
        assert ran.code == 2 and ran.err.startswith(f"surd: {said}"), ran.err
        assert ran.err.count("\n") == 1 and not trained


def test_a_gap_is_looked_for_before_an_adapter_is_trained(
    surd: Surd, diffusion: Path, tmp_path: Path
) -> None:
    workspace = tmp_path / "w"
    make_published(workspace)
    told = ("evaluate", workspace, "--gap", "--diffusion", diffusion, "--vqa", "none")
    ran = surd(*told, "--limit", 3, "--seeds", 2, *FAST)
    assert ran.code == 0, ran.err
    (row,) = json.loads((workspace / "adapter" / "gap" / "gap.json").read_text())["rows"]
    assert (row["measure"], row["pictures"]) == ("clip score", 6)
    assert "| simple | complex |" in ran.out and "from simple to complex: " in ran.out
    drawn = sorted((workspace / "adapter" / "gap" / "pictures").glob("*/*.png"))
    assert len(drawn) == 2 * 3 * 2
    before = {path: path.stat().st_mtime_ns for path in drawn}
    again = surd(*told, "--limit", 3, "--seeds", 2, *FAST)
    assert again.out == ran.out and {p: p.stat().st_mtime_ns for p in drawn} == before
    wrong = surd(*told, "--limit", 9, "--steps", 2, "--clip", str(tmp_path / "no-clip"))
    assert wrong.code == 2 and sorted(path for path in drawn[0].parent.glob("*.png")) == drawn
    nobody = surd(*told, "--steps", 2, "--clip", "none")
    assert nobody.code == 2 and "nobody judges" in nobody.err
    sets = surd(*told, "--prompts", "paper", "--quality", "brisque")
    assert sets.code == 2 and "leave out --prompts, --pickscore, --quality" in sets.err


def test_a_gap_is_told_only_where_the_interval_shows_one() -> None:
    new, base = np.arange(1.0, 7)[:, None], np.zeros((6, 1))
    scenes = [*"abcdef"]
    better = row_of(Measured("dataset", "clip score", {"base": base, "adapter": new}, scenes))
    assert verdict([better]).endswith("there is a gap for an adapter to close")
    worse = row_of(Measured("dataset", "clip score", {"base": new, "adapter": base}, scenes))
    assert "no gap is seen" in verdict([worse])
    few = row_of(
        Measured("dataset", "clip score", {"base": base[:3], "adapter": new[:3]}, scenes[:3])
    )
    low, p = few.difference.low, few.p
    assert low is not None and low > 0 and p == 0.25, "three alike are not rare"
    assert few.verdict == "may be chance"
    one = row_of(
        Measured("dataset", "clip score", {"base": base[:1], "adapter": new[:1]}, scenes[:1])
    )
    for rows in ([few], [one]):
        assert verdict(rows).endswith(
            "too few prompts to tell whether there is a gap; raise --limit"
        )


def test_a_picture_without_a_number_is_left_out_with_its_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    base, new = np.zeros((3, 2)), np.ones((3, 2))
    base[0, 1] = np.nan
    row = row_of(Measured("some", "brisque", {"base": base, "adapter": new}, ["a", "b", "c"]))
    assert (row.pictures, row.difference.value) == (4, 1.0)
    assert caplog.messages == ["some: brisque gives no number for 1 of 3 prompts; left out"]
    with pytest.raises(SurdError, match="brisque gives no number for any"):
        row_of(
            Measured("some", "brisque", {"base": base * np.nan, "adapter": new}, ["a", "b", "c"])
        )
