"""Pictures drawn while an adapter is trained, and what they are measured by.

Where they lie is said in :mod:`surd.training.logs`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from surd.adapter.drawing import draw_missing, drawn_at_once, open_rgb
from surd.adapter.encoding import side_px
from surd.adapter.lora import AnyAdapter
from surd.demo.scenes import ATTRIBUTES, PAIR_ATTRIBUTES
from surd.evaluate.judges import Judge, exact_judge
from surd.evaluate.measures import shares_right
from surd.evaluate.prompt import Prompt, texts_of
from surd.evaluate.prompt_sets import DEMO, KINDS, PAPER, SUFFIXES, load_prompts
from surd.recipe.train_adapter import TrainAdapterParams
from surd.store.storage import Storage
from surd.training.logs import BASE, FOLDER, PROMPTS_FILE, SCORES_FILE, read_log

_TRACKED = 8
"""Prompts whose pictures a tracker is shown."""


@dataclass(frozen=True)
class Pictures:
    """Those of one step."""

    folder: Path
    texts: Sequence[str]

    def name(self, text: str, seed: int) -> str:
        """Of a picture's file."""
        return f"{self.texts.index(text):03d}-{seed}.png"

    def open(self, text: str, seed: int) -> Image.Image:
        """A picture, RGB."""
        return open_rgb(self.folder / self.name(text, seed))


@dataclass(frozen=True)
class Validation:
    """What is drawn, and who looks at it."""

    params: TrainAdapterParams
    folder: Path
    """Of the run."""
    pipeline: Any
    texts: list[str]
    judged: list[Prompt]
    """Those the judge knows the right answers of."""
    judge: Judge

    @property
    def seeds(self) -> range:
        """Of each prompt's pictures."""
        return range(self.params.validation_seeds)

    def pictures(self, step: int) -> Pictures:
        """Those of a step; of step 0 the base model's."""
        name = f"step-{step:06d}" if step else BASE
        return Pictures(self.folder / FOLDER / name, self.texts)


def validation_prompts(params: TrainAdapterParams) -> list[Prompt]:
    """The prompts the settings name, one by one or by their sets. Raises SurdError."""
    return [prompt for told in params.validation_prompts for prompt in _named(told)]


def _named(told: str) -> list[Prompt]:
    of_file = told.endswith(SUFFIXES) and " " not in told
    if told.startswith(DEMO) or told in (*KINDS, PAPER) or of_file:
        return load_prompts(told)
    return [Prompt(told, "prompt")]


def open_validation(
    params: TrainAdapterParams, pipeline: Any, folder: Path, accelerator: Any
) -> Validation | None:
    """What is to be drawn and judged; None where nothing is. Raises SurdError."""
    prompts = validation_prompts(params)
    if not prompts:
        return None
    texts = texts_of(prompts)
    if accelerator.is_main_process:
        told = json.dumps(texts, indent=2, ensure_ascii=False) + "\n"
        Storage(str(folder / FOLDER)).write_bytes(PROMPTS_FILE, told.encode())
    judged = [
        prompt
        for prompt in prompts
        if prompt.questions
        and all(asked.question in (*ATTRIBUTES, *PAIR_ATTRIBUTES) for asked in prompt.questions)
    ]
    return Validation(params, folder, pipeline, texts, judged, exact_judge())


def is_due(validation: Validation, step: int) -> bool:
    """Whether to draw after a step: before the first, every so many, after the last; once."""
    if step in {line["step"] for line in read_log(validation.folder / SCORES_FILE)}:
        return False
    params = validation.params
    return step % params.validate_every == 0 or step == params.steps


def validate(
    validation: Validation, adapter: AnyAdapter | None, step: int, accelerator: Any
) -> None:
    """Draw, measure, and note; each of several processes draws its share.

    The adapter is left in evaluation mode; the random state is left as it was.
    """
    device = torch.device(accelerator.device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        _draw(validation, adapter, step, accelerator)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            measures = _measure(validation, step)
            _note(validation.folder, {"step": step, **measures})
            _tell_trackers(validation, step, measures, accelerator)
        accelerator.wait_for_everyone()


def _draw(validation: Validation, adapter: AnyAdapter | None, step: int, accelerator: Any) -> None:
    params, pipeline = validation.params, validation.pipeline
    pictures = validation.pictures(step)
    pairs = [(text, seed) for text in validation.texts for seed in validation.seeds]
    side = params.resolution or side_px(pipeline)
    with accelerator.autocast():  # the UNet may be in another precision than the rest
        draw_missing(
            pipeline,
            adapter,
            pairs[accelerator.process_index :: accelerator.num_processes],
            pictures.folder,
            pictures.name,
            batch=drawn_at_once(side, accelerator.device),
            num_inference_steps=params.validation_steps,
            height=side,
            width=side,
        )


def _measure(validation: Validation, step: int) -> dict[str, float]:
    seeds = validation.seeds
    measures: dict[str, float] = {"pictures": len(validation.texts) * len(seeds)}
    if validation.judged:
        pictures = validation.pictures(step)
        measures |= shares_right(validation.judged, seeds, pictures, validation.judge)
    return measures


def _note(folder: Path, line: dict[str, Any]) -> None:
    lines = [*read_log(folder / SCORES_FILE), line]
    text = "".join(f"{json.dumps(one)}\n" for one in lines)
    Storage(str(folder)).write_bytes(SCORES_FILE, text.encode())


def _tell_trackers(
    validation: Validation, step: int, measures: dict[str, float], accelerator: Any
) -> None:
    told = {_tag(name): value for name, value in measures.items() if name != "pictures"}
    if told:
        accelerator.log(told, step=step)
    pictures = validation.pictures(step)
    for tracker in accelerator.trackers:
        if tracker.name == "tensorboard":
            shown = {
                _tag(f"{number:03d} {text}"): np.stack(
                    [np.asarray(pictures.open(text, seed)) for seed in validation.seeds]
                )
                for number, text in enumerate(validation.texts[:_TRACKED])
            }
            tracker.log_images(shown, step=step, dataformats="NHWC")


def _tag(name: str) -> str:
    """A name that TensorBoard takes as it is."""
    return "validation/" + re.sub(r"\W+", "_", name)[:60]
