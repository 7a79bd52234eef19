"""What an adapter is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from surd.cli.printing import print_json, say
from surd.errors import command


def evaluate(run: str, as_json: bool, *, quiet: bool, **options: Any) -> None:
    """``surd evaluate``."""
    from surd.evaluate.run import Options
    from surd.evaluate.run import evaluate as measure
    from surd.evaluate.table import table_of

    rows = measure(run, Options(**options), quiet=quiet)
    if as_json:
        print_json({"run": run, "rows": [asdict(row) for row in rows]})
        return
    say(table_of(rows))
    say(f"{run}: evaluation.md, evaluation.json, and picture by picture evaluation.parquet")
    say(f"next: {command('report', run)}")


def ablate(
    folder: str,
    variants: str | None,
    vary: Sequence[str],
    overrides: Sequence[str],
    as_json: bool,
    *,
    quiet: bool,
    **options: Any,
) -> None:
    """``surd ablate``."""
    from surd.build.run import open_recipe
    from surd.evaluate.run import Options
    from surd.recipe.recipe import override_recipe
    from surd.store.storage import local_path
    from surd.store.workspace import Workspace
    from surd.training.ablation import ablate as compare
    from surd.training.ablation import ablation_table, read_variants

    local_path(folder)
    chosen = read_variants(Path(variants) if variants else None, vary)
    recipe = override_recipe(open_recipe(Workspace(folder)), overrides)
    done = compare(folder, recipe, chosen, Options(**options), quiet=quiet)
    if as_json:
        print_json({"workspace": folder, "variants": [asdict(one) for one in done]})
        return
    say(ablation_table(done))
    say(f"{folder}/adapter/ablation: ablation.md, ablation.json, and a folder for each adapter")
    say(f"next: {command('report', folder)}")
