"""The dataset card: what this is, how it was made, what to beware of; for people and the Hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from surd.dataset.atomic_folder import DESCRIPTION
from surd.dataset.columns import PUBLISHED, doc
from surd.dataset.description import PERCENTILES
from surd.dataset.publish.licence import hub_licence
from surd.dataset.publish.provenance import Made
from surd.pages.markdown import fenced, inline, plain
from surd.pages.text import bytes_, share
from surd.recipe.publish import PublishParams

_MAX_SOURCES = 30
PAPER = "https://arxiv.org/abs/2305.05189"
CITATION = """@inproceedings{zhong2023suradapter,
  title     = {{SUR-adapter}: Enhancing Text-to-Image Pre-trained Diffusion Models with Large
               Language Models},
  author    = {Zhong, Shanshan and Huang, Zhongzhan and Wen, Wushao and Qin, Jinghui and
               Lin, Liang},
  booktitle = {Proceedings of the 31st ACM International Conference on Multimedia},
  year      = {2023},
  note      = {arXiv:2305.05189}
}"""


def card(said: Mapping[str, Any], made: Made, params: PublishParams) -> str:
    """The text of ``README.md``; ``said`` is what ``surd-dataset.json`` holds."""
    found = said["statistics"]
    sections = [
        f"---\n{_front_matter(said, made, params)}---",
        f"# {inline(made.name)}",
        params.introduction.strip(),
        inline(made.description, 1000),
        _about(said),
        _examples(found["examples"][: params.examples]),
        "## Loading\n\n" + _loading(params),
        "## Columns\n\n"
        + _table(("column", "content"), ((f"`{n}`", inline(doc(n))) for n in PUBLISHED.names)),
        "## What was kept\n\n" + _funnel(found),
        "## Scores\n\n" + _scores(found["scores"]),
        "## Sources and licences\n\n" + _sources(found),
        "## How it was made\n\n" + _how(made),
        "## Before you use it\n\n" + _warnings(found),
        f"## Citation\n\nThe method is that of SUR-adapter ([arXiv 2305.05189]({PAPER})):\n\n"
        + fenced(CITATION, "bibtex"),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def licence_of(said: Mapping[str, Any], params: PublishParams) -> str:
    """The recipe's word, or what the samples say."""
    return params.licence or hub_licence(row["licence"] for row in said["statistics"]["sources"])


def _front_matter(said: Mapping[str, Any], made: Made, params: PublishParams) -> str:
    licence = licence_of(said, params)
    fields: dict[str, Any] = {"pretty_name": plain(made.name), "license": licence}
    if licence == "other":
        fields["license_name"] = "various"
    fields |= {
        "task_categories": ["text-to-image"],
        "tags": ["text-to-image", "prompts", "synthetic", "surd"],
        "size_categories": [size_category(said["statistics"]["published"])],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": split, "path": f"{split}-*.parquet"} for split in said["splits"]
                ],
            }
        ],
    }
    text: str = yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=1000)
    return text


def size_category(rows: int) -> str:
    """The Hub's name for the order of magnitude."""
    bounds = ((10**3, "1K"), (10**4, "10K"), (10**5, "100K"), (10**6, "1M"), (10**7, "10M"))
    lower = ""
    for bound, name in bounds:
        if rows < bound:
            return f"{lower}<n<{name}" if lower else f"n<{name}"
        lower = name
    return "10M<n<100M" if rows < 10**8 else "100M<n<1B"


def _about(said: Mapping[str, Any]) -> str:
    found = said["statistics"]
    rows = ((name, f"{s['rows']:,}", bytes_(s["bytes"])) for name, s in said["splits"].items())
    pairs = found.get("without_complex_prompt", 0)
    return (
        _what(found["published"], pairs)
        + "\n\n"
        + _table(("split", "samples", "size"), rows)
        + "\n\nSamples with equal complex prompts are in the same split, and so are "
        "near-duplicates, if the dataset was searched for them. A sample stays in its split while "
        "the dataset grows, unless it joins a group of samples that were there before it."
    )


def _what(samples: int, pairs: int) -> str:
    if pairs == samples:
        return f"{samples:,} images, each with a *simple* prompt, a text that describes it."
    about = (
        f"{samples:,} generated images, each with two prompts: the *complex* "
        "prompt it was made from, in the language of image generators, and a *simple* one, a "
        "plain sentence that describes the picture."
    )
    return f"{about} Without a complex prompt: {pairs:,} of them." if pairs else about


def _examples(pairs: Sequence[Mapping[str, str]]) -> str:
    if not pairs:
        return ""
    rows = ((inline(pair["simple"]), inline(pair["complex"])) for pair in pairs)
    return "## Examples\n\n" + _table(("simple prompt", "complex prompt"), rows)


