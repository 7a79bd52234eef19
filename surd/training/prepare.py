"""What the frozen models say, computed before training: as much as the losses in use need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from surd.adapter.encoding import side_px, text_width, windows_of
from surd.adapter.language import language_model
from surd.adapter.module import LanguageModel
from surd.dataset.published import Published
from surd.llm.embeddings import TextVectors
from surd.models.memory import enough_memory
from surd.progress import track
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.attention import Probe
from surd.training.checks import reads_llm
from surd.training.data import Data
from surd.training.frozen import ENCODERS, Denoiser, denoiser_of, learning_unet, on_device
from surd.training.latents import Cut, Latents, cached_latents, fresh_latents
from surd.training.loop import Taught
from surd.training.queries import Examples, probes_of
from surd.training.samples import Sample, Windows, needs_complex, texts_of
from surd.training.texts import Texts, cached_texts, fresh_texts
from surd.training.views import picture_reader


def prepare(
    dataset: Published,
    samples: Sequence[Sample],
    pipeline: Any,
    params: TrainAdapterParams,
    folder: Path | None,
    accelerator: Any,
    *,
    unseen: Sequence[Sample] = (),
    vectors: TextVectors | None = None,
    quiet: bool = False,
) -> tuple[Data, Taught]:
    """What is learned from, and what teaches it; of the `pipeline`, on the CPU, each part is moved
    to the device for as long as it computes. The texts of `unseen` samples are encoded too.

    Texts, latents and the UNet's queries are kept in `folder`; without one, texts and latents are
    encoded batch by batch. Raises SurdError, also where memory runs out.
    """
    with enough_memory(
        "not enough memory to prepare the training; close other programs that use the GPU, or hide "
        "it (CUDA_VISIBLE_DEVICES=) to train on the CPU"
    ):
        side = params.resolution or side_px(pipeline)
        every = [*samples, *unseen]
        windows = _windows(every, pipeline) if needs_complex(params) else {}
        told = texts_of(every, params, windows)
        texts = _texts(told, pipeline, params.diffusion, folder, accelerator, quiet)
        denoiser = denoiser_of(pipeline, accelerator)
        probes: Sequence[Probe] = ()
        if params.attention_weight:
            read = picture_reader(dataset, "train")
            examples = Examples(samples, texts, read, side, params.seed)
            probes = probes_of(denoiser, pipeline.vae, examples, params, folder, accelerator)
        latents: Latents | None = None
        learning: Denoiser | None = None
        if params.denoising_weight:
            cut = Cut(side, params.flip, params.crops, params.seed if params.crops > 1 else 0)
            latents = _latents(dataset, pipeline, params, cut, folder, accelerator, quiet)
            learning = learning_unet(denoiser, params, accelerator)
    data = Data(samples, texts, params, latents=latents, vectors=vectors, windows=windows)
    llm = llm_of(vectors) if vectors is not None and reads_llm(params) else None
    updated = _learning_encoders(pipeline, accelerator) if params.network == "lora" else None
    return data, Taught(text_width(pipeline), learning, probes, llm, updated)


def llm_of(vectors: TextVectors) -> LanguageModel:
    """The model that vectors were computed with."""
    return language_model(vectors.about, vectors.layer, vectors.width)


def _windows(samples: Sequence[Sample], pipeline: Any) -> Windows:
    prompts = dict.fromkeys(sample.complex for sample in samples)
    return {prompt: windows_of(pipeline, prompt) for prompt in prompts}


def _texts(
    texts: Sequence[str],
    pipeline: Any,
    diffusion: str,
    folder: Path | None,
    accelerator: Any,
    quiet: bool,
) -> Texts:
    encoders = [getattr(pipeline, name, None) for name in ENCODERS]
    if folder is None:
        for encoder in filter(None, encoders):
            encoder.to(accelerator.device)
        return fresh_texts(pipeline)
    with (
        on_device(accelerator.device, *encoders),
        track("texts", len(texts), quiet=quiet) as tick,
    ):
        return cached_texts(texts, pipeline, diffusion, folder, accelerator, tick)


def _learning_encoders(pipeline: Any, accelerator: Any) -> Any:
    """The pipeline with its text encoders on the device, as gradients go through them."""
    for name in ENCODERS:
        encoder = getattr(pipeline, name, None)
        if encoder is not None:
            encoder.to(accelerator.device).requires_grad_(False).eval()
    return pipeline


def _latents(
    dataset: Published,
    pipeline: Any,
    params: TrainAdapterParams,
    cut: Cut,
    folder: Path | None,
    accelerator: Any,
    quiet: bool,
) -> Latents:
    if folder is None:
        return fresh_latents(dataset, "train", pipeline.vae.to(accelerator.device), cut)
    with (
        on_device(accelerator.device, pipeline.vae),
        track("pictures", dataset.splits.get("train", 0), quiet=quiet) as tick,
    ):
        return cached_latents(
            dataset, "train", pipeline.vae, params.diffusion, cut, folder, accelerator, tick
        )
