"""The funnel: from what was collected to what was published, and what every reason took away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.build.verdicts import against, funnel
from surd.report.dataset.samples import Choice, Samples
from surd.report.page import Section, body
from surd.stages.filter.rules import LABELS, REASONS, told_number
from surd.store.aligned import Parts

EXAMPLES = 12
_UNKNOWN = "a reason that this version of surd does not know"


class Funnel:
    """Counts of the steps and of the reasons, added up part by part."""

    def __init__(self, groups: Parts) -> None:
        self._groups = groups
        self.collected = 0
        self.steps: Counter[str] = Counter()
        self.pairs = 0
        """With an image and a simple prompt, whether or not there is a complex one."""
        self.reasons: Counter[str] = Counter()
        self.alone: Counter[str] = Counter()
        self.thresholds: dict[str, float | None] = {}
        """Reason -> the number behind it, quantiles resolved."""
        self.whys: dict[str, str] = {}
        """Reason -> how ``auto`` came to that number."""

    def add(self, part: int, rows: pa.Table, order: npt.NDArray[np.uint64], choice: Choice) -> None:
        """Count a part's rows, and choose examples of each reason."""
        self.collected += rows.num_rows
        mask: Any = pc.is_valid(rows["id"])
        pair = mask
        for name, group, column in _STEPS:
            if group in self._groups:
                ok = pc.equal(rows[column], "ok") if name == "image" else pc.is_valid(rows[column])
                mask = pc.and_(mask, pc.fill_null(ok, False))
                pair = pair if name == "complex" else pc.and_(pair, pc.fill_null(ok, False))
                self.steps[name] += _count(mask)
        self.pairs += _count(pair)
        if "verdicts" not in self._groups:
            return
        kept = pc.fill_null(rows["keep"], False).to_numpy()
        self.steps["kept"] += int(kept.sum())
        self.steps["unjudged"] += rows["keep"].null_count
        choice.offer(("kept",), EXAMPLES, part, order, kept)
        for dropped in funnel([rows.select(["keep", "reasons"])]).dropped:
            self.reasons[dropped.reason] += dropped.samples
            self.alone[dropped.reason] += dropped.only
            self.thresholds.setdefault(dropped.reason, dropped.threshold)
            if dropped.why is not None:
                self.whys.setdefault(dropped.reason, dropped.why)
        reasons = against(rows["reasons"])
        parents = pc.list_parent_indices(reasons).to_numpy()
        names = reasons.flatten().field("reason")
        for name in pc.unique(names).to_pylist():
            among = np.unique(parents[pc.equal(names, name).to_numpy(zero_copy_only=False)])
            among = among[~kept[among]]  # some are kept by hand in spite of it
            choice.offer(("reason", name), EXAMPLES, part, order, among.astype(np.intp))


_STEPS = (
    ("image", "images", "image_status"),
    ("complex", "prompts", "complex_prompt"),
    ("simple", "captions", "simple_prompt"),
)
_TITLES = {
    "image": "with an image",
    "complex": "and a complex prompt",
    "simple": "and a simple prompt",
    "kept": "kept by the filter",
}


def _count(mask: Any) -> int:
    return pc.sum(mask).as_py() or 0


def section(
    found: Funnel,
    choice: Choice,
    samples: Samples,
    described: Mapping[str, Any] | None,
    *,
    outdated: bool,
) -> tuple[Section, dict[str, Any]]:
    """The section, and for its script the examples: name -> indices of samples.

    ``described`` is what the published dataset says of itself, ``outdated`` whether another would
    be published today.
    """
    steps = [("collected", found.collected)]
    said = described["statistics"] if described else {}
    counts = dict(found.steps)
    if "without_complex_prompt" in said:
        counts.pop("complex", None)
        counts["simple"] = found.pairs
    steps += [(title, counts[name]) for name, title in _TITLES.items() if name in counts]
    if said:
        steps.append(("published", said["published"]))
    reasons = [
        {
            "name": name,
            "label": LABELS.get(name, name),
            "about": REASONS.get(name, _UNKNOWN),
            "samples": count,
            "only": found.alone[name],
            "threshold": found.thresholds[name],
            "word": told_number(name, found.thresholds[name]),
            "why": found.whys.get(name),
        }
        for name, count in sorted(found.reasons.items(), key=lambda item: (-item[1], item[0]))
    ]
    examples = {name: samples.indices(choice.places(("reason", name))) for name in found.reasons}
    if kept := samples.indices(choice.places(("kept",))):
        examples[""] = kept
    text = body(
        "funnel.html.j2",
        steps=_with_losses(steps),
        collected=found.collected,
        reasons=reasons,
        kept=found.steps["kept"],
        has_kept="" in examples,
        unjudged=found.steps["unjudged"],
        outdated=outdated,
    )
    return Section("funnel", "Funnel", text), examples


def _with_losses(steps: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    before = [steps[0][1], *(count for _, count in steps[:-1])]
    return [(name, count, last - count) for (name, count), last in zip(steps, before, strict=True)]
