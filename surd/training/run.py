"""``surd train-adapter``: from a workspace to an adapter in a folder of its own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.adapter.encoding import check_made_for
from surd.adapter.files import read_config
from surd.build.dataset_state import told_as_published
from surd.dataset.published import Published, open_published
from surd.errors import SurdError, command
from surd.llm import embeddings
from surd.models.diffusion import load_pipeline
from surd.models.hub import identity_of
from surd.models.names import MODEL_FILES, resolve
from surd.params import lasting
from surd.progress import track
from surd.recipe.train_adapter import TrainAdapterParams
from surd.store.storage import local_path
from surd.training.card import CARD, write_card
from surd.training.checks import check_fits, check_tools, reads_llm
from surd.training.frozen import ENCODERS, drop
from surd.training.held_out import chosen
from surd.training.loop import train
from surd.training.losses import without_pictures
from surd.training.prepare import llm_of, prepare
from surd.training.run_folder import checkpoints
from surd.training.samples import Sample, never_embedded, samples_of, with_vectors
from surd.training.sentences import caption_digests
from surd.training.settings import alone, begin_folder, check_folder, is_done, settings_of
from surd.training.setup import make_accelerator
from surd.training.start import Start, open_start
from surd.training.validation import open_validation, validation_prompts

log = logging.getLogger("surd")


@dataclass(frozen=True)
class Trained:
    """What a run ended with."""

    folder: Path
    samples: int
    """Of the training split that are learned from."""
    steps: int
    new: bool
    """Whether there was anything left to do."""
    lacking: int
    """Samples of the training split that have no vector, and are left out."""
    main: bool = True
    """Of several processes, whether this is the one that speaks for all."""


@dataclass(frozen=True)
class Lessons:
    """What a run learns from, and the settings that its folder keeps."""

    dataset: Published
    samples: list[Sample]
    """Of the training split, those that are learned from."""
    unseen: list[Sample]
    """Of the validation split."""
    vectors: embeddings.TextVectors | None
    """None where no loss asks for them, and the network reads none."""
    start: Start | None
    settings: dict[str, Any]


def lessons(
    location: str,
    params: TrainAdapterParams,
    folder: Path,
    *,
    resume: bool,
    start: str | Path | None = None,
) -> Lessons:
    """Look at all that a run needs, without computing or writing anything of it. Raises SurdError
    as `run` does."""
    local_path(location)
    check_tools(params)
    resolve(params.diffusion, MODEL_FILES)
    validation_prompts(params)
    dataset = open_published(location)
    samples = samples_of(location, dataset, "train", params)
    vectors = None
    if params.llm_weight or reads_llm(params):
        vectors = _vectors(location, params)
        _check_sentences(location, samples, params, vectors)
        samples = with_vectors(samples, vectors, params)
    unseen = _unseen(location, dataset, params, vectors)
    if not samples:
        raise SurdError(_none(location, dataset, params))
    begin = None
    if start is not None:
        llm = llm_of(vectors) if vectors is not None and reads_llm(params) else None
        begin = open_start(local_path(start), folder, params, llm)
    captions = caption_digests(location) if params.captions == "all" else None
    settings = settings_of(params, dataset, vectors, captions, begin)
    check_folder(folder, settings, resume=resume)
    return Lessons(dataset, samples, unseen, vectors, begin, settings)


def run(
    location: str,
    params: TrainAdapterParams,
    folder: str | Path,
    *,
    resume: bool,
    quiet: bool,
    start: str | Path | None = None,
) -> Trained:
    """Cache what is frozen, then train; what a run of the same settings left is taken up, also to
    take more steps.

    `start` is the folder of an adapter whose weights a new run begins with.

    Of several processes, as accelerate launches them, each encodes its share of the cache and
    learns from its share of the samples. Raises SurdError, for wrong settings before anything is
    computed, also when `folder` holds a run of other settings or somebody else's files, or another
    process trains there.
    """
    folder = local_path(folder)
    found = lessons(location, params, folder, resume=resume, start=start)
    dataset, samples, settings, begin = found.dataset, found.samples, found.settings, found.start
    lacking = dataset.splits.get("train", 0) - len(samples)
    accelerator = make_accelerator(params, folder)
    main = bool(accelerator.is_main_process)
    if resume and is_done(folder, params.steps):
        if main and not (folder / CARD).is_file():  # it was killed between the two
            begin_folder(folder, settings, resume=True)
            write_card(folder, lasting(params), len(samples))
        return Trained(folder, len(samples), params.steps, False, lacking, main)
    pipeline = load_pipeline(params.diffusion)  # on the CPU: what is needed moves for as long
    check_fits(params, pipeline)
    if begin is not None:
        check_made_for(begin.adapter, pipeline)
    settings["diffusion_identity"] = identity_of(params.diffusion)  # its commit is known only now
    check_folder(folder, settings, resume=resume)
    if main and (stale := told_as_published(location)):
        log.warning("%s", stale)
    with alone(folder) if main else nullcontext():
        if main:
            begin_folder(folder, settings, resume=resume)
        accelerator.wait_for_everyone()
        quiet = quiet or not main
        place = Path(location) / "adapter" / "cache" if params.cache else None
        data, taught = prepare(
            dataset,
            samples,
            pipeline,
            params,
            place,
            accelerator,
            unseen=found.unseen,
            vectors=found.vectors,
            quiet=quiet,
        )
        validation = open_validation(params, pipeline, folder, accelerator)
        if validation is not None:
            pipeline.to(accelerator.device)
        elif params.cache:
            unet = ("unet",) if params.denoising_weight else ()
            drop(pipeline, but=(*unet, *(ENCODERS if params.network == "lora" else ())))
        done = max((step for step, _ in checkpoints(folder)), default=0)
        with track("train", params.steps, done=done, quiet=quiet) as tick:

            def on_step(step: int, terms: Mapping[str, float]) -> None:
                tick({"ok": 1})

            train(
                data,
                taught,
                params,
                folder,
                on_step,
                accelerator=accelerator,
                validation=validation,
                unseen=found.unseen,
                start=begin,
            )
        if main:
            write_card(folder, lasting(params), len(samples))
    taken = read_config(folder).get("stopped", params.steps)
    return Trained(folder, len(samples), taken, True, lacking, main)


def _none(location: str, dataset: Published, params: TrainAdapterParams) -> str:
    """Why there is no sample to learn from, and the mend."""
    if not dataset.splits.get("train"):
        publish = command("publish", location)
        return f"{location}: the training split of its dataset is empty; publish again: {publish}"
    if not samples_of(location, dataset, "train", params):
        return (
            f"{location}: no sample of the training split has a complex prompt, which these losses "
            "need; publish some that have one, or set train_adapter.attention_weight, "
            "prompt_weight and complex_share to 0"
        )
    layer = ["--layer", params.layer] if params.layer >= 0 else []
    return (
        f"{location}: no sample of the training split has a vector of {params.llm}; run: "
        + command("embed-llm", location, "--model", params.llm, *layer)
    )


def _vectors(location: str, params: TrainAdapterParams) -> embeddings.TextVectors:
    vectors = embeddings.load_texts(location, params.llm, params.layer)
    if reads_llm(params) and not vectors.per_token:
        raise SurdError(
            f"{location}: the vectors of {params.llm}, layer {vectors.layer}, are one per prompt, "
            "but network: reader reads one per token; run: "
            + command("embed-llm", location, *_which(params, vectors.layer), "--pool", "none")
        )
    return vectors


def _unseen(
    location: str,
    dataset: Published,
    params: TrainAdapterParams,
    vectors: embeddings.TextVectors | None,
) -> list[Sample]:
    """Samples of the validation split that a loss is computed on."""
    if not without_pictures(params):
        return []
    plain = params.model_copy(update={"captions": "best", "complex_share": 0.0})
    found = samples_of(location, dataset, "validation", plain)
    if vectors is not None:
        found = with_vectors(found, vectors, plain)
    if params.early_stopping is not None and not found:
        raise SurdError(
            f"{location}: early_stopping needs a validation split; publish one: "
            f"{command('publish', location)} --set publish.validation=0.05"
        )
    return chosen(found, params.seed)


def _which(params: TrainAdapterParams, layer: int) -> tuple[object, ...]:
    return ("--model", params.llm, "--layer", layer)


def _check_sentences(
    location: str,
    samples: Sequence[Sample],
    params: TrainAdapterParams,
    vectors: embeddings.TextVectors,
) -> None:
    """Raises SurdError where vectors belong to other sentences than those that were published, or
    there are none of texts that may stand for a sample."""
    said = vectors.samples
    others = sum(said.get(one.id, one.captions[0]) != one.captions[0] for one in samples)
    embed = command("embed-llm", location, *_which(params, vectors.layer))
    if others:
        raise SurdError(
            f"{location}: {others:,} vectors of {params.llm} belong to other captions than the "
            f"published ones; publish and embed again: {command('publish', location)}; {embed}"
        )
    lacking = never_embedded(samples, vectors, params)
    if lacking:
        raise SurdError(
            f"{location}: there are no vectors of {params.llm} of {len(lacking):,} texts that "
            f"training may draw, such as {lacking[0]!r:.60}; run: {embed} --texts all"
        )
