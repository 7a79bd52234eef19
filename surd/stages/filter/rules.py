"""The rules behind the verdicts: each finds rows to drop, and says by which number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.stages.base import WholeTable
from surd.stages.dedup.distinct import best_first
from surd.stages.filter.params import FilterParams
from surd.stages.filter.thresholds import resolve

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]

REASONS = {
    "opt_out": "the site asks not to use the image for AI",
    "no_image": "the image is not available",
    "no_prompt": "the complex prompt is missing or has no words",
    "no_caption": "no simple prompt",
    "gone": "its source no longer has it; surd collect --refresh checks again",
    "clip_threshold": "cosine(image, simple prompt) is too low",
    "complex_threshold": "cosine(image, complex prompt) is too low",
    "min_margin": "the simple prompt is not close enough to the image, compared with the "
    "complex one",
    "min_itm": "according to BLIP, image and simple prompt do not match",
    "min_aesthetic": "the aesthetic score is too low",
    "max_nsfw": "not safe for work according to the image model",
    "max_nsfw_level": "not safe for work according to the source",
    "nsfw_words": "the complex prompt contains explicit words",
    "min_side": "the shorter side is too short",
    "max_aspect": "the image is too long and narrow",
    "languages": "the complex prompt is in another language",
    "min_words": "the complex prompt has too few words",
    "watermark_words": "the caption mentions a watermark or a logo",
    "duplicate": "a better copy of the same picture is kept",
    "max_per_prompt": "better samples have the same complex prompt",
    "max_per_author": "the author has better samples",
    "manual": "decided by hand, which overrules other reasons",
}
"""Every reason a verdict can give, as a sentence."""

LABELS = {
    "opt_out": "opted out of AI",
    "no_image": "no image",
    "no_prompt": "no complex prompt",
    "no_caption": "no simple prompt",
    "gone": "gone from its source",
    "clip_threshold": "simple prompt does not fit",
    "complex_threshold": "complex prompt does not fit",
    "min_margin": "simple prompt fits no better",
    "min_itm": "simple prompt does not match",
    "min_aesthetic": "low aesthetic score",
    "max_nsfw": "not safe for work",
    "max_nsfw_level": "not safe for work (source)",
    "nsfw_words": "explicit words",
    "min_side": "too small",
    "max_aspect": "too long and narrow",
    "languages": "another language",
    "min_words": "too few words",
    "watermark_words": "mentions a watermark",
    "duplicate": "duplicate",
    "max_per_prompt": "too many of its prompt",
    "max_per_author": "too many of its author",
    "manual": "by hand",
}
"""Every reason in a few words, for buttons and marks."""

MISSING = ("opt_out", "no_image", "no_prompt", "no_caption")
"""Reasons that no decision by hand can mend: there is nothing to publish."""

_LEVELS = {"none": 0, "soft": 1, "mature": 2, "x": 3}
_EXPLICIT = (
    r"(?i)\b(nsfw|nude|naked|nudity|topless|nipples?|penis|vagina|pussy|cock|cum|blowjob|sex|"
    r"sexual|porn\w*|hentai|genitals?|masturbat\w*|bdsm|bondage|orgasm|erotic\w*|fellatio|loli\w*|"
    r"shota\w*)\b"
)
_WATERMARK = r"(?i)\b(watermark\w*|logos?|stock photo|copyright|signature)\b"
_PROMPT_SLACK = 0.05
"""Cosines of one picture with prompts that fit it alike differ by less."""
_WORD, _GAP = r"[^\s,.;:|]+", r"[\s,.;:|]+"


@dataclass(frozen=True)
class Finding:
    """Rows that one rule drops."""

    reason: str
    rows: npt.NDArray[np.intp]
    values: Floats | None = None
    """The number of each row; NaN where it has none."""
    threshold: float | None = None
    details: pa.Array | None = None


@dataclass(frozen=True)
class Rows:
    """The small columns of all rows, ready for the rules. Numbers are NaN where unknown."""

    ids: pa.Array
    numbers: dict[str, Floats]
    image_status: pa.Array
    prompt_status: pa.Array
    has_caption: Bools
    nsfw_level: npt.NDArray[np.int8]
    """0 to 3, -1 where the source does not say."""
    explicit: Bools
    watermark: Bools
    language: pa.Array
    prompt_key: npt.NDArray[np.int64]
    author: pa.Array
    duplicate_kind: pa.Array
    cluster: pa.Array
    by_hand: pa.Array
    """``keep``, ``drop`` or null."""
    gone: Bools

    def kept_by_hand(self) -> Bools:
        """Which rows somebody decided to keep."""
        return self._decided("keep")

    def dropped_by_hand(self) -> Bools:
        """Which rows somebody decided to drop."""
        return self._decided("drop")

    def _decided(self, decision: str) -> Bools:
        return pc.equal(self.by_hand, decision).fill_null(False).to_numpy(zero_copy_only=False)


def told_number(reason: str, value: float | None) -> str | None:
    """A number of a finding as people read it; None where it is one like others."""
    if reason != "max_nsfw_level" or value is None:
        return None
    return next((name for name, level in _LEVELS.items() if level == value), None)


def read_rows(whole: WholeTable, params: FilterParams) -> tuple[list[int], Rows]:
    """The number of rows of each part, and the small columns of all together; prompts are let
    go."""
    pieces = list(whole(partial(_small, params=params)))
    sizes = [len(piece["ids"]) for piece in pieces]
    names = list(pieces[0])  # each column of the pieces is let go once it is joined
    return sizes, Rows(**{name: _join([piece.pop(name) for piece in pieces]) for name in names})


def _join(values: list[Any]) -> Any:
    first = values[0]
    if isinstance(first, dict):
        return {name: _join([value[name] for value in values]) for name in first}
    if isinstance(first, np.ndarray):
        return np.concatenate(values)
    return pa.chunked_array(values).unify_dictionaries().combine_chunks()


def _small(table: pa.Table, params: FilterParams) -> dict[str, Any]:
    prompt = table["complex_prompt"]
    numbers = {name: _floats(table[name]) for name in _NUMBERS}
    numbers["words"] = _words(prompt, params.min_words) if params.min_words else np.zeros(0)
    level = pc.index_in(table["nsfw_level"], pa.array(list(_LEVELS))).fill_null(-1)
    return {
        "ids": _one(table["id"]),
        "numbers": numbers,
        "image_status": _category(table["status"]),
        "prompt_status": _category(table["prompts.status"]),
        "has_caption": table["simple_prompt"].is_valid().to_numpy(),
        "nsfw_level": level.to_numpy().astype(np.int8),
        "explicit": _says(_read(table, params), _EXPLICIT, params.nsfw_words),
        "watermark": _says(table["simple_prompt"], _WATERMARK, params.watermark_words),
        "language": _category(table["language"]),
        "prompt_key": _keys(prompt) if params.max_per_prompt else np.zeros(0, np.int64),
        "author": _category(table["author"]),
        "duplicate_kind": _category(table["kind"]),
        "cluster": _one(table["cluster"]),
        "by_hand": _category(table["manual"]),
        "gone": table["gone"].to_numpy(),
    }


def _read(table: pa.Table, params: FilterParams) -> pa.ChunkedArray:
    """Complex prompts; in place of those that need not be there, simple ones."""
    if "complex_prompt" in params.required():
        return table["complex_prompt"]
    return pc.coalesce(table["complex_prompt"], table["simple_prompt"])


_NUMBERS = (
    "cos_simple", "cos_complex", "itm", "aesthetic", "nsfw", "width", "height", "similarity",
)  # fmt: skip


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.cast(pa.large_string()).combine_chunks()  # 32-bit offsets end at 67 million ids


def _category(column: pa.ChunkedArray) -> pa.Array:
    return column.dictionary_encode().unify_dictionaries().combine_chunks()


def _floats(column: pa.ChunkedArray) -> Floats:
    return column.cast(pa.float32()).to_numpy()


def _words(column: pa.ChunkedArray, enough: int) -> Floats:
    """Words of each prompt with fewer than `enough`; infinity for the others, not counted on."""
    more = f"(?:{_WORD}{_GAP}){{{enough - 1}}}{_WORD}"  # found within the first words
    few = pc.invert(pc.match_substring_regex(column, more))
    counts = pc.count_substring_regex(column.filter(few.fill_null(False)), _WORD)
    words = np.full(len(column), np.inf, np.float32)
    words[few.is_null().to_numpy()] = np.nan
    words[few.fill_null(False).to_numpy()] = counts.to_numpy()
    return words


def _says(column: pa.ChunkedArray, pattern: str, asked: bool) -> Bools:
    if not asked:
        return np.zeros(0, bool)
    return pc.match_substring_regex(column, pattern).fill_null(False).to_numpy()


def _keys(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """A 63-bit hash of each prompt, the same for equal prompts in this process; -1 for none."""
    hashes = map(hash, map(str.casefold, column.fill_null("").to_pylist()))
    keys = np.fromiter(hashes, np.int64, len(column)) & np.iinfo(np.int64).max
    return np.where(column.is_valid().to_numpy(), keys, -1)


# --- the rules -----------------------------------------------------------------------------------


def find(rows: Rows, params: FilterParams) -> list[Finding]:
    """What each rule that is on finds, in the order of REASONS; last, what was decided by hand.

    Duplicates and caps are judged after all else, so that what takes another's place is kept
    itself. What is kept by hand comes before others there.
    """
    findings = [
        *_missing(rows, params),
        *_scores(rows, params),
        *_safety(rows, params),
        *_shape(rows, params),
        *_language(rows, params),
    ]
    kept = rows.kept_by_hand()
    dropped = rows.dropped_by_hand()
    for finding in findings:
        dropped[finding.rows] |= (finding.reason in MISSING) | ~kept[finding.rows]
    findings += _duplicates_and_caps(rows, params, dropped)
    decided = np.flatnonzero(pc.is_valid(rows.by_hand).to_numpy(zero_copy_only=False))
    findings.append(Finding("manual", decided, details=_words_of(rows.by_hand, decided)))
    return [finding for finding in findings if len(finding.rows)]


def _missing(rows: Rows, params: FilterParams) -> Iterator[Finding]:
    image, prompt = rows.image_status, rows.prompt_status
    opted_out = pc.equal(image, "opt_out").to_numpy(zero_copy_only=False)
    ok = pc.equal(image, "ok").to_numpy(zero_copy_only=False)
    yield Finding("opt_out", np.flatnonzero(opted_out))
    no_image = np.flatnonzero(~ok & ~opted_out)
    yield Finding("no_image", no_image, details=_words_of(image, no_image))
    wanted = ok
    if "complex_prompt" in params.required():
        has_prompt = pc.equal(prompt, "ok").to_numpy(zero_copy_only=False)
        no_prompt = np.flatnonzero(~has_prompt)
        yield Finding("no_prompt", no_prompt, details=_words_of(prompt, no_prompt))
        wanted = ok & has_prompt  # others were not captioned
    yield Finding("no_caption", np.flatnonzero(wanted & ~rows.has_caption))
    yield Finding("gone", np.flatnonzero(rows.gone))


def _scores(rows: Rows, params: FilterParams) -> Iterator[Finding]:
    values = {
        "clip_threshold": rows.numbers["cos_simple"],
        "complex_threshold": rows.numbers["cos_complex"],
        "min_margin": rows.numbers["cos_simple"] - rows.numbers["cos_complex"],
        "min_itm": rows.numbers["itm"],
        "min_aesthetic": rows.numbers["aesthetic"],
    }
    for reason, numbers in values.items():
        asked = getattr(params, reason)
        if asked is None:
            continue
        threshold = resolve(asked, numbers)
        low = np.flatnonzero(numbers < np.float32(threshold.number))  # what has none is not judged
        why = pa.repeat(pa.scalar(threshold.why, pa.string()), len(low))
        yield Finding(reason, low, numbers[low], threshold.number, why)


def _safety(rows: Rows, params: FilterParams) -> Iterator[Finding]:
    if params.max_nsfw is not None:
        scores = rows.numbers["nsfw"]
        high = np.flatnonzero(scores > params.max_nsfw)
        yield Finding("max_nsfw", high, scores[high], params.max_nsfw)
    if params.max_nsfw_level is not None:
        highest = _LEVELS[params.max_nsfw_level]
        above = np.flatnonzero(rows.nsfw_level > highest)
        yield Finding("max_nsfw_level", above, rows.nsfw_level[above].astype(float), highest)
    if params.nsfw_words:
        yield Finding("nsfw_words", np.flatnonzero(rows.explicit))


def _shape(rows: Rows, params: FilterParams) -> Iterator[Finding]:
    width, height = rows.numbers["width"], rows.numbers["height"]
    if params.min_side is not None:
        side = np.minimum(width, height)
        small = np.flatnonzero(side < params.min_side)
        yield Finding("min_side", small, side[small], params.min_side)
    if params.max_aspect is not None:
        aspect = np.maximum(width, height) / np.minimum(width, height)
        narrow = np.flatnonzero(aspect > params.max_aspect)
        yield Finding("max_aspect", narrow, aspect[narrow], params.max_aspect)


def _language(rows: Rows, params: FilterParams) -> Iterator[Finding]:
    if params.languages is not None:
        language = rows.language.cast(pa.string())
        other = pc.and_(pc.is_valid(language), pc.invert(pc.is_in(language, _array(params))))
        found = np.flatnonzero(other.to_numpy(zero_copy_only=False))
        yield Finding("languages", found, details=language.take(pa.array(found)))
    if params.min_words is not None:
        words = rows.numbers["words"]
        few = np.flatnonzero(words < params.min_words)
        yield Finding("min_words", few, words[few], params.min_words)
    if params.watermark_words:
        yield Finding("watermark_words", np.flatnonzero(rows.watermark))


def _array(params: FilterParams) -> pa.Array:
    return pa.array(params.languages or (), pa.string())


def _words_of(categories: pa.Array, rows: npt.NDArray[np.intp]) -> pa.Array:
    return categories.take(pa.array(rows)).cast(pa.string())


def _codes(categories: pa.Array) -> npt.NDArray[np.int64]:
    return categories.indices.fill_null(-1).to_numpy().astype(np.int64)


# --- one of each picture, and caps --------------------------------------------------------------


@dataclass(frozen=True)
class _Clusters:
    """Rows that show the same picture as others, cluster by cluster, each from best to worst."""

    rows: npt.NDArray[np.intp]
    """``[m]``"""
    begins: npt.NDArray[np.intp]
    """``[c]``: where each cluster begins in ``rows``."""

    def beaten(self, dropped: Bools) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Rows that come after one of their cluster that is not ``dropped`` ``[n]``, and for each
        of them the first such row. Of a cluster without any, no row is beaten."""
        if not len(self.rows):
            return self.rows, self.rows
        place = np.arange(len(self.rows))
        standing = np.where(dropped[self.rows], len(place), place)
        sizes = np.diff(np.r_[self.begins, len(place)])
        first = np.repeat(np.minimum.reduceat(standing, self.begins), sizes)
        beaten = np.flatnonzero(place > first)
        return self.rows[beaten], self.rows[first[beaten]]


