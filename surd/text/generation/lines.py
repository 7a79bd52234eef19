"""Prompts among named lines, as downloaders, Easy Diffusion, Midjourney and Mochi Diffusion write.

- ``prompt: …`` and ``negativePrompt: …`` (downloaders of Civitai), or ``Prompt: …``, ``Seed: …``,
  ``Negative Prompt: …`` (Easy Diffusion's text files)
- ``a cat --ar 3:2 --v 6 Job ID: …`` (Midjourney's ``Description``)
- ``Include in Image: …; Exclude from Image: …; Model: …`` (Mochi Diffusion's caption)
"""

from __future__ import annotations

import re

from surd.text.generation import found, infotext
from surd.text.generation.found import Generation

_LINE = re.compile(r"^[ \t]*([^\W\d_][\w /.()-]{0,40}?)[ \t]*[:=](?=\s)[ \t]*", re.M)
_LABEL = re.compile(r"Prompt:\s*", re.I)
_PROMPT = re.compile(r"(?:positive[ _]?)?prompts?", re.I)
_NEGATIVE = re.compile(r"negative(?:[ _]?prompts?)?", re.I)
_FIELDS = frozenset(
    """
    prompt, prompts, positive prompt, positive_prompt, positiveprompt, negative, negative prompt,
    negative_prompt, negativeprompt, negative prompts, seed, steps, inference steps, sampler,
    guidance scale, cfg scale, cfgscale, cfg, width, height, size, model, stable diffusion model,
    vae model, clip skip, hypernetwork model, lora model, lora strength, lora alpha,
    prompt strength,
    use face correction, use upscaling, upscale by, embeddings, tiling, scheduler, resources, url,
    post url, author, created, baseModel, base model, hashes, vae, id, nsfw, username, date
    """.replace("\n    ", " ")
    .lower()
    .strip()
    .split(", ")
)
"""Names that end the text before them; anything else with a colon is words of a prompt."""
_MODELS = ("Stable Diffusion model", "Model", "model", "baseModel", "Base model")
_JOB = re.compile(r"\s*Job ID:\s*([0-9a-fA-F-]{36})\s*$")
_MOCHI = "Include in Image:"


def read(text: str) -> Generation | None:
    """Read named lines, one of which is the prompt."""
    text = text.replace("\r\n", "\n").strip("\0 \n\t")
    if text.startswith(_MOCHI):
        return _mochi(text)
    if job := _JOB.search(text[-80:]):
        prompt = text[: -len(job[0])]
        return Generation("Midjourney", prompt.strip(), settings={"Job ID": job[1]})
    if label := _LABEL.match(text):
        generation = infotext.read(text[label.end() :])
        if generation is not None and "steps" in generation.settings:
            return generation
    fields: dict[str, str] = {}
    matches = [match for match in _LINE.finditer(text) if match[1].lower() in _FIELDS]
    if not matches or matches[0].start():
        return None
    for match, following in zip(matches, [*matches[1:], None], strict=True):
        stop = following.start() if following else len(text)
        fields.setdefault(match[1], text[match.end() : stop].strip())
    prompts = [value for name, value in fields.items() if _PROMPT.fullmatch(name)]
    negatives = [value for name, value in fields.items() if _NEGATIVE.fullmatch(name)]
    if not prompts:
        return None
    easy = "Stable Diffusion model" in fields or "Inference Steps" in fields
    used = [k for k in fields if _PROMPT.fullmatch(k) or _NEGATIVE.fullmatch(k)]
    return Generation(
        generator="Easy Diffusion" if easy else "unknown",
        prompt=prompts[0],
        negative_prompt=next(iter(negatives), None) or None,
        model=found.first(fields, _MODELS) or None,
        settings=found.settings(fields, used),
    )


def _mochi(text: str) -> Generation:
    fields: dict[str, str] = {}
    for piece in text.split("; "):
        name, colon, value = piece.partition(": ")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    used = ("Include in Image", "Exclude from Image")
    return Generation(
        generator="Mochi Diffusion",
        prompt=fields.get(used[0], ""),
        negative_prompt=fields.get(used[1]) or None,
        model=fields.get("Model"),
        settings=found.settings(fields, used),
    )
