"""Triples side by side: the picture, what is said of it, and what it was made from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.report.dataset.choose import Choice
from surd.report.dataset.samples import Samples
from surd.report.page import Section, body

SHOWN = 96


def offer(part: int, rows: pa.Table, order: npt.NDArray[np.uint64], choice: Choice) -> None:
    """Choose among what is kept; before there are verdicts, among what has a picture."""
    judged = rows["keep"].null_count < len(rows)
    fit = rows["keep"] if judged else pc.equal(rows["image_status"], "ok")
    if rows["image_status"].null_count == len(rows):
        fit = pc.is_valid(rows["id"])  # nothing is downloaded yet: prompts alone
    choice.offer("triples", SHOWN, part, order, pc.fill_null(fit, False).to_numpy())


def section(choice: Choice, samples: Samples, total: int) -> tuple[Section, list[int]] | None:
    """The section, and for its script the indices of the samples; None where there are none."""
    shown = samples.indices(choice.places("triples"))
    if not shown:
        return None
    text = body("triples.html.j2", shown=len(shown), total=total)
    return Section("triples", "Triples", text), shown
