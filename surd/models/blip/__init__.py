"""Captions from BLIP with each image encoded once: see `encode`, `beam_search`, `nucleus_sample`.

transformers' own ``generate`` keeps an image's cross-attention keys and values once for every
beam, copies all of them at every step to reorder beams, and encodes the image anew at every call.
Here they are computed once, and all captions of an image, beams or samples, read the same ones.

The structure is that of BLIP (arXiv 2201.12086), the weights those of a loaded
`transformers.BlipForConditionalGeneration`, in whatever precision and on whatever device they are::

    context = encode(model, pixels)                           # pixels [n, 3, h, w]
    best = beam_search(model, context, num_beams=3)           # ids [n, 1 + words]
    others = nucleus_sample(model, context, 4, seeds=seeds)   # ids [n, 4, 1 + words]
"""

from __future__ import annotations

from surd.models.blip.beams import beam_search
from surd.models.blip.decoder import ImageContext
from surd.models.blip.encoder import encode
from surd.models.blip.sampling import greedy_search, nucleus_sample

__all__ = ["ImageContext", "beam_search", "encode", "greedy_search", "nucleus_sample"]