def _duplicates_and_caps(rows: Rows, params: FilterParams, dropped: Bools) -> Iterator[Finding]:
    """One row of each cluster stays, the best that nothing else drops; caps count these alone.

    Where a cap drops such a row, the next of its cluster takes its place, unless the cap has no
    room for that either. ``dropped`` ``[n]`` says which rows other rules drop, and is changed.
    """
    kept = rows.kept_by_hand()
    clusters = _clusters(rows, params, dropped)
    caps = [
        (reason, limit, groups, np.zeros(len(dropped), bool))
        for reason, limit, groups in (
            ("max_per_prompt", params.max_per_prompt, rows.prompt_key),
            ("max_per_author", params.max_per_author, _codes(rows.author)),
        )
        if limit is not None
    ]
    while True:
        beaten, winners = clusters.beaten(dropped)
        out = dropped.copy()
        out[beaten] |= ~kept[beaten]
        overflows = []
        for _, limit, groups, capped in caps:
            beyond = _beyond(groups, limit, rows, out)
            overflows.append(groups[beyond])
            capped[beyond] = True
            out[beyond] |= ~kept[beyond]
            dropped[beyond] |= ~kept[beyond]
        lost = beaten[dropped[winners]]
        if not len(lost):
            break
        for (_, _, groups, capped), full in zip(caps, overflows, strict=True):
            beyond = lost[np.isin(groups[lost], full) & ~dropped[lost]]
            capped[beyond] = dropped[beyond] = True
    yield _duplicate(rows, beaten, winners)
    for reason, limit, _, capped in caps:
        yield Finding(reason, np.flatnonzero(capped), threshold=limit)


