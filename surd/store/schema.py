"""The Arrow schemas of every group, and the JSON Schemas generated from them.

Part i of every group holds the same samples in the same order, keyed by ``id``
(32 hexadecimal digits, see :func:`surd.sources.record.sample_id`).
"""

from __future__ import annotations

import pyarrow as pa

FILE_ROWS, ROWS, CHEAP_ROWS = 64, 2_000, 10_000
"""In a row group with files, of which a reader wants a few; in others, where a model is asked again
if one is damaged; and in those of CHEAP. Each costs whoever reads many samples a twentieth of a
millisecond per column, as much as 300 short texts."""

CHEAP = ("samples", "prompts")
"""Groups that no model computes."""

DIFFERENT = frozenset(
    {
        *("id", "source_id", "url", "page_url", "path", "image.path", "created_at", "settings"),
        *("prompt", "simple_prompt", "complex_prompt", "dense_caption", "captions.list.element"),
        *("candidates.list.element.text", "candidates.list.element.raw"),
        *("sha256", "phash", "cluster"),
    }
)
"""Columns of texts that seldom repeat, by Parquet's names: a dictionary of them would only make
files larger, and take longer to read."""


def described(name: str, type_: pa.DataType, doc: str, *, nullable: bool = True) -> pa.Field:
    """A field that carries its own description."""
    return pa.field(name, type_, nullable=nullable, metadata={"doc": doc})


_ID = described("id", pa.string(), "stable id of the sample, 32 hexadecimal digits", nullable=False)

SAMPLES = pa.schema(
    [
        _ID,
        described(
            "source", pa.string(), "kind of the source, such as civitai or folder", nullable=False
        ),
        described("source_id", pa.string(), "the source's own id for the image"),
        described("url", pa.string(), "where the image can be fetched"),
        described(
            "path",
            pa.string(),
            "local file, or archive.zip::member, archive.tar::member, file.parquet::COLUMN/ROW",
        ),
        described("prompt", pa.string(), "the prompt as the source gave it"),
        described("negative_prompt", pa.string(), "the negative prompt as the source gave it"),
        described(
            "simple_prompt", pa.string(), "a simple prompt or caption, if the source has one"
        ),
        described("captions", pa.list_(pa.string()), "further captions, if the source has several"),
        described("author", pa.string(), "who published the image"),
        described("licence", pa.string(), "licence or terms, if the source states them"),
        described("nsfw_level", pa.string(), "none, soft, mature or x; null when unknown"),
        described("model", pa.string(), "the generator's checkpoint"),
        described("page_url", pa.string(), "page that shows the image"),
        described("created_at", pa.string(), "time of publication, in ISO 8601"),
        described("settings", pa.string(), "generator settings as a JSON object"),
    ]
)

IMAGES = pa.schema(
    [
        _ID,
        described("status", pa.string(), "ok, or why there is no image", nullable=False),
        described("detail", pa.string(), "one line about any status other than ok"),
        described("http_status", pa.int16(), "last HTTP status received, if any"),
        described("bytes", pa.large_binary(), "the file, as downloaded or resized"),
        described("mime", pa.string(), "media type, detected from the bytes"),
        described("width", pa.int32(), "width in pixels, after applying the EXIF orientation"),
        described("height", pa.int32(), "height in pixels, after applying the EXIF orientation"),
        described(
            "exif_orientation",
            pa.int8(),
            "1 to 8; any value but 1 means that the bytes need turning for display",
        ),
        described("resized", pa.bool_(), "false if the bytes are as downloaded"),
        described("sha256", pa.string(), "SHA-256 of the bytes, 64 hexadecimal digits"),
        described("phash", pa.string(), "64-bit DCT perceptual hash, 16 hexadecimal digits"),
    ]
)

PROMPTS = pa.schema(
    [
        _ID,
        described(
            "status", pa.string(), "ok, missing, empty, too_long or not_text", nullable=False
        ),
        described(
            "complex_prompt", pa.string(), "the words of the prompt, without generator syntax"
        ),
        described(
            "networks",
            pa.list_(
                pa.struct(
                    [
                        pa.field("kind", pa.string()),
                        pa.field("name", pa.string()),
                        pa.field("weight", pa.float32()),
                    ]
                )
            ),
            "LoRA, LyCORIS, hypernetwork and embedding references taken out of the prompt, "
            "in order",
        ),
        described(
            "weights",
            pa.list_(pa.struct([pa.field("text", pa.string()), pa.field("weight", pa.float32())])),
            "pieces of the text whose attention weight is not 1, in order",
        ),
        described(
            "wildcards",
            pa.list_(pa.string()),
            "wildcards and unresolved choices taken out of the prompt",
        ),
        described("segments", pa.int16(), "1 + the number of BREAK and AND in the prompt"),
        described("repaired", pa.bool_(), "true if ftfy repaired mojibake in the prompt"),
        described("language", pa.string(), "ISO 639 code of the language, guessed from the words"),
        described("token_count", pa.int32(), "number of CLIP BPE tokens, without start and end"),
    ]
)

EMBEDDING = pa.list_(pa.float16())
"""A vector; of unit length where CLIP made it."""

CAPTIONS = pa.schema(
    [
        _ID,
        described(
            "status",
            pa.string(),
            "ok, no_image, no_prompt, decode_error, empty or no_answer",
            nullable=False,
        ),
        described("detail", pa.string(), "one line about empty and no_answer, where more is known"),
        described(
            "candidates",
            pa.list_(
                pa.struct(
                    [
                        pa.field("text", pa.string()),
                        pa.field("raw", pa.string()),
                        pa.field("how", pa.string()),
                    ]
                )
            ),
            "distinct simple prompts: the cleaned text, the raw caption, and how it was "
            "obtained (given by the source, beam, greedy or nucleus)",
        ),
    ]
)

