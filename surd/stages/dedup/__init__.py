"""dedup: which samples show the same picture as a better one.

- :mod:`.search`: :func:`~.search.find`, the one entry
- :mod:`.distinct`: rows to different images, best first
- :mod:`.hamming`: perceptual hashes within a Hamming distance
- :mod:`.cosine`, :mod:`.cells`: embeddings above a cosine
- :mod:`.neighbours`, :mod:`.stars`: from pairs to clusters
"""
