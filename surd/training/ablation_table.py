"""What ``surd ablate`` found, and its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from surd.evaluate.results import Row, few_scenes, interval, shown


@dataclass(frozen=True)
class Ablated:
    """One variant, trained and measured."""

    name: str
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    """Of all its trainings together."""
    trainings: Mapping[int, Sequence[Row]]
    """Seed of a training -> its own rows."""

    def spread(self, number: int) -> tuple[float, float] | None:
        """The least and the largest value that a training has in a row; None of a single one."""
        values = [rows[number].adapter.value for rows in self.trainings.values()]
        return (min(values), max(values)) if len(values) > 1 else None


@dataclass(frozen=True)
class Pair:
    """Two variants on the same prompts and noise."""

    adapter: str
    compared_with: str
    row: Row
    """Its ``base`` is the one compared with."""


@dataclass(frozen=True)
class Ablation:
    """All variants, and every two of them."""

    variants: Sequence[Ablated]
    pairs: Sequence[Pair]

    def as_json(self) -> dict[str, Any]:
        """Objects of JSON: ``variants``, and of each two ``differences``."""
        return {
            "variants": [asdict(one) for one in self.variants],
            "differences": [
                {
                    "prompts": pair.row.prompts,
                    "measure": pair.row.measure,
                    "adapter": pair.adapter,
                    "compared_with": pair.compared_with,
                    "difference": asdict(pair.row.difference),
                    "p": pair.row.p,
                    "lower_is_better": pair.row.lower_is_better,
                    "is_share": pair.row.is_share,
                }
                for pair in self.pairs
            ],
        }


def ablation_table(ablation: Ablation) -> str:
    """For each set of prompts a row a variant and a column a measure; then, for each measure, every
    two variants."""
    sets = dict.fromkeys(row.prompts for row in ablation.variants[0].rows)
    return "\n".join("\n".join(_of_set(ablation, prompts)) + "\n" for prompts in sets)


def _of_set(ablation: Ablation, prompts: str) -> Iterator[str]:
    first = ablation.variants[0]
    numbers = [number for number, row in enumerate(first.rows) if row.prompts == prompts]
    measures = [first.rows[number] for number in numbers]
    yield f"### {prompts}"
    yield ""
    yield (
        f"{measures[0].pictures:,} pictures each; every value is followed by its "
        "difference from the base model, with the 95% interval."
    )
    if len(first.trainings) > 1:
        yield (
            f"Each adapter was trained {len(first.trainings)} times with other seeds; in brackets, "
            "the lowest and the highest value of one training."
        )
    few = few_scenes(measures)
    if few is not None:
        yield few
    yield ""
    yield "| adapter | " + " | ".join(row.label for row in measures) + " |"
    yield "|---" + "|--:" * len(measures) + "|"
    yield "| none | " + " | ".join(shown(r.base.value, r.is_share) for r in measures) + " |"
    for beside in zip(*(row.baselines for row in measures), strict=True):
        cells = [
            f"{shown(one.value.value, row.is_share)}, {interval(one.difference, row.is_share)}"
            for one, row in zip(beside, measures, strict=True)
        ]
        yield f"| {beside[0].name} | " + " | ".join(cells) + " |"
    for variant in ablation.variants:
        yield f"| {variant.name} | " + " | ".join(_cell(variant, n) for n in numbers) + " |"
    for row in measures:
        yield from _of_pairs(ablation, row)


def _cell(variant: Ablated, number: int) -> str:
    row = variant.rows[number]
    told = shown(row.adapter.value, row.is_share)
    ends = variant.spread(number)
    if ends is not None:
        told += " [{} to {}]".format(*(shown(end, row.is_share) for end in ends))
    return f"{told}, {interval(row.difference, row.is_share)}"


def _of_pairs(ablation: Ablation, about: Row) -> Iterator[str]:
    """A row and a column a variant; nothing where there is only one."""
    pairs = {
        (pair.adapter, pair.compared_with): pair.row
        for pair in ablation.pairs
        if (pair.row.prompts, pair.row.measure) == (about.prompts, about.measure)
    }
    names = [one.name for one in ablation.variants]
    if not pairs:
        return
    yield ""
    yield (
        f"{about.label}: the adapter of the row minus that of the column, on the same prompts and "
        "noise, with the 95% interval and p, which is not corrected for the number of comparisons."
    )
    yield ""
    yield "| | " + " | ".join(names[:-1]) + " |"
    yield "|---" + "|--:" * (len(names) - 1) + "|"
    for place, name in enumerate(names[1:], 1):
        rows = [pairs[name, other] for other in names[:place]]
        cells = [f"{interval(r.difference, r.is_share)}, p {r.p:.2g}" for r in rows]
        yield f"| {name} | " + " | ".join(cells + [""] * (len(names) - 1 - place)) + " |"
