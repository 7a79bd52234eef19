"""Which images are the same, or nearly: by their bytes, perceptual hashes and CLIP embeddings.

- :mod:`surd.duplicates.search`: :func:`find`, the one entry
- :mod:`surd.duplicates.images`: rows to different images, best first
- :mod:`surd.duplicates.hamming`: perceptual hashes within a Hamming distance
- :mod:`surd.duplicates.cosine`, :mod:`surd.duplicates.cells`: embeddings above a cosine
- :mod:`surd.duplicates.neighbours`, :mod:`surd.duplicates.stars`: from pairs to clusters

Only numpy and pyarrow are needed; nothing here reads or writes files.
"""

from surd.duplicates.search import KINDS, Duplicates, find

__all__ = ["KINDS", "Duplicates", "find"]
