"""Which split a sample belongs to."""

from __future__ import annotations

import hashlib

from surd.recipe.publish import PublishParams

SPLITS = ("train", "validation", "test")


def split_of(cluster: str, params: PublishParams) -> str:
    """The split of a near-duplicate cluster (of a sample, where none were looked for).

    Depends on the name of the cluster alone: a sample stays where it is while the dataset grows,
    and its near-duplicates are where it is. Test comes first, so that another share of
    validation moves nothing into or out of it.
    """
    digest = hashlib.blake2b(f"split\0{cluster}".encode(), digest_size=8).digest()
    point = int.from_bytes(digest, "big") / 2**64
    if point < params.test:
        return "test"
    return "validation" if point < params.test + params.validation else "train"
