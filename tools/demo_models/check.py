"""What the demo's judge and models can do, measured on scenes that nothing was trained on."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from surd.adapter.encoding import generate
from surd.demo.judge import judge, read_pair
from surd.demo.painter import paint
from surd.demo.reading import read_pair_sentence, read_sentence
from surd.demo.scenes import (
    ATTRIBUTES,
    Attribute,
    Pair,
    Reading,
    Scene,
    all_pairs,
    all_scenes,
    matches,
    split_of,
)
from surd.demo.sentences import MANNERS, Manner, can_say, simple_sentence
from surd.demo.tags import complex_prompt
from surd.evaluate.demo_questions import COMPLEX, SETS, demo_prompts
from surd.evaluate.judges import exact_judge
from surd.evaluate.prompt import limited
from surd.models.captioner import load_captioner
from surd.models.clip import Clip, load_clip
from surd.models.diffusion import load_pipeline
from surd.models.gguf import demo_gguf
from surd.models.names import demo_models
from surd.text.prompt_syntax import parse

PICTURE: tuple[Attribute, ...] = ("count", "color", "shape")
"""What a generated picture must get right to be fully right."""

Speak = Callable[[Scene | Pair, int], str]
"""A scene and a seed to a text."""
_DRAWN_AT_ONCE = 50


@dataclass(frozen=True)
class Figure:
    """One measured share, 0 to 1."""

    part: str
    measure: str
    value: float
    samples: int
    asked: float | None = None
    """At least this, where the demo promises something."""

    @property
    def reached(self) -> bool:
        """Whether the value is what the demo promises."""
        return self.asked is None or self.value >= self.asked

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {**asdict(self), "reached": self.reached}


def check(models: Path | None = None, *, quick: bool = False) -> Iterator[Figure]:
    """Every figure of the demo, one after the other; `quick` takes a tenth of the samples.

    `models` is a folder of models as ``data/demo/models``, which is the default.
    """
    scale = 10 if quick else 1
    folder = models or demo_models()
    yield from check_judge(2000 // scale)
    yield from check_pairs(1000 // scale)
    yield from check_clip(20 // scale, str(folder / "clip"))
    yield from check_captioner(1000 // scale, str(folder / "captioner"))
    yield from check_autoencoder(1000 // scale, str(folder / "diffusion"))
    yield from check_diffusion(200 // scale, str(folder / "diffusion"))
    yield from check_llm()


def heading() -> str:
    """The first two lines of a Markdown table of figures."""
    return "| part | measure | value | asked | samples |\n| --- | --- | ---: | ---: | ---: |"


def line(figure: Figure) -> str:
    """One line of that table."""
    asked = "" if figure.asked is None else f"{figure.asked:.2f}"
    missed = "" if figure.reached else " (missed)"
    values = f"{figure.value:.3f}{missed} | {asked} | {figure.samples}"
    return f"| {figure.part} | {figure.measure} | {values} |"


def check_judge(samples: int) -> Iterator[Figure]:
    """The judge's share of right readings of painted pictures, by attribute."""
    rng = random.Random("check judge")
    scenes = [rng.choice(all_scenes()) for _ in range(samples)]
    readings = [judge(paint(scene, seed=seed)) for seed, scene in enumerate(scenes)]
    for attribute in ATTRIBUTES:
        right = _share(readings, scenes, (attribute,))
        yield Figure("judge", f"{attribute} right", right, samples, asked=0.99)


def check_pairs(samples: int) -> Iterator[Figure]:
    """The judge's share of right readings of painted pairs."""
    pairs = random.Random("check pairs").sample(all_pairs("test"), samples)
    right = [read_pair(paint(pair, seed=seed)) == pair for seed, pair in enumerate(pairs)]
    yield Figure("judge", "both groups right", float(np.mean(right)), samples, asked=0.99)


def check_clip(rounds: int, name: str = "demo:clip", among: int = 64) -> Iterator[Figure]:
    """Top-1 retrieval of a held-out picture's text among those of `among` different scenes."""
    clip = load_clip(name)
    ways: dict[str, tuple[Speak, float | None]] = {
        **{manner: (_simple(manner), 0.90) for manner in MANNERS},
        "complex": (_tags, 0.90),
    }
    right = dict.fromkeys([*ways, "pairs"], 0.0)
    known = [scene for scene in _held_out() if can_say(scene, "knowledge")]
    for round_ in range(rounds):
        rng = random.Random(f"check clip {round_}")
        scenes = rng.sample(known, among)
        seeds = [rng.randrange(2**31) for _ in scenes]
        for way, (speak, _) in ways.items():
            right[way] += _top1(clip, speak, scenes, seeds) / rounds
        pairs = rng.sample(all_pairs("test"), among)
        right["pairs"] += _top1(clip, _ordered, pairs, seeds) / rounds
    for way, value in right.items():
        asked = ways[way][1] if way in ways else 0.90
        yield Figure("clip", f"top-1 among {among}, {way}", value, rounds * among, asked)


