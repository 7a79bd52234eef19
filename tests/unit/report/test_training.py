"""The report of a training run: what it says of whole, unfinished, broken and hostile folders."""

from __future__ import annotations

import json
import re
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support_runs import SIDES, judge, make_run, paint

from surd.errors import SurdError
from surd.report.page import Section
from surd.report.runs.compare import OUTCOMES, picks, read_pairs, sheet
from surd.report.runs.read import anchor, read_run, seconds_of
from surd.report.runs.sections import ablation_sections, sections
from surd.training.logs import names_in, read_log
from surd.training.loss_plots import moving_mean, thinned

HOSTILE = "<img src=x onerror=alert(1)> </script> \u202e"


def steps(count: int, **terms: float) -> list[dict[str, float]]:
    return [{"step": n, "loss": 1 / n, **terms, "learning_rate": 1e-3} for n in range(1, count + 1)]


def by_title(run: Path) -> dict[str, Section]:
    return {section.title: section for section in sections(str(run))}


def marks(section: Section, spec: int = 0) -> list[Any]:
    return [layer["mark"] for layer in section.charts[spec].spec["layer"]]


def values(section: Section, chart: int, layer: int) -> list[dict[str, Any]]:
    found = section.charts[chart].spec
    data = found["layer"][layer].get("data") or found["data"]
    return data.get("values") or found["datasets"][data["name"]]


def test_a_folder_without_a_run_has_no_sections(tmp_path: Path) -> None:
    assert sections(str(tmp_path)) == ablation_sections(str(tmp_path)) == []
    assert sections(str(tmp_path / "none")) == []