def _clusters(rows: Rows, params: FilterParams, dropped: Bools) -> _Clusters:
    """Clusters of the kinds that are asked for. What is kept by hand is best, then comes what fits
    its prompt about as well as any that is not ``dropped``; among these the order is dedup's."""
    listed = pc.is_in(
        rows.duplicate_kind.cast(pa.string()), pa.array(params.duplicates, pa.string())
    )
    worse = np.flatnonzero(listed.to_numpy(zero_copy_only=False))
    names = rows.cluster.take(pa.array(worse)).unique()
    heads = np.flatnonzero(pc.is_in(rows.ids, names).to_numpy(zero_copy_only=False))
    members = np.union1d(worse, heads)
    if not len(members):
        return _Clusters(members, members)
    codes = _codes(rows.cluster.take(pa.array(members)).dictionary_encode())
    cosines = rows.numbers["cos_complex"][members].astype(np.float64)
    best = np.full(codes.max() + 1, -np.inf)
    open_ = ~dropped[members]
    np.fmax.at(best, codes[open_], cosines[open_])
    unfit = cosines < best[codes] - _PROMPT_SLACK  # what has no number is not judged
    pixels = rows.numbers["width"][members].astype(np.float64) * rows.numbers["height"][members]
    quality = np.stack([rows.kept_by_hand()[members], ~unfit, pixels, cosines], axis=1)
    order = best_first(quality, rows.ids.take(pa.array(members)))
    order = order[np.argsort(codes[order], kind="stable")]
    ordered = codes[order]
    begins = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return _Clusters(members[order], begins)