DENSE = pa.schema(
    [
        _ID,
        described(
            "status",
            pa.string(),
            "ok, no_image, no_prompt, decode_error, empty or no_answer",
            nullable=False,
        ),
        described("detail", pa.string(), "one line about empty and no_answer, where more is known"),
        described(
            "dense_caption", pa.string(), "a detailed caption of the image, if one was asked for"
        ),
    ]
)

TAGS = pa.schema(
    [
        _ID,
        described(
            "status", pa.string(), "ok, no_image, no_prompt, decode_error or empty", nullable=False
        ),
        described(
            "tags",
            pa.string(),
            "tags of the image, if they were asked for: characters first, the likeliest first, "
            "with commas between",
        ),
        described(
            "scores",
            pa.list_(
                pa.struct(
                    [
                        pa.field("tag", pa.string()),
                        pa.field("category", pa.string()),
                        pa.field("score", pa.float32()),
                    ]
                )
            ),
            "these tags with their category (character or general) and probability, and the "
            "likeliest rating",
        ),
    ]
)

CLIP = pa.schema(
    [
        _ID,
        described("status", pa.string(), "ok, no_image or decode_error", nullable=False),
        described("simple_prompt", pa.string(), "the candidate closest to the image"),
        described("cos_simple", pa.float32(), "cosine(image, simple prompt), -1 to 1"),
        described("cos_complex", pa.float32(), "cosine(image, complex prompt), -1 to 1"),
        described(
            "candidate_scores",
            pa.list_(pa.float32()),
            "cosine(image, candidate) for each candidate",
        ),
        described(
            "complex_chunks",
            pa.int16(),
            "number of text windows over which the complex prompt was scored",
        ),
        described("itm", pa.float32(), "BLIP's image-text matching score, 0 to 1, if requested"),
        described("aesthetic", pa.float32(), "aesthetic score, if a head was given"),
        described("nsfw", pa.float32(), "NSFW score of the image model, 0 to 1, if requested"),
        described("image_embedding", EMBEDDING, "CLIP embedding of the image, of unit length"),
        described(
            "simple_embedding", EMBEDDING, "CLIP embedding of the simple prompt, of unit length"
        ),
        described(
            "complex_embedding", EMBEDDING, "CLIP embedding of the complex prompt, of unit length"
        ),
    ]
)

DUPLICATES = pa.schema(
    [
        _ID,
        described("cluster", pa.string(), "id of the best sample in the cluster", nullable=False),
        described("cluster_size", pa.int32(), "number of samples in the cluster", nullable=False),
        described(
            "kind",
            pa.string(),
            "how it matches the best sample: exact, phash or clip; null for the best itself",
        ),
        described(
            "similarity",
            pa.float32(),
            "similarity to the best sample: 1 for exact, share of equal bits for phash, "
            "cosine for clip",
        ),
    ]
)

VERDICTS = pa.schema(
    [
        _ID,
        described("keep", pa.bool_(), "true if the sample is to be published", nullable=False),
        described(
            "reasons",
            pa.list_(
                pa.struct(
                    [
                        pa.field("reason", pa.string()),
                        pa.field("value", pa.float64()),
                        pa.field("threshold", pa.float64()),
                        pa.field("detail", pa.string()),
                    ]
                )
            ),
            "every reason to drop the sample, with its number and threshold; manual is a "
            "decision by hand, which overrules the other reasons if its detail is keep",
        ),
    ]
)

GROUPS: dict[str, pa.Schema] = {
    "samples": SAMPLES,
    "images": IMAGES,
    "prompts": PROMPTS,
    "captions": CAPTIONS,
    "dense": DENSE,
    "tags": TAGS,
    "clip": CLIP,
    "duplicates": DUPLICATES,
    "verdicts": VERDICTS,
}

MADE_BY = {
    "samples": "collect",
    "images": "download",
    "prompts": "prompts",
    "captions": "caption",
    "dense": "caption",
    "tags": "caption",
    "clip": "score",
    "duplicates": "dedup",
    "verdicts": "filter",
}
"""Group -> the stage that makes it, which is the command too."""

IMAGE_STATUSES: dict[str, str] = {
    "ok": "the image is available",
    "no_location": "the source gave neither url nor path",
    "bad_url": "not an http or https url with a host",
    "blocked_address": "the host is a private, loopback or otherwise non-public address",
    "dns_error": "the host name does not resolve",
    "connect_error": "no connection, or it broke before the answer",
    "timeout": "no complete answer in time",
    "http_error": "an HTTP status other than 200",
    "too_many_redirects": "more redirects than allowed, or redirects in a circle",
    "bad_redirect": "a redirect without a target, or to something other than http(s)",
    "host_failed": "not asked for, because its host had failed often; --retry-failed asks again",
    "robots_txt": "robots.txt of its site does not allow it, or cannot be had",
    "opt_out": "a header or robots.txt says that it is not to be used for AI",
    "bad_encoding": "a Content-Encoding that surd did not ask for and cannot undo",
    "too_large": "more bytes than allowed",
    "truncated": "fewer bytes than announced, or an image that ends early",
    "missing_file": "the local file, archive or member does not exist",
    "unreadable_file": "the local file cannot be read",
    "empty": "zero bytes",
    "not_an_image": "not a known image format",
    "unsupported_format": "an image in a format that surd does not decode",
    "animated": "more than one frame",
    "too_many_pixels": "more pixels than allowed; not decoded",
    "decode_error": "the image cannot be decoded",
}
"""Every value ``images.status`` can take."""