def test_what_a_run_did_not_leave_has_no_section(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert list(by_title(run)) == ["Adapter: run"]
    (run / "log.jsonl").unlink()
    assert list(by_title(run)) == ["Adapter: run"]


def test_a_run_is_told_by_what_differs_from_the_published_settings(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps(3), accumulate=4, heads=2, feed_forward=2048)
    about = by_title(run)["Adapter: run"].body
    assert "3 of 4" in about and "not finished" in about  # finished
    assert "<dd>24</dd>" in about  # pairs: 3 steps of 4 batches of 2
    assert re.findall(r"<code>(\w+)</code>", about) == ["heads"]
    assert "<bdi>sd</bdi>" in about and "/home/me" not in about
    (run / "adapter_model.safetensors").touch()
    (run / "adapter_config.json").write_text(json.dumps({"step": 4, "samples": 1234}))
    about = by_title(run)["Adapter: run"].body
    assert "It is not" not in about and "<dd>1,234</dd>" in about


def test_the_time_of_a_run_is_that_of_its_trackers_files(tmp_path: Path) -> None:
    """A record: length, 4 bytes of checksum, the event that begins with its time, 4 bytes."""
    for number, times in enumerate([(100.0, 130.0, 160.0), (1000.0, 1030.5)]):  # it was taken up
        path = tmp_path / "surd-adapter" / f"events.out.tfevents.{number}.host"
        path.parent.mkdir(exist_ok=True)
        events = [b"\x09" + struct.pack("<d", at) + b"x" * number for at in times]
        records = [struct.pack("<Q", len(e)) + b"%crc" + e + b"%crc" for e in events]
        path.write_bytes(b"".join(records) + records[0][:11])  # killed as it wrote
    assert seconds_of(tmp_path) == 60 + 30.5
    assert seconds_of(tmp_path / "surd-adapter") is None


def test_each_term_has_a_plot_and_the_learning_rate_is_the_last(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", steps(100, llm=2.0, denoising=0.1), denoising_weight=0.5)
    losses = by_title(run)["Losses"]
    assert [chart.spec["title"] for chart in losses.charts] == [
        "loss", "llm", "denoising", "learning rate",
    ]  # fmt: skip
    assert "weight 0.5" in losses.charts[2].label
    assert len(marks(losses, 0)) == 3 and len(marks(losses, 3)) == 2  # a rate has no noise
    assert "mean of the 2 steps" in losses.body


def test_a_loss_that_falls_far_has_a_logarithmic_scale(tmp_path: Path) -> None:
    far = make_run(tmp_path / "far", steps(200))
    near = make_run(tmp_path / "near", [{"step": n, "loss": 2 - n / 200} for n in range(1, 200)])

    def scale(run: Path) -> Any:
        return by_title(run)["Losses"].charts[0].spec["layer"][0]["encoding"]["y"]["scale"]

    assert scale(far) == {"type": "log"} and scale(near) == {"zero": False}


def test_a_log_that_was_cut_off_or_diverged_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    lines = [*steps(4), {"step": 5, "loss": float("nan")}, {"step": 6, "loss": float("inf")}]
    run = make_run(tmp_path / "run", lines)
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    losses = by_title(run)["Losses"]
    assert "loss is not finite</strong> at 2 steps" in losses.body
    assert [row["step"] for row in values(losses, 0, 0)] == [1, 2, 3, 4]
    json.dumps([chart.spec for chart in losses.charts], allow_nan=False)


def test_of_a_log_with_names_by_the_thousand_the_first_are_drawn(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", [{"step": 1, **{f"loss {n}": n for n in range(2000)}}])
    assert names_in(read_log(run / "log.jsonl")) == [f"loss {n}" for n in range(40)]


def test_a_long_log_is_drawn_with_few_points_that_keep_its_extremes() -> None:
    noise = np.random.default_rng(0).normal(size=50_000)
    points = np.stack([np.arange(50_000), noise], axis=1)
    drawn = thinned(points)
    assert len(drawn) <= 402 and (np.diff(drawn[:, 0]) > 0).all()
    assert drawn[:, 1].min() == noise.min() and drawn[:, 1].max() == noise.max()
    assert thinned(points[:300]) is not drawn and len(thinned(points[:300])) == 300


def test_the_moving_mean_is_of_what_is_around() -> None:
    points = np.array([[n, value] for n, value in enumerate([0, 3, 6, 0, 0.0], 1)])
    assert moving_mean(points, 3)[:, 1].tolist() == [1.5, 3, 3, 2, 0]
    assert moving_mean(points, 1).tolist() == points.tolist()


def test_of_many_validations_the_first_the_last_and_some_between_are_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    texts = [f"prompt {number} {HOSTILE}" for number in range(12)]
    for place in ("base", *(f"step-{step:06d}" for step in range(500, 10_001, 500))):
        for number in range(12):
            paint(run / "validation" / place / f"{number:03d}-0.png", seed=number)
    (run / "validation" / "step-010000" / "000-0.png").unlink()
    (run / "validation" / "prompts.json").write_text(json.dumps(texts))
    scores = [{"step": n, "pictures": 12, "clip score": 0.3, "count": n / 10} for n in (0, 5, 10)]
    (run / "validation.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores))
    section = by_title(run)["Validation during training"]
    heads = re.findall(r'<th scope="col">([^<]*)</th>', section.body)
    assert len(heads) == 7 and heads[0] == "without" and heads[-1] == "step 10,000"
    assert section.body.count("<img src=") == 8 * 7 - 1
    assert "<img src=x" not in section.body and "\\u202e" in section.body
    assert [chart.spec["title"] for chart in section.charts] == [
        "pictures that show what was asked", "clip score",
    ]  # fmt: skip


def test_pairs_are_counted_whole_and_sampled_without_a_look_at_their_outcome(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "run")
    right = [(True, True)] * 70 + [(False, False)] * 25 + [(False, True)] * 4 + [(True, False)]
    judge(run, right)
    pairs = read_pairs(run / "evaluation.parquet")
    chosen = [*picks(pairs, "mine", 1)]
    sample = [pair for pair, sampled in chosen if sampled]
    changed = [*picks(list(reversed(pairs)), "mine", 1)]
    assert chosen == changed and len(sample) == 18
    more = [pair.outcome for pair, sampled in chosen if not sampled]
    shown = [pair.outcome for pair, _ in chosen]
    assert shown.count("fixed by the adapter") == 4 and shown.count("broken by it") == 1
    assert set(more) <= set(OUTCOMES.values())
    judge(run, [(not base, not new) for base, new in right])
    other = [pair for pair, sampled in picks(read_pairs(run / "evaluation.parquet"), "mine", 1)
             if sampled]  # fmt: skip
    assert [pair.prompt for pair in other] == [pair.prompt for pair in sample]


def test_pairs_that_were_not_judged_are_not_shown(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    judge(run, [(True, None), (True, False)])
    [pair] = read_pairs(run / "evaluation.parquet")
    assert pair.outcome == "broken by it"


def test_a_pair_says_in_words_what_the_judge_found(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    judge(run, [(False, True)], prompt=HOSTILE)
    section = by_title(run)["Before and after"]
    assert "✗ wrong" in section.body and "✓ right" in section.body
    assert section.body.count("how many?: 3, not 2") == 1  # "two" means 2
    assert re.search(r"1 <span class=\"muted\">\(100.0%\)", section.body)
    assert "<img src=x" not in section.body and "\u202e" not in section.body


def test_pictures_of_an_ablation_are_found_beside_its_runs_and_none_outside(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ablation" / "one")
    judge(run, [(True, True)])
    (run / "pictures").rename(run.parent / "pictures")
    assert by_title(run)["Before and after"].body.count("<img") == 2
    (run.parent / "pictures").rename(tmp_path / "elsewhere")
    assert "no longer exist" in by_title(run)["Before and after"].body
    table = pq.read_table(run / "evaluation.parquet").to_pylist()
    outside = [row | {"picture": "../../elsewhere/base/0.png"} for row in table]
    pq.write_table(pa.Table.from_pylist(outside), run / "evaluation.parquet")
    (run / "pictures").mkdir()
    assert "no longer exist" in by_title(run)["Before and after"].body


def test_pictures_of_many_sets_take_no_more_than_a_few_megabytes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    judge(run, [(True, False)])
    for side in SIDES:
        paint(run / "pictures" / side / "0.png", side=256)  # noise, which compresses worst
    rows = pq.read_table(run / "evaluation.parquet").to_pylist()
    many = [row | {"prompts": f"set {n}", "prompt": f"{n}"} for n in range(60) for row in rows]
    pq.write_table(pa.Table.from_pylist(many), run / "evaluation.parquet")
    body = by_title(run)["Before and after"].body
    pictures = re.findall(r"data:image/webp;base64,([^\"]*)", body)
    assert 2 * 18 <= len(pictures) <= 2 * 48 and len(set(pictures)) == 1
    assert sum(map(len, pictures)) <= 1_700_000


def test_the_pairs_of_a_sample_make_one_picture_for_a_readme(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(SurdError, match="surd evaluate"):
        sheet(run)
    judge(run, [(False, True)] * 8, prompt=HOSTILE * 10)
    whole, one = sheet(run), sheet(run, pairs=1)
    assert whole.size == (3 * one.width, 2 * one.height)
    assert np.array_equal(np.asarray(whole)[: one.height, : one.width], np.asarray(one))
    assert {(179, 57, 47), (31, 122, 77)} <= {color for _, color in one.getcolors(1 << 20)}
    with pytest.raises(SurdError, match="not evaluated on other"):
        sheet(run, prompts="other")
    shutil.rmtree(run / "pictures")
    with pytest.raises(SurdError, match="no longer exist"):
        sheet(run)


def test_an_interval_that_holds_zero_is_said_to_be_chance(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    judge(run, [(True, True)])
    found = json.loads((run / "evaluation.json").read_text())
    (row,) = found["rows"]
    cases = {"better": (0.01, 0.2), "worse": (-0.2, -0.01), "may be chance": (-0.1, 0.0)}
    cases["no difference"] = (0.0, 0.0)
    found["rows"] = [
        row
        | {"measure": said, "p": 0.01}
        | {"difference": {"value": (low + high) / 2, "low": low, "high": high}}
        for said, (low, high) in cases.items()
    ]
    brisque = {"measure": "brisque", "p": None, "lower_is_better": True}
    few = {"measure": "few scenes", "p": 0.25}
    found["rows"].append(row | few | {"difference": {"value": 0.1, "low": 0.01, "high": 0.2}})
    found["rows"].append(row | brisque | {"difference": {"value": -3, "low": -4, "high": -2}})
    (run / "evaluation.json").write_text(json.dumps(found))
    section = by_title(run)["Evaluation"]
    rows = re.findall(
        r'<th scope="row"><bdi>([^<]*)</bdi>.*?<td>([^<]*)</td></tr>', section.body, re.S
    )
    others = [("few scenes", "may be chance"), ("brisque (lower is better)", "better")]
    assert rows == [*((said, said) for said in cases), *others]
    shares, other = section.charts
    assert [point["value"] for point in shares.spec["layer"][1]["data"]["values"]] == [
        10.5, -10.5, -5, 0, 10,
    ]  # fmt: skip
    assert [point["value"] for point in other.spec["layer"][1]["data"]["values"]] == [-3]


def test_variants_of_an_ablation_are_compared_by_the_measure_that_the_reader_chooses(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "run")
    judge(run, [(True, True)])
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    rows.append(rows[0] | {"measure": "clip score", "p": None})
    variants = [{"name": name, "settings": {"eta": 1}, "rows": rows} for name in ("a", HOSTILE)]
    text = json.dumps({"format": "surd-ablation-1", "variants": variants})
    (tmp_path / "ablation.json").write_text(text)
    (section,) = ablation_sections(str(tmp_path))
    (chart,) = section.charts
    (choice,) = chart.spec["params"]
    assert choice["bind"]["options"] == ["prompt, percentage points", "clip score"]
    assert "eta: 1" in section.body and "<img" not in section.body
    assert section.body.count("+10.0 (+5.0 to +15.0)") == 2


def test_variants_of_an_ablation_show_their_spread_and_their_differences(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    judge(run, [(True, True)])
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    higher = [row | {"adapter": {"value": 0.2, "low": None, "high": None}} for row in rows]
    variants = [
        {"name": name, "settings": {}, "rows": rows, "trainings": {"0": rows, "1": higher}}
        for name in ("a", HOSTILE)
    ]
    difference = {
        "prompts": "mine", "measure": "prompt", "adapter": HOSTILE, "compared_with": "a",
        "difference": {"value": 0.1, "low": 0.0, "high": 0.2}, "p": 0.03, "is_share": True,
    }  # fmt: skip
    whole = {"format": "surd-ablation-1", "variants": variants, "differences": [difference]}
    (tmp_path / "ablation.json").write_text(json.dumps(whole))
    (section,) = ablation_sections(str(tmp_path))
    assert section.body.count("[10.0% to 20.0%]") == 2
    assert "+10.0 (+0.0 to +20.0)" in section.body and ">0.03<" in section.body
    assert "<img" not in section.body
    (tmp_path / "ablation.json").write_text(json.dumps(whole | {"differences": [{}]}))
    with pytest.raises(SurdError, match=r"ablation\.json: not written by surd ablate"):
        ablation_sections(str(tmp_path))


def test_several_runs_fit_on_a_page(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, steps(3)) for name in ("a=1", "a+1", HOSTILE.split("/")[0])]
    found = [section for run in runs for section in sections(str(run))]
    ids = [section.id for section in found] + [c.id for section in found for c in section.charts]
    assert len(ids) == len(set(ids)) and all(re.fullmatch(r"[A-Za-z0-9-]+", id_) for id_ in ids)
    assert not any("<img src=x" in section.body for section in found)
    assert anchor("a", "b") == "a-b"


@pytest.mark.parametrize(
    "file", ["settings.json", "adapter_config.json", "evaluation.json", "evaluation.parquet"]
)
@pytest.mark.parametrize("content", ["", "{", "[1]", '{"rows": [{"measure": 1}], "training": 1}'])
def test_a_broken_file_is_named_in_one_line(tmp_path: Path, file: str, content: str) -> None:
    run = make_run(tmp_path / "run", steps(2))
    (run / file).write_text(content)
    if file.endswith("config.json") and content.startswith('{"rows'):
        assert read_run(run) is not None  # the settings are there
        return
    if file == "settings.json" and content.startswith('{"rows'):
        assert sections(str(run))  # of a younger surd, perhaps
        return
    with pytest.raises(SurdError) as caught:
        sections(str(run))
    assert file in str(caught.value) and "\n" not in str(caught.value)
