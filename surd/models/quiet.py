"""Keeping the model libraries' own progress bars and chatter out of surd's output."""

from __future__ import annotations


def hush() -> None:
    """No bars and no advice from transformers and diffusers; their errors still come through."""
    import transformers.utils.logging as of_transformers
    from diffusers.utils import logging as of_diffusers

    for library in (of_transformers, of_diffusers):
        library.disable_progress_bar()
        library.set_verbosity_error()