def _loading(params: PublishParams) -> str:
    bare = params.metadata == "strip"
    return _LOADING.replace("{files}", " without the metadata of their files" if bare else "")


_LOADING = (
    "```python\n"
    "from datasets import load_dataset\n\n"
    'dataset = load_dataset("path/to/this/folder")  # or its name on the Hub\n'
    'sample = dataset["train"][0]\n'
    'sample["image"], sample["simple_prompt"], sample["complex_prompt"]\n'
    "```\n\n"
    "The files are plain Parquet. Images are as downloaded, or as the recipe "
    f"resized them{{files}}. `{DESCRIPTION}` lists every file with its sha256; "
    "`croissant.json` describes the dataset in [Croissant](https://mlcommons.org/croissant)."
)


def _funnel(found: Mapping[str, Any]) -> str:
    total = found["collected"]
    captions_only = "without_complex_prompt" in found
    steps = [
        ("collected", total),
        ("with an image", found["with_image"]),
        *([] if captions_only else [("and a complex prompt", found["with_complex_prompt"])]),
        ("and a simple prompt", found["with_simple_prompt"]),
        ("kept by the filter", found["kept"]),
        ("published", found["published"]),
    ]
    text = _table(("step", "samples", "share"), ((s, f"{n:,}", share(n, total)) for s, n in steps))
    if not found["reasons"]:
        return text
    rows = (
        (inline(name), f"{n['samples']:,}", share(n["samples"], total), f"{n['alone']:,}")
        for name, n in found["reasons"].items()
    )
    header = ("reason", "samples", "share", "for this reason only")
    return f"{text}\n\nA sample may be dropped for several reasons.\n\n{_table(header, rows)}"


def _scores(scores: Mapping[str, Mapping[str, float]]) -> str:
    known = {name: values for name, values in scores.items() if values}
    if not known:
        return "No scores were computed."
    rows = (
        (f"`{name}`", f"{values['count']:,}", *(f"{values[f'p{p}']:.3f}" for p in PERCENTILES))
        for name, values in known.items()
    )
    header = ("percentiles", "samples", *(f"{p} %" for p in PERCENTILES))
    return (
        "The cosines compare CLIP's embeddings of image and prompt; their scale differs "
        "between CLIP models.\n\n" + _table(header, rows)
    )


def _sources(found: Mapping[str, Any]) -> str:
    sources = found["sources"]
    rows = [
        (inline(row["source"]), inline(row["licence"] or "not stated"), f"{row['samples']:,}")
        for row in sources[:_MAX_SOURCES]
    ]
    if rest := sources[_MAX_SOURCES:]:
        rows.append((f"{len(rest)} more", "", f"{sum(row['samples'] for row in rest):,}"))
    return (
        _table(("source", "licence according to the source", "samples"), rows)
        + "\n\nThe columns `author`, `licence`, `page_url` and `url` give this information for "
        f"each sample; {found['with_author']:,} samples name an author."
    )


def _how(made: Made) -> str:
    version = inline(made.versions.get("surd", ""))
    surd = f"surd {version}" if version else "surd"
    recipe = {"sources": made.sources, **made.settings}
    text = yaml.safe_dump(recipe, sort_keys=False, width=100)
    return f"Made with {surd}. These parts of the recipe determine the result:\n\n" + fenced(
        text, "yaml"
    )


def _warnings(found: Mapping[str, Any]) -> str:
    levels = ", ".join(
        f"{inline(level)} {count:,}" for level, count in found["nsfw_levels"].items()
    )
    points = [
        f"**Not safe for work.** Levels stated by the sources: {levels}. These levels and the "
        "scores of the image model (`nsfw`) are often wrong; an image without a mark is not "
        "necessarily harmless.",
        "**Licences.** The fact that an image could be downloaded gives you no right to use "
        "it. Check `licence` and `page_url`; usually the terms of the site and of the model "
        "that made the image apply.",
        "**Generated images.** The images reproduce what their models learned, including "
        "mistakes, stereotypes and likenesses of real people. Simple prompts may be "
        "machine-made and wrong; the scores indicate how likely that is.",
        "**Personal data.** Author names and links to pages are personal data, and prompts "
        "may name people. Honour requests for removal: drop the sample and publish again.",
    ]
    if found["exif_turned"]:
        points.append(
            "**Orientation.** Images with an EXIF orientation that turns them: "
            f"{found['exif_turned']:,}; `datasets` turns them automatically. `width` and `height` "
            "are those of the upright picture."
        )
    return "\n".join(f"- {point}" for point in points)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
