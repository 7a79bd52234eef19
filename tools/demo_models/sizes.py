"""The sizes of the demo's models, in one place."""

from __future__ import annotations

PICTURE_PX = 48
PATCH_PX = 8
CONTEXT_TOKENS = 40
"""Text window of CLIP and of the diffusion model; the longest prompt of the world has 36 tokens."""
WIDTH = 128
"""Of every transformer here, and so the d of ``[b, s, d]`` text embeddings."""
HEADS = 4
LAYERS = 4
LATENT_CHANNELS = 4
LATENT_PX = 12
TEXT_LAYERS_READ = 1
"""Text layers the diffusion model reads CLIP after; the others are left out of its encoder.

The later a layer, the more alike are the states of sentences and of tags that mean the same.
"""
