"""``surd ablate``: adapters that differ in a few settings, trained and measured alike."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from surd.errors import RecipeError, SurdError
from surd.evaluate.results import Row, interval, shown
from surd.evaluate.run import Options, evaluate
from surd.recipe.keys import Recipe
from surd.recipe.load import read_yaml, replace_keys
from surd.store.storage import Storage, local_path
from surd.training.run import run as train

Variants = Mapping[str, Mapping[str, Any]]
"""Name of an adapter -> settings of train-adapter that are its own."""


@dataclass(frozen=True)
class Ablated:
    """One variant, trained and measured."""

    name: str
    settings: Mapping[str, Any]
    rows: Sequence[Row]


def read_variants(path: Path | None, vary: Sequence[str]) -> dict[str, dict[str, Any]]:
    """From a YAML file, name to settings, and from ``KEY=VALUE,VALUE`` texts: one key at a time.

    Raises RecipeError.
    """
    variants = _from_file(path) if path is not None else {}
    for text in vary:
        key, equals, values = text.partition("=")
        if not equals or not values:
            raise RecipeError(f"--vary {text}: expected KEY=VALUE,VALUE, as in layer=10,20,30")
        for value in values.split(","):
            variants[f"{key}={value}"] = {key: read_yaml(value, f"--vary {text}")}
    if not variants:
        raise RecipeError(
            "nothing to compare; name a file of variants, or use --vary layer=10,20,30"
        )
    return variants


def _from_file(path: Path) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such file of variants") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"{path}: cannot be read: {reason}") from error
    raw = read_yaml(text, f"{path}: cannot be read")
    if not isinstance(raw, dict) or not all(isinstance(v, dict) for v in raw.values()):
        raise RecipeError(
            f"{path}: expected names, each with its settings of train-adapter below it"
        )
    return {str(name): settings for name, settings in raw.items()}


def ablate(
    location: str, recipe: Recipe, variants: Variants, options: Options, *, quiet: bool = False
) -> list[Ablated]:
    """Train and measure each; what is there from an earlier run is kept.

    Runs lie in ``DIR/adapter/ablation/NAME``, the table in ``ablation.md`` beside them. Raises
    SurdError, for wrong settings before anything is trained.
    """
    chosen = {
        name: replace_keys(recipe, "train_adapter", dict(settings)).train_adapter
        for name, settings in variants.items()
    }
    place = local_path(location)
    root = place / "adapter" / "ablation"
    done = []
    for name, params in chosen.items():
        folder = root / re.sub(r"[^\w.=+-]+", "-", name)
        try:
            train(location, params, folder, resume=True, quiet=quiet)
        except SurdError as error:
            raise SurdError(f"{name}: {error}") from error
        rows = evaluate(folder, options, pictures=root / "pictures", quiet=quiet)
        done.append(Ablated(name, variants[name], rows))
        _write(root, done)
    return done


def _write(root: Path, done: Sequence[Ablated]) -> None:
    store = Storage(str(root))
    whole = {"format": "surd-ablation-1", "variants": [asdict(one) for one in done]}
    store.write_bytes("ablation.md", ablation_table(done).encode())
    store.write_bytes("ablation.json", (json.dumps(whole, indent=2) + "\n").encode())


def ablation_table(done: Sequence[Ablated]) -> str:
    """A table for each set of prompts: a row a variant, a column a measure."""
    parts = []
    for prompts in dict.fromkeys(row.prompts for row in done[0].rows):
        measures = [row for row in done[0].rows if row.prompts == prompts]
        lines = [
            f"### {prompts}",
            "",
            f"{measures[0].pictures:,} pictures each; every value is followed by its "
            "difference from the base model, with the 95% interval.",
            "",
            "| adapter | " + " | ".join(row.measure for row in measures) + " |",
            "|---" + "|--:" * len(measures) + "|",
            "| none | " + " | ".join(shown(r.base.value, r.is_share) for r in measures) + " |",
        ]
        for one in done:
            cells = [_cell(row) for row in one.rows if row.prompts == prompts]
            lines.append(f"| {one.name} | " + " | ".join(cells) + " |")
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _cell(row: Row) -> str:
    share = row.is_share
    return f"{shown(row.adapter.value, share)}, {interval(row.difference, share)}"
