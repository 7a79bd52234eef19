"""``surd ablate``: adapters that differ in a few settings, trained and measured alike."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from surd.errors import RecipeError, SurdError, one_line
from surd.evaluate.earlier import keep_earlier
from surd.evaluate.measures import Measured, row_of
from surd.evaluate.results import Row
from surd.evaluate.run import Evaluated, Options, check_options, measure
from surd.params import lasting
from surd.recipe.keys import Recipe
from surd.recipe.load import read_yaml, replace_keys
from surd.recipe.train_adapter import TrainAdapterParams
from surd.store.storage import Storage, local_path
from surd.training.ablation_table import Ablated, Ablation, Pair, ablation_table
from surd.training.run import lessons
from surd.training.run import run as train

Variants = Mapping[str, Mapping[str, Any]]
"""Name of an adapter -> settings of train-adapter that are its own."""


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
        reason = one_line(error)
        raise RecipeError(f"{path}: cannot be read: {reason}") from error
    raw = read_yaml(text, f"{path}: cannot be read")
    if not isinstance(raw, dict) or not all(isinstance(v, dict) for v in raw.values()):
        raise RecipeError(
            f"{path}: expected names, each with its settings of train-adapter below it"
        )
    return {str(name): settings for name, settings in raw.items()}


def ablate(
    location: str,
    recipe: Recipe,
    variants: Variants,
    options: Options,
    *,
    trainings: int = 1,
    quiet: bool = False,
) -> Ablation:
    """Train and measure each; what is there from an earlier run is kept.

    Each is trained `trainings` times, with seeds from its own on, and measured by all of these
    together. Runs lie in ``DIR/adapter/ablation/NAME``, the tables in ``ablation.md`` beside them.
    Raises SurdError, for wrong settings and options of any of them before the first is trained.
    """
    chosen = {
        name: replace_keys(recipe, "train_adapter", dict(settings)).train_adapter
        for name, settings in variants.items()
    }
    check_options(options)
    place = local_path(location)
    root = place / "adapter" / "ablation"
    _check_folders(list(chosen))
    for name, params in chosen.items():
        with _named(name):
            lessons(location, params, root / _folder(name, None), resume=True)
    settings = {
        "format": "surd-ablation-1",
        "options": options.as_json(),
        "trainings": trainings,
        "settings": {name: lasting(params) for name, params in chosen.items()},
    }
    done: list[Ablated] = []
    pairs: list[Pair] = []
    together: dict[str, list[Measured]] = {}
    for name, params in chosen.items():
        runs: dict[int, Evaluated] = {}
        for seed in range(params.seed, params.seed + trainings):
            folder = root / _folder(name, seed if seed != params.seed else None)
            with _named(name):
                train(location, _seeded(params, seed), folder, resume=True, quiet=quiet)
            runs[seed] = measure(folder, options, pictures=root / "pictures", quiet=quiet)
        mine = pooled([one.measured for one in runs.values()])
        for other, theirs in together.items():
            pairs += [Pair(name, other, row) for row in compared(mine, theirs)]
        together[name] = mine
        rows = [row_of(one, quiet=True) for one in mine]
        each = {seed: one.rows for seed, one in runs.items()}
        done.append(Ablated(name, variants[name], rows, each))
        _write(root, settings, Ablation(done, pairs))
    return Ablation(done, pairs)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors say which adapter they are of."""
    try:
        yield
    except SurdError as error:
        raise SurdError(f"{name}: {error}") from error


def _check_folders(names: Sequence[str]) -> None:
    """Raises SurdError where two adapters would lie in one folder."""
    mine: dict[str, str] = {}
    for name in names:
        other = mine.setdefault(_folder(name, None), name)
        if other != name:
            raise SurdError(f"{name}: its folder has the same name as that of {other}; rename one")


def _folder(name: str, seed: int | None) -> str:
    """The folder of a run: another one for each further seed."""
    plain = re.sub(r"[^\w.=+-]+", "-", name)
    return plain if seed is None else f"{plain}+seed={seed}"


def _seeded(params: TrainAdapterParams, seed: int) -> TrainAdapterParams:
    return params.model_copy(update={"seed": seed})


def pooled(runs: Sequence[Sequence[Measured]]) -> list[Measured]:
    """Measures of several trainings as one: pictures of each prompt with each of the adapters.

    The base model's, which are the same each time, are repeated, so that pairs stay pairs.
    """
    together = [
        replace(
            some[0],
            values={
                side: np.concatenate([one.values[side] for one in some], axis=1)
                for side in some[0].values
            },
        )
        for some in _of_all(*runs)
    ]
    return [one for one in together if one.whole.any()]


def _of_all(*runs: Sequence[Measured]) -> list[list[Measured]]:
    """The measures of each that all have; a judge on a server may leave one without answers."""
    named = [{(one.prompts, one.measure): one for one in run} for run in runs]
    return [[some[name] for some in named] for name in named[0] if all(name in s for s in named)]


def compared(mine: Sequence[Measured], theirs: Sequence[Measured]) -> list[Row]:
    """What an adapter changes, each measure, compared with another one on the same prompts and
    noise."""
    both = [
        replace(a, values={"base": b.values["adapter"], "adapter": a.values["adapter"]})
        for a, b in _of_all(mine, theirs)
    ]
    return [row_of(one, quiet=True) for one in both if one.whole.any()]


def _write(root: Path, settings: Mapping[str, Any], ablation: Ablation) -> None:
    keep_earlier(root, "ablation", settings)
    store = Storage(str(root))
    whole = {**settings, **ablation.as_json()}
    store.write_bytes("ablation.md", ablation_table(ablation).encode())
    store.write_bytes("ablation.json", (json.dumps(whole, indent=2) + "\n").encode())
