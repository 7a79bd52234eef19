"""Where vectors lie in a workspace: ``llm/<model>/layer-<n>/part-*.parquet``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePath

import pyarrow as pa

from surd.errors import WorkspaceError
from surd.models.gguf import is_gguf
from surd.models.names import identity
from surd.recipe.embed_llm import Pool, Texts
from surd.store.schema import described
from surd.store.workspace import DamagedPartError, Workspace

STATUSES = {
    "ok": "has a vector",
    "cut": "has a vector, of the first embed_llm.max_tokens tokens or of the model's window only",
    "dropped": "the verdict drops the sample",
    "no_prompt": "the sample has no simple prompt",
    "no_tokens": "the simple prompt has no tokens",
    "unknown_token": "the tokenizer gives a token for which the model has no embedding",
    "not_finite": "the model returned NaN or infinity",
    "overflow": "a value exceeds the range of float16",
    "absent": "the imported file has no vector for the simple prompt",
}
"""Every value of ``status``."""


OTHERS = pa.list_(
    pa.struct([("text", pa.string()), ("status", pa.string()), ("tokens", pa.int32())])
)
"""Texts of a sample beside its simple prompt."""


def schema(width: int, pool: Pool, texts: Texts = "simple") -> pa.Schema:
    """Of a part; `width` is the model's h."""
    vector = pa.list_(pa.float16(), width)
    which = {
        "last": (vector, "hidden state of the prompt's last token"),
        "mean": (vector, "mean hidden state of the prompt's tokens"),
        "none": (pa.list_(vector), "hidden states of all the prompt's tokens"),
    }
    type_, words = which[pool]
    fields = [
        described("id", pa.string(), "sample id", nullable=False),
        described("status", pa.string(), ", ".join(STATUSES), nullable=False),
        described("simple_prompt", pa.string(), "the text the vector belongs to"),
        described("tokens", pa.int32(), "in the text, including the template around it"),
        described("embedding", type_, words),
    ]
    if texts == "all":
        fields += [
            described(
                "others",
                OTHERS,
                "the sample's other captions and its complex prompt; a text that the part has "
                "already is left out",
            ),
            described(
                "other_embeddings",
                pa.list_(vector),
                "vectors of those that have one, text after text",
            ),
        ]
    return pa.schema(fields)


def short_name(model: str, gguf_file: str | None = None) -> str:
    """A model's folder name: ``meta-llama/Llama-2-13b-hf`` is ``meta-llama--Llama-2-13b-hf``.

    A local folder or file goes by its last name.
    """
    if is_gguf(model, gguf_file):
        name = gguf_file or ("SmolLM2-135M-Instruct" if model.startswith("demo:") else model)
        return PurePath(name).name.removesuffix(".gguf")
    if model.startswith(("/", "./", "../", "~")) or model.count("/") > 1:
        return PurePath(model).name
    return model.strip("/").replace("/", "--").replace(":", "--")


def group(model: str, layer: int) -> str:
    """The column group of a model (its short name) and a layer."""
    return f"llm/{model}/layer-{layer}"


def stored(workspace: Workspace) -> Iterator[tuple[str, int]]:
    """Short name and layer of all vectors there are."""
    for model in workspace.storage.names("llm"):
        names = workspace.storage.names(f"llm/{model}")
        layers = [name.removeprefix("layer-") for name in names if name.startswith("layer-")]
        yield from ((model, int(layer)) for layer in sorted(layers, key=int))


def place_of(model: str) -> str | None:
    """The folder or file of a local model, in full; None of any other."""
    path = Path(model).expanduser()
    return str(path.resolve()) if path.exists() else None


def check_model(workspace: Workspace, group: str, model: str, content: str | None = None) -> None:
    """Raise WorkspaceError where a group holds vectors of another model whose folder has the same
    name; of a folder that is gone nobody can tell where an earlier version of surd wrote them.

    `content` is the model's identity, where that is not the name's. A model may change in its
    place: its vectors are stale then.
    """
    look = workspace.part_infos(group)
    for part in workspace.parts(group):
        with contextlib.suppress(DamagedPartError):
            info = look(group, part)
            about = (info.extra if info else {}).get("llm", {})
            there = str(about.get("model", model))
            same_place = there == model and about.get("place", place_of(model)) == place_of(model)
            known = about.get("identity", identity(there))
            gone = "identity" not in about and there == known
            if not same_place and not gone and known != (content or identity(model)):
                raise WorkspaceError(
                    f"{workspace.location}/{group}: holds vectors of {there}, not of {model}, "
                    "another model in a folder of the same name; rename one of the folders"
                )
            return
