"""Models under their real names and in their real files, with random weights.

Each is built from its library's own configuration class when it is first asked for: the keys of
every file that decides behaviour are the real ones, depth and width are less where the library
reads them from the file. What is built stays for the run, whichever process built it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock

from real_names import captioners, clips, languages, pipelines

Build = Callable[[Path], None]

MODELS: Mapping[str, Build] = {
    **clips.MODELS,
    **captioners.MODELS,
    **pipelines.MODELS,
    **languages.MODELS,
}
"""Name on the hub -> what writes its files into an empty folder."""
GATED = frozenset(languages.GATED)
"""Those that the hub gives to none but who has asked for access."""


class Zoo:
    """The models that were built below a folder, and those that can be."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def has(self, repo: str) -> bool:
        return repo in MODELS

    def folder(self, repo: str) -> Path:
        """The model's files, built where they are not there yet."""
        folder = self._root / repo
        if not folder.is_dir():
            lock = self._root / f"{repo.replace('/', '--')}.lock"
            self._root.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):
                if not folder.is_dir():
                    begun = folder.with_name(f".{folder.name}")
                    shutil.rmtree(begun, ignore_errors=True)
                    begun.mkdir(parents=True)
                    MODELS[repo](begun)
                    begun.rename(folder)
        return folder
