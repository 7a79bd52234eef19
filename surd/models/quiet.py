"""Keeping the model libraries' own progress bars and chatter out of surd's output."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def hush() -> None:
    """No bars and no advice from transformers, diffusers and the hub; errors still come through."""
    import transformers.utils.logging as of_transformers

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    libraries = [of_transformers, sys.modules.get("diffusers.utils.logging")]
    for library in filter(None, libraries):
        library.disable_progress_bar()
        library.set_verbosity_error()


@contextmanager
def muted(library: str) -> Iterator[None]:
    """Not even errors while the block runs: of those that matter, the library raises one."""
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
