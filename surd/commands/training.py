"""Language model vectors, and what is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surd.commands.build import run
from surd.commands.curation import need_read


def embed_llm(
    folder: str,
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    *,
    quiet: bool,
    as_json: bool,
) -> None:
    """``surd embed-llm``."""
    from surd.build import open_recipe
    from surd.llm.part import READS
    from surd.llm.run import look
    from surd.recipe import override_recipe, replace_keys
    from surd.workspace import Workspace

    workspace = Workspace(folder)
    workspace.read_manifest()
    need_read(workspace, READS)
    given = {key: value for key, value in flags.items() if value is not None}
    if "model" in given:  # what belongs to another model does not stay
        given = {"gguf_file": None, "revision": None, **given}
    recipe = override_recipe(replace_keys(open_recipe(workspace), "embed_llm", given), overrides)
    look(recipe.embed_llm)  # before the workspace remembers what cannot be
    run(folder, recipe, None, as_json, only="embed_llm", quiet=quiet)
