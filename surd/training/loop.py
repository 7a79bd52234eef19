"""Training an adapter: what the paper teaches it, resumable to the bit.

Everything random in a step comes from its number and the seed, so that a run that was killed and
resumed ends with the same weights as one that was left alone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surd.adapter.encoding import lora_states
from surd.adapter.files import read_config, save
from surd.adapter.lora import AnyAdapter, Lora, LoraConfig, lora_of
from surd.adapter.module import Adapter, AdapterConfig, LanguageModel
from surd.models.hub import identity_of
from surd.models.memory import enough_memory
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.attention import Probe
from surd.training.collapse import Watch, watch_of
from surd.training.data import Data, seed_of
from surd.training.early_stopping import BEST, Stopping, best_weights
from surd.training.finite import check_finite, check_weights
from surd.training.frozen import Denoiser
from surd.training.held_out import HeldOut, held_out
from surd.training.logs import LOSS
from surd.training.losses import Batch, Given, losses, weighed
from surd.training.run_folder import (
    begin_log,
    checkpoint,
    remove_oldest,
    take_up,
    write_log,
    writing,
)
from surd.training.samples import Sample
from surd.training.setup import (
    config_of,
    make_accelerator,
    make_average,
    make_optimizer,
)
from surd.training.start import Start, take_over
from surd.training.validation import Validation, is_due, validate


class Student(nn.Module):
    """The adapter, and the projection of the language model's vectors, `llm_width` wide, if its
    features learn from those; a LoRA is one of the text encoders of a `pipeline`."""

    def __init__(
        self,
        config: AdapterConfig | LoraConfig,
        llm_width: int | None,
        projection: str,
        pipeline: Any = None,
    ) -> None:
        super().__init__()
        self._pipeline = pipeline
        self.adapter: AnyAdapter = (
            lora_of(config, pipeline) if isinstance(config, LoraConfig) else Adapter(config)
        )
        self.projection = None if llm_width is None else nn.Linear(llm_width, config.width)
        if self.projection is not None:
            self.projection.requires_grad_(projection == "learned")

    def forward(self, batch: Batch) -> Given:
        """New embeddings, features, and what the features shall be."""
        if isinstance(self.adapter, Lora):
            states = lora_states(self.adapter, self._pipeline, batch.texts)
            return states, states, None
        adapted = self.adapter(batch.simple, batch.read, batch.read_mask)
        aim = None if self.projection is None else self.projection(batch.llm)
        return adapted.embeddings, adapted.features, aim


@dataclass(frozen=True)
class Taught:
    """What a diffusion model teaches with; what no loss in use needs is not there."""

    width: int
    """Of its text embeddings."""
    denoiser: Denoiser | None = None
    """On the device."""
    probes: Sequence[Probe] = ()
    llm: LanguageModel | None = None
    """That the adapter reads."""
    pipeline: Any = None
    """Whose text encoders, on the device, a LoRA updates."""


@dataclass(frozen=True)
class Training:
    """A training under way."""

    params: TrainAdapterParams
    accelerator: Any
    student: Any
    """A Student, wrapped where there are several processes."""
    learning: Sequence[nn.Parameter]
    optimizer: Any
    rate: Any
    taught: Taught
    average: Any
    """Of the weights, or None."""
    watch: Watch | None
    """Of a projection that is learned."""
    held_out: HeldOut | None
    about: Mapping[str, Any]
    """What is saved beside the weights, whatever the step."""


def train(
    data: Data,
    taught: Taught,
    params: TrainAdapterParams,
    folder: Path,
    on_step: Callable[[int, Mapping[str, float]], None] = lambda step, terms: None,
    *,
    accelerator: Any = None,
    validation: Validation | None = None,
    unseen: Sequence[Sample] = (),
    start: Start | None = None,
) -> AnyAdapter:
    """Train, and leave the adapter in `folder`; returns it in evaluation mode.

    The newest whole checkpoint is taken up, if there is one; else training begins with the weights
    of `start`. `on_step` is told each step's number, from 1 on, and its losses. A validation, and
    a loss on `unseen` samples, change nothing of what is learned, but for when it stops. Raises
    ModelError where memory runs out, and in the first step whose loss, gradient or weights are not
    finite.
    """
    accelerator = accelerator or make_accelerator(params, folder)
    with enough_memory(_too_large(1, params)):
        training = _prepare(data, taught, params, accelerator, start, unseen)
    first = take_up(accelerator, folder)
    begin_log(folder, first, accelerator)
    stopping = Stopping(folder, params.early_stopping)
    for step in sorted({0, first}):  # where a run was killed before it had drawn
        _look(training, validation, step)
    training.student.train()
    last = first
    for step in range(first, params.steps):
        if stopping.is_over():
            break
        last = done = step + 1
        with enough_memory(_too_large(done, params)):
            sums = _step(training, data, step) | _unseen(training, done)
        write_log(accelerator, folder, done, sums, training.rate.get_last_lr()[0])
        if stopping.note(done, sums.get(LOSS)) and accelerator.is_main_process:
            _keep_best(training, folder, done, sums[LOSS])
        if training.watch is not None:
            training.watch.check(accelerator.unwrap_model(training.student).projection, done)
        on_step(done, sums)
        kept = done == params.steps or done % params.checkpoint_every == 0
        if kept:
            _check_learnt(training, data, done)
        _look(training, validation, done)
        if kept:
            checkpoint(accelerator, training.student, params, folder, done, training.about)
    return _finish(training, folder, len(data.samples), last)


def _check_learnt(training: Training, data: Data, step: int) -> None:
    """Raises ModelError where the last step led to weights, or with them to embeddings, that are
    not finite: no loss tells of it any more."""
    params, accelerator = training.params, training.accelerator
    last = step * params.accumulate - 1
    batch = data.batch(
        last, accelerator.num_processes, accelerator.process_index, accelerator.device
    )
    student = accelerator.unwrap_model(training.student).eval()
    with torch.no_grad():
        given, *_ = student(batch)
    training.student.train()
    check_weights(params, accelerator, step, training.learning, given)


def _too_large(step: int, params: TrainAdapterParams) -> str:
    """What takes less: first what learns the same, then what learns nearly the same."""
    if params.denoising_weight and not params.gradient_checkpointing:
        less = "--set train_adapter.gradient_checkpointing=true, which takes more time"
    elif params.batch_size > 1:
        half, twice = params.batch_size // 2, 2 * params.accumulate
        less = f"--batch-size {half} --set train_adapter.accumulate={twice} --resume none"
    else:
        less = "a smaller train_adapter.resolution and --resume none"
    return f"out of memory in step {step}; rerun the same command with {less}"


def _prepare(
    data: Data,
    taught: Taught,
    params: TrainAdapterParams,
    accelerator: Any,
    start: Start | None,
    unseen: Sequence[Sample],
) -> Training:
    from accelerate.utils import set_seed
    from diffusers.optimization import get_scheduler

    set_seed(params.seed)
    config = config_of(params, taught.width, taught.llm)
    student = Student(config, data.llm_width, params.projection, taught.pipeline)
    if start is not None:
        take_over(start, student.adapter, student.projection)
    elif isinstance(student.adapter, Adapter) and student.adapter.config.language_model is not None:
        student.adapter.llm_mean, student.adapter.llm_std = data.llm_spread()
    watch = watch_of(data, student.projection, params)
    student.to(accelerator.device)
    kept_out = held_out(unseen, data, params, taught.probes, student, accelerator.device)
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = make_optimizer(learning, params)
    rate = get_scheduler(
        params.schedule,
        optimizer,
        num_warmup_steps=params.warmup_steps * accelerator.num_processes,
        num_training_steps=params.steps * accelerator.num_processes,
    )
    student, optimizer, rate = accelerator.prepare(student, optimizer, rate)
    average = make_average(accelerator, student, params)
    about = {
        "training": params.model_dump(mode="json"),
        "diffusion_identity": identity_of(params.diffusion),
    }
    return Training(
        params=params,
        accelerator=accelerator,
        student=student,
        learning=learning,
        optimizer=optimizer,
        rate=rate,
        taught=taught,
        average=average,
        watch=watch,
        held_out=kept_out,
        about=about,
    )


def _step(training: Training, data: Data, step: int) -> dict[str, float]:
    """One optimizer step; the means of the loss and of its terms over the micro steps."""
    params, average = training.params, training.average
    sums: dict[str, float] = defaultdict(float)
    for micro in range(params.accumulate):
        terms = _micro_step(training, data, step * params.accumulate + micro)
        for name, value in terms.items():
            sums[name] += float(value.detach()) / params.accumulate
    if average is not None:
        average.step(training.accelerator.unwrap_model(training.student).parameters())
    return dict(sums)


def _micro_step(training: Training, data: Data, number: int) -> dict[str, torch.Tensor]:
    """The gradient of one batch of this process; the loss and its terms."""
    accelerator, params, taught = training.accelerator, training.params, training.taught
    process, denoiser = accelerator.process_index, taught.denoiser
    torch.manual_seed(seed_of(params.seed, number, process, 3))
    batch = data.batch(number, accelerator.num_processes, process, accelerator.device)
    norm = noise = None
    if denoiser is not None and batch.latents is not None:
        times = denoiser.schedule.config.num_train_timesteps
        noise = data.noise(number, process, batch.latents, times)
    with accelerator.accumulate(training.student), accelerator.autocast():
        terms = losses(
            training.student,
            batch,
            params,
            denoiser=denoiser,
            noise=noise,
            probes=taught.probes,
        )
        loss = weighed(terms, params)
        accelerator.backward(loss)
        if accelerator.sync_gradients:
            norm = accelerator.clip_grad_norm_(training.learning, params.max_grad_norm)
        training.optimizer.step()
        training.rate.step()
        training.optimizer.zero_grad(set_to_none=True)
    step = number // params.accumulate + 1
    check_finite(params, accelerator, step, {**terms, "loss": loss}, norm, batch)
    return {"loss": loss, **terms}


@contextmanager
def _as_saved(training: Training) -> Iterator[Student]:
    """The student as it would be saved now, of averaged weights where there are some; learning
    goes on afterwards."""
    student: Student = training.accelerator.unwrap_model(training.student)
    average = training.average
    if average is not None:
        average.store(student.parameters())
        average.copy_to(student.parameters())
    yield student
    if average is not None:
        average.restore(student.parameters())
    training.student.train()


def _look(training: Training, validation: Validation | None, step: int) -> None:
    """Draw with the adapter as it is now."""
    if validation is None or not is_due(validation, step):
        return
    with _as_saved(training) as student:
        validate(validation, student.adapter if step else None, step, training.accelerator)


def _unseen(training: Training, step: int) -> dict[str, float]:
    """The loss on samples that are not learned from, where it is due."""
    params = training.params
    due = step % params.validate_every == 0 or step == params.steps
    if training.held_out is None or not due:
        return {}
    accelerator = training.accelerator
    with _as_saved(training) as student, accelerator.autocast():
        found = training.held_out.measured(student, accelerator.device)
    if accelerator.num_processes > 1:  # all shall stop at the same step
        means = accelerator.reduce(torch.tensor([*found.values()]).to(accelerator.device), "mean")
        found = dict(zip(found, means.tolist(), strict=True))
    return found


def _keep_best(training: Training, folder: Path, step: int, loss: float) -> None:
    """Keep the adapter as it is now, in place of the best before."""
    with _as_saved(training) as student, writing(folder, "the best adapter so far"):
        save(
            student.adapter,
            folder / BEST,
            projection=student.projection,
            about={**training.about, "step": step, LOSS: loss},
        )


def _finish(training: Training, folder: Path, samples: int, last: int) -> AnyAdapter:
    """Leave the adapter in the folder, of averaged weights where there are some: that of the last
    step, or of the best validation."""
    accelerator, params = training.accelerator, training.params
    accelerator.wait_for_everyone()
    whole: Student = accelerator.unwrap_model(training.student)
    if training.average is not None:
        training.average.copy_to(whole.parameters())
    about: dict[str, Any] = {**training.about, "step": last, "samples": samples}
    if params.early_stopping is not None:
        best = read_config(folder / BEST)
        whole.load_state_dict(best_weights(folder))
        about |= {"step": best["step"], LOSS: best[LOSS], "stopped": last}
    if accelerator.is_main_process:
        remove_oldest(folder, params.checkpoints_kept)  # where the last run was killed before it
        with writing(folder, "the adapter"):
            save(whole.adapter, folder, projection=whole.projection, about=about)
    accelerator.wait_for_everyone()  # who reads it next finds it whole
    accelerator.end_training()
    return whole.adapter.eval().requires_grad_(False)
