"""What the card tells in numbers, counted while the parts go by, in memory that does not grow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from surd.dataset.columns import EXTENSIONS
from surd.dataset.description import PERCENTILES
from surd.recipe.publish import EXAMPLES
from surd.store.manual import is_keep

_MAX_KEYS = 1000
OTHERS = "(others)"


class Histogram:
    """Counts of values in bins of width ``step`` from ``low`` to ``high``; NaN is not counted."""

    def __init__(self, low: float, high: float, step: float) -> None:
        self._low, self._step = low, step
        self._counts = np.zeros(round((high - low) / step) + 1, dtype=np.int64)

    def add(self, column: pa.ChunkedArray) -> None:
        """Count the values of a column; what lies outside counts for the nearest bin."""
        values = column.drop_null().to_numpy().astype(np.float64)
        values = values[~np.isnan(values)]
        bins = np.round((values - self._low) / self._step)
        bins = np.clip(bins, 0, len(self._counts) - 1).astype(np.int64)
        self._counts += np.bincount(bins, minlength=len(self._counts))

    def percentiles(self) -> dict[str, float]:
        """Nearest-rank percentiles and the count; empty when nothing was counted."""
        total = int(self._counts.sum())
        if total == 0:
            return {}
        sums = np.cumsum(self._counts)
        found: dict[str, float] = {"count": total}
        for percent in PERCENTILES:
            rank = -(-percent * total // 100)
            value = self._low + float(np.searchsorted(sums, rank)) * self._step
            found[f"p{percent}"] = round(value, 4)
        return found


def _histograms() -> dict[str, Histogram]:
    return {
        "cos_simple": Histogram(-1, 1, 1e-4),
        "cos_complex": Histogram(-1, 1, 1e-4),
        "aesthetic": Histogram(-10, 20, 1e-3),
        "nsfw": Histogram(0, 1, 1e-4),
    }


@dataclass
class Statistics:
    """Counts over all rows, and of those that are published."""

    captions_only: bool = False
    """Whether samples without a complex prompt may be published."""
    collected: int = 0
    steps: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    alone: Counter[str] = field(default_factory=Counter)
    sources: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    formats: Counter[str] = field(default_factory=Counter)
    published: int = 0
    pairs: int = 0
    """Of these, without a complex prompt."""
    turned: int = 0
    with_author: int = 0
    scores: dict[str, Histogram] = field(default_factory=_histograms)
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, rows: pa.Table, published: pa.ChunkedArray) -> None:
        """Count the rows of a part; ``published`` is the mask of those that are."""
        self.collected += rows.num_rows
        self._add_funnel(rows)
        chosen = rows.filter(published)
        self.published += chosen.num_rows
        self.pairs += chosen["complex_prompt"].null_count
        for source, licence in _pairs(chosen, "source", "licence"):
            _count(self.sources, (source, licence), (OTHERS, None))
        for level in chosen["nsfw_level"].to_pylist():
            _count(self.levels, level or "unknown", OTHERS)
        self.with_author += chosen["author"].length() - chosen["author"].null_count
        turned = pc.fill_null(pc.greater(chosen["exif_orientation"], 1), False)
        self.turned += pc.sum(turned).as_py() or 0
        for name, histogram in self.scores.items():
            histogram.add(chosen[name])
        self._add_examples(chosen)

    def add_files(self, batch: pa.Table) -> None:
        """Count the formats of what is written."""
        names = pc.struct_field(batch["image"], "path").to_pylist()
        self.formats.update(_MIMES[name.rsplit(".", 1)[1]] for name in names)

    def _add_funnel(self, rows: pa.Table) -> None:
        image = pc.equal(rows["image_status"], "ok")
        prompt = pc.and_(image, pc.is_valid(rows["complex_prompt"]))
        caption = pc.and_(
            image if self.captions_only else prompt, pc.is_valid(rows["simple_prompt"])
        )
        for name, mask in (("image", image), ("complex", prompt), ("simple", caption)):
            self.steps[name] += pc.sum(mask).as_py() or 0
        self.steps["kept"] += pc.sum(rows["keep"]).as_py() or 0
        for keep, reasons in _pairs(rows, "keep", "reasons"):
            names = {reason["reason"] for reason in reasons or () if not is_keep(reason)}
            if keep or not names:
                continue
            self.reasons.update(names)
            if len(names) == 1:
                self.alone.update(names)

    def _add_examples(self, chosen: pa.Table) -> None:
        """The first that nobody marked as unfit for work."""
        if len(self.examples) == EXAMPLES:
            return
        columns = ["simple_prompt", "complex_prompt", "nsfw_level", "nsfw"]
        for row in chosen.select(columns).to_pylist():
            fit = row["nsfw_level"] in (None, "none") and not (row["nsfw"] or 0) > _UNFIT
            if fit and len(self.examples) < EXAMPLES:
                pair = {"simple": row["simple_prompt"], "complex": row["complex_prompt"]}
                cut = {name: (text or "")[:_MAX_CHARS] for name, text in pair.items()}
                self.examples.append(cut)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON values in a settled order."""
        sources = sorted(self.sources.items(), key=lambda item: (-item[1], str(item[0])))
        return {
            "collected": self.collected,
            "with_image": self.steps["image"],
            "with_complex_prompt": self.steps["complex"],
            "with_simple_prompt": self.steps["simple"],
            "kept": self.steps["kept"],
            "published": self.published,
            **({"without_complex_prompt": self.pairs} if self.captions_only else {}),
            "reasons": {
                name: {"samples": count, "alone": self.alone[name]}
                for name, count in _ranked(self.reasons)
            },
            "sources": [
                {"source": source, "licence": licence, "samples": count}
                for (source, licence), count in sources
            ],
            "nsfw_levels": dict(_ranked(self.levels)),
            "formats": dict(_ranked(self.formats)),
            "exif_turned": self.turned,
            "with_author": self.with_author,
            "scores": {name: found.percentiles() for name, found in self.scores.items()},
            "examples": self.examples,
        }


_MIMES = {ending: mime for mime, ending in EXTENSIONS.items()}
_UNFIT = 0.3
_MAX_CHARS = 300


def _pairs(rows: pa.Table, first: str, second: str) -> list[tuple[Any, Any]]:
    return list(zip(rows[first].to_pylist(), rows[second].to_pylist(), strict=True))


def _count(counter: Counter[Any], key: Any, others: Any) -> None:
    """Count a key that a source made up, which must not fill the memory."""
    counter[key if key in counter or len(counter) < _MAX_KEYS else others] += 1


def _ranked(counter: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))
