"""Each term of the loss, over the steps."""

from __future__ import annotations

from surd.report.page import Chart, Section, body
from surd.report.runs.read import Run, anchor
from surd.training.logs import LOSS
from surd.training.loss_plots import RATE, loss_plot, loss_points, window

_ABOUT = {
    "loss": "The total that is minimised: the weighted sum of all terms",
    "denoising": "Squared error of what the UNet predicts from the adapter's text embeddings",
    "attention": "How much the answers of the UNet's cross-attention layers to the adapter's text "
    "embeddings differ from those to the complex prompt's, relative to the variance of the "
    "answers",
    "llm": "Distance of the adapter's features from the language model's vector",
    "prompt": "Distance of the adapter's text embeddings from the complex prompt's",
    LOSS: "The weighted sum of the terms but denoising on samples of the validation split, as a "
    "share of what it is without an adapter; below 1 it is of use to sentences that were not "
    "learned from",
    RATE: "Learning rate of the optimizer",
}


def losses_section(run: Run) -> Section | None:
    """Each term of the loss, and the learning rate below; None where nothing was logged."""
    terms = loss_points(run.losses)
    drawn = {name: points for name, points in terms.items() if len(points)}
    if not drawn:
        return None
    steps = [run.losses[0]["step"], run.losses[-1]["step"]]
    charts = tuple(
        Chart(
            anchor(run.id, "loss", name),
            loss_plot(name, points, steps).to_dict(),
            _label(run, name),
        )
        for name, points in drawn.items()
    )
    text = body(
        "runs/losses.html.j2",
        charts=charts,
        window=window(len(run.losses)),
        diverged={
            name: sum(name in line for line in run.losses) - len(points)
            for name, points in terms.items()
        },
    )
    return Section(f"{run.id}-losses", "Losses", text, charts)


def _label(run: Run, name: str) -> str:
    weight = run.number(f"{name}_weight")
    weighed = "" if weight is None else f"; weight {weight:g}"
    return f"{_ABOUT.get(name, 'As logged')}{weighed}."