def check_captioner(samples: int, name: str = "demo:captioner") -> Iterator[Figure]:
    """What captions of held-out pictures say, by attribute, and how many kinds there are."""
    captioner = load_captioner(name)
    rng = random.Random("check captioner")
    scenes = [rng.choice(_held_out()) for _ in range(samples)]
    readings = [read_sentence(text) for text in _captions(captioner, scenes, rng)]
    for attribute in ATTRIBUTES:
        asked = {"count": 0.95, "color": 0.95, "shape": 0.95, "action": 0.90}.get(attribute)
        right = _share(readings, scenes, (attribute,))
        yield Figure("captioner", f"{attribute} right", right, samples, asked)
    all_right = _share(readings, scenes, PICTURE)
    yield Figure("captioner", "count, color, shape right", all_right, samples, 0.95)
    pairs = [rng.choice(all_pairs("test")) for _ in range(samples // 4)]
    said = [read_pair_sentence(text) for text in _captions(captioner, pairs, rng)]
    right_pairs = [
        found is not None and (found[0] == pair if found[1] else found[0].groups == pair.groups)
        for found, pair in zip(said, pairs, strict=True)
    ]
    yield Figure("captioner", "both groups right", float(np.mean(right_pairs)), len(pairs), 0.85)


def _captions(captioner: Any, scenes: Sequence[Scene | Pair], rng: random.Random) -> list[str]:
    captions: list[str] = []
    for i in range(0, len(scenes), 50):
        pictures = [_painted(scene, rng.randrange(2**31)) for scene in scenes[i : i + 50]]
        captions += captioner.caption(pictures)
    return captions


def check_autoencoder(samples: int, name: str = "demo:diffusion") -> Iterator[Figure]:
    """What the judge still reads from held-out pictures that went through the latent space."""
    vae = load_pipeline(name).vae
    rng = random.Random("check autoencoder")
    scenes = [rng.choice(_held_out()) for _ in range(samples)]
    side = vae.config.sample_size
    readings: list[Reading] = []
    for seed, scene in enumerate(scenes):
        pixels = torch.from_numpy(paint(scene, seed=seed, size_px=side)).permute(2, 0, 1)
        with torch.inference_mode():
            latent = vae.encode(pixels[None].float() / 127.5 - 1).latent_dist.mode()
            rebuilt = vae.decode(latent).sample[0].clamp(-1, 1)
        readings.append(judge(((rebuilt + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()))
    right = _share(readings, scenes, ATTRIBUTES)
    yield Figure("autoencoder", "all attributes kept", right, samples)


def check_diffusion(
    samples: int, name: str = "demo:diffusion", steps: int = 25, guidance: float = 4.0
) -> Iterator[Figure]:
    """What pictures show of the demo's own sets of prompts, from the same noise."""
    pipeline, asks = load_pipeline(name), exact_judge()
    for set_ in SETS:
        prompts = limited(demo_prompts(set_), samples)
        texts = list(dict.fromkeys(prompt.text for prompt in prompts))
        pictures = dict(zip(texts, _drawn(pipeline, texts, steps, guidance), strict=True))
        right: dict[str, list[bool]] = {}
        for prompt in prompts:
            picture = Image.fromarray(pictures[prompt.text])
            (answers,) = asks([picture], [prompt.questions])
            told = [asked.answer for asked in prompt.questions]
            right.setdefault(prompt.kind, []).append(answers == told)
        for kind, several in right.items():
            asked = 0.80 if (set_, kind) == (COMPLEX, "all right") else None
            share = float(np.mean(several))
            yield Figure("diffusion", f"{set_}: {kind}", share, len(several), asked)
    pairs = random.Random("check diffusion").sample(all_pairs("test"), samples)
    told_by_tags = [_tags(pair, seed) for seed, pair in enumerate(pairs)]
    drawn = _drawn(pipeline, told_by_tags, steps, guidance)
    both = [read_pair(picture) == pair for picture, pair in zip(drawn, pairs, strict=True)]
    yield Figure("diffusion", "pairs by tags: both groups right", float(np.mean(both)), samples)


def check_llm() -> Iterator[Figure]:
    """Whether the language model answers a question it should know."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    path = demo_gguf()
    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    question = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        ids = model.generate(**asked, max_new_tokens=16, do_sample=False)
    answer = tokenizer.decode(ids[0, asked["input_ids"].shape[1] :])
    yield Figure("llm", "knows the capital of France", float("Paris" in answer), 1, 1.0)


def _drawn(
    pipeline: Any, prompts: Sequence[str], steps: int, guidance: float
) -> Iterator[np.ndarray]:
    """Pictures uint8 ``[h, w, 3]`` of the prompts; prompt i always starts from noise seed i."""
    for first in range(0, len(prompts), _DRAWN_AT_ONCE):
        some = prompts[first : first + _DRAWN_AT_ONCE]
        drawn = generate(
            pipeline,
            None,
            some,
            range(first, first + len(some)),
            num_inference_steps=steps,
            guidance_scale=guidance,
        )
        yield from map(np.asarray, drawn)


def _held_out() -> list[Scene]:
    return [scene for scene in all_scenes() if split_of(scene) == "test"]


def _painted(scene: Scene | Pair, seed: int) -> Image.Image:
    return Image.fromarray(paint(scene, seed=seed))


def _tags(scene: Scene | Pair, seed: int) -> str:
    return parse(complex_prompt(scene, seed=seed)).text


def _simple(manner: Manner) -> Speak:
    return lambda scene, seed: simple_sentence(scene, seed=seed, words="test", manner=manner)


def _ordered(pair: Scene | Pair, seed: int) -> str:
    return simple_sentence(pair, seed=seed, words="test", ordered=True)


def _top1(clip: Clip, speak: Speak, scenes: Sequence[Scene | Pair], seeds: Sequence[int]) -> float:
    pairs = list(zip(scenes, seeds, strict=True))
    images = clip.embed_images([_painted(scene, seed) for scene, seed in pairs])
    texts = clip.embed_texts([speak(scene, seed) for scene, seed in pairs])
    best = (images @ texts.T).argmax(dim=1)  # [b]
    return float((best == torch.arange(len(pairs), device=best.device)).float().mean())


def _share(
    readings: Sequence[Reading], scenes: Sequence[Scene], attributes: tuple[Attribute, ...]
) -> float:
    pairs = zip(readings, scenes, strict=True)
    return float(np.mean([matches(reading, scene, attributes) for reading, scene in pairs]))