def _duplicate(rows: Rows, beaten: npt.NDArray[np.intp], winners: npt.NDArray[np.intp]) -> Finding:
    """What the rows that are not kept are to those that are.

    Dedup compared each with the head of its cluster alone; equal bytes are the same to all. Where
    neither is the head nor equal to it, the detail names the head too.
    """
    text = pa.large_string()  # details of some 50 million duplicates pass 2 GiB
    kinds, winners_kinds = (
        _words_of(rows.duplicate_kind, some).cast(text) for some in (beaten, winners)
    )
    ids, heads = (column.take(pa.array(winners)).cast(text) for column in (rows.ids, rows.cluster))
    of, kept, end = (pa.scalar(words, text) for words in (" of ", "; kept: ", ""))
    near, winner_near = (
        pc.fill_null(pc.not_equal(some, "exact"), False) for some in (kinds, winners_kinds)
    )
    by_winner = pc.and_(pc.invert(near), pc.is_valid(winners_kinds))
    kind = pc.if_else(by_winner, winners_kinds, kinds)
    details = pc.if_else(
        pc.and_(near, winner_near),
        pc.binary_join_element_wise(kind, of, heads, kept, ids, end),
        pc.binary_join_element_wise(kind, of, ids, end),
    )
    similarity = rows.numbers["similarity"]
    compared = np.where(by_winner.to_numpy(zero_copy_only=False), winners, beaten)
    return Finding("duplicate", beaten, similarity[compared], details=details)


def _beyond(
    groups: npt.NDArray[np.int64], limit: int, rows: Rows, dropped: Bools
) -> npt.NDArray[np.intp]:
    """Of the rows of each group that nothing else drops, all but the best `limit` by CLIP.

    Those kept by hand come first. Equal scores are settled by the order of the rows; a group of
    -1 has no limit.
    """
    candidates = np.flatnonzero(~dropped & (groups >= 0))
    scores = np.nan_to_num(rows.numbers["cos_simple"][candidates], nan=-2.0)
    last = ~rows.kept_by_hand()[candidates]
    order = candidates[np.lexsort((candidates, -scores, last, groups[candidates]))]
    ordered = groups[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(order) else order
    lengths = np.diff(np.r_[first, len(ordered)])
    rank = np.arange(len(ordered)) - np.repeat(first, lengths)
    return np.sort(order[rank >= limit])
