"""Keeping the model libraries' own progress bars and chatter out of surd's output."""

from __future__ import annotations

import sys


def hush() -> None:
    """No bars and no advice from transformers and diffusers; their errors still come through."""
    import transformers.utils.logging as of_transformers

    libraries = [of_transformers, sys.modules.get("diffusers.utils.logging")]
    for library in filter(None, libraries):
        library.disable_progress_bar()
        library.set_verbosity_error()
