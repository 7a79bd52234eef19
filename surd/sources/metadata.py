"""Generation parameters out of one image file's bytes, without decoding a pixel.

The library sd-parsers knows what AUTOMATIC1111 and Forge, ComfyUI, InvokeAI, NovelAI and Fooocus
write. Finding the text in the file is done here, for three reasons: the library decodes PNG
pixels to reach text at the end of the file, reads EXIF comments as big-endian UTF-16 only, and
remembers the last comment by the address of its image, which a later image may share.

Not read: parameters hidden in the alpha channel ("stealth"), which need every pixel decoded.
"""

from __future__ import annotations

import json
import re
import struct
import warnings
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import Any

from PIL import Image
from sd_parsers import ParserManager
from sd_parsers.data import Generators, PromptInfo

from surd.sources.sidecar import json_able

KEYWORDS = (
    *("parameters", "fooocus_scheme"),  # AUTOMATIC1111, Forge, Fooocus
    "prompt",  # ComfyUI
    *("invokeai_metadata", "sd-metadata", "Dream"),  # InvokeAI
    *("Description", "Comment", "Source"),  # NovelAI
)
MAX_TEXT_BYTES = 4_000_000
"""Longer texts are taken for hostile and left unread."""
MAX_RAW_CHARS = 65_536
"""Longer texts are not repeated in ``settings["raw"]``."""
MAX_NODES, MAX_SAMPLERS = 2_000, 32
"""The library's walk of a ComfyUI graph takes time in the square of these."""

_NEGATIVE = "Negative prompt:"
_NUMBERS = ("seed", "steps", "cfg_scale", "width", "height")
_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286


@dataclass(frozen=True, slots=True)
class Generation:
    """How an image was generated, as its file tells."""

    generator: str
    prompt: str | None
    """ComfyUI may have several: the distinct positive prompts of all samplers, longest first,
    joined by a comma. InvokeAI's pieces around ``[negative]`` words are joined in their order."""
    negative_prompt: str | None
    model: str | None
    """Name of the first sampler's checkpoint, or its hash."""
    settings: Mapping[str, Any]
    """JSON-able: ``generator``, ``sampler``, ``seed``, ``steps``, ``cfg_scale``, ``width`` and
    ``height`` where known, what else the generator wrote under its own names, and ``raw``, the
    texts themselves. Of several samplers the first one in the graph."""


def read(data: bytes) -> Generation | None:
    """What a PNG, JPEG or WebP file says of its making; None when nothing, or nothing legible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            texts = _texts(data)
            info = _parse(texts)
        return _generation(info, texts) if info is not None else None
    except Exception:  # hostile bytes make Pillow raise anything from SyntaxError to MemoryError
        return None


def _parse(texts: Mapping[str, str]) -> PromptInfo | None:
    """The first of the library's parsers that understands the texts."""
    if not texts:
        return None
    prepared = _prepare(texts)
    for parser in _manager().managed_parsers:
        with suppress(Exception):  # a parser may stumble over another generator's texts
            return parser.parse(dict(prepared))
    return None


@cache
def _manager() -> ParserManager:
    return ParserManager()


# --- texts in the file -------------------------------------------------------------------------


def _texts(data: bytes) -> dict[str, str]:
    """Texts of the file under the generators' keywords."""
    exif = Image.Exif()
    texts: dict[str, str] = {}
    if data.startswith(_PNG):
        with Image.open(BytesIO(_png_without_pixels(data)), formats=("PNG",)) as image:
            texts = {k: str(image.info[k]) for k in KEYWORDS if isinstance(image.info.get(k), str)}
            exif = image.getexif()
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        exif.load(_webp_exif(data))
    else:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            exif = image.getexif()
    texts = {**_exif_texts(exif), **texts}
    return {keyword: text for keyword, text in texts.items() if len(text) <= MAX_TEXT_BYTES}


def _png_without_pixels(data: bytes) -> bytes:
    """A PNG of one pixel with the text and EXIF chunks of ``data``, also those after its pixels.

    Chunks are length, type, data, CRC (PNG specification, third edition, section 5.3). Pillow
    decodes the texts and bounds what compressed ones expand to.
    """
    chunks = [_png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
    keywords = tuple(keyword.encode() + b"\0" for keyword in KEYWORDS)
    position = len(_PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + min(length, MAX_TEXT_BYTES + 1)]
        wanted = kind in (b"tEXt", b"zTXt", b"iTXt") and body.startswith(keywords)
        if (wanted or kind == b"eXIf") and len(body) == length:
            chunks.append(_png_chunk(kind, body))
        position += 12 + length
    chunks += [_png_chunk(b"IDAT", zlib.compress(b"\0\0")), _png_chunk(b"IEND", b"")]
    return _PNG + b"".join(chunks)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _webp_exif(data: bytes) -> bytes:
    """The EXIF chunk (WebP container specification, "Extended File Format")."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return b""


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    """The user comment, and the ``prompt:`` that ComfyUI's WebP writers put in the camera's tags.

    Fooocus puts the comment among the main tags, others where it belongs.
    """
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or exif.get(_USER_COMMENT)
    texts = {}
    if isinstance(comment, (bytes, str)) and comment:
        texts["parameters"] = _decode_comment(comment) if isinstance(comment, bytes) else comment
    for value in exif.values():
        if isinstance(value, str) and value.startswith("prompt:"):
            texts["prompt"] = value.removeprefix("prompt:")
    return texts


def _decode_comment(comment: bytes) -> str:
    """Text of a UserComment: a charset in 8 bytes, then the text (Exif 2.32, section 4.6.5).

    "UNICODE" leaves the byte order open, and writers differ; generators write mostly ASCII
    characters, so their zero bytes tell it.
    """
    charset, text = comment[:8], comment[8:]
    if charset == b"UNICODE\0":
        text = text[: len(text) // 2 * 2]
        big_endian = text[0::2].count(0) >= text[1::2].count(0)
        decoded = text.decode("utf-16-be" if big_endian else "utf-16-le", "surrogatepass")
        return decoded.removeprefix("\ufeff")
    if charset not in (b"ASCII\0\0\0", bytes(8)):
        text = comment
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")


# --- texts as the library can follow them ------------------------------------------------------


def _prepare(texts: Mapping[str, str]) -> dict[str, Any]:
    """The texts, mended where the library's parsers lose the prompt or their time."""
    prepared: dict[str, Any] = dict(texts)
    if "parameters" in texts:
        # A second "Negative prompt:" is an error to the library, a hundred "Hashes:" a trap.
        head, mark, tail = texts["parameters"].partition(_NEGATIVE)
        prepared["parameters"] = head + mark + tail.replace(_NEGATIVE, "")
        if texts["parameters"].count("Hashes:") > 100:
            del prepared["parameters"]
    for keyword in {"Dream", "Source"} & texts.keys():
        # The library's expressions backtrack over runs of spaces.
        prepared[keyword] = re.sub(r"\s{100,}", " ", texts[keyword])
    with suppress(Exception):
        # InvokeAI 4 renamed model_name to name.
        fields = json.loads(texts["invokeai_metadata"])
        fields["model"].setdefault("model_name", fields["model"]["name"])
        prepared["invokeai_metadata"] = json.dumps(fields)
    with suppress(Exception):
        prepared["prompt"], links = _comfy_graph(json.loads(texts["prompt"]))
        prepared["workflow"] = {"links": links}
    return prepared


def _comfy_graph(graph: Mapping[str, Any]) -> tuple[dict[str, Any], list[list[Any]]]:
    """Nodes and links of a ComfyUI prompt graph such that the library walks them right.

    The library takes links from the editor's ``workflow``, which images made through ComfyUI's
    API lack and which groups hide; the prompt graph has them all. It also mixes up the prompts
    behind a node that passes on both a positive and a negative one (ControlNet, inpainting), so
    such a node is split in two; takes the link of a LoRA for a model's name, so that only
    samplers keep theirs; knows fewer names of inputs; and does not know samplers in pieces.
    """
    nodes = {str(key): node for key, node in graph.items() if isinstance(node, dict)}
    inputs = {key: dict(node.get("inputs") or {}) for key, node in nodes.items()}
    for key, node in nodes.items():
        if str(node.get("class_type")).startswith("SamplerCustom"):
            _gather_sampler(key, inputs)
    samplers = {key for key, values in inputs.items() if {"steps", "cfg"} <= values.keys()}
    if len(nodes) > MAX_NODES or len(samplers) > MAX_SAMPLERS:
        raise ValueError("more nodes than any real graph has")
    two_way = {
        key
        for key, values in inputs.items()
        if key not in samplers
        and _is_link(values.get("positive"))
        and _is_link(values.get("negative"))
    }
    for key in two_way:
        nodes[f"{key}-"] = nodes[key]
        inputs[f"{key}-"] = {k: v for k, v in inputs[key].items() if k != "positive"}
        del inputs[key]["negative"]
    links = []
    for key, values in inputs.items():
        for name, value in list(values.items()):
            if not _is_link(value):
                continue
            source = f"{value[0]}-" if value[0] in two_way and value[1] == 1 else str(value[0])
            values[name] = [source, value[1]]
            kind = "CLIP" if name.startswith("clip") else "*"
            if nodes[key].get("class_type") != "ConditioningZeroOut":
                links.append([0, source, value[1], key, 0, kind])
            if name == "model" and key not in samplers:
                del values[name]
        for name, others in (("text", ("text_g", "t5xxl")), ("ckpt_name", ("unet_name",))):
            known = [values[other] for other in others if isinstance(values.get(other), str)]
            if known:
                values.setdefault(name, known[0])
    return {key: {**nodes[key], "inputs": inputs[key]} for key in nodes}, links


def _gather_sampler(key: str, inputs: dict[str, dict[str, Any]]) -> None:
    """Give a SamplerCustom node what its guider, noise, sampler and sigmas nodes hold."""
    whole: dict[str, Any] = {"sampler_name": None, "steps": None, "cfg": None}
    for name in ("sigmas", "sampler", "noise", "guider"):
        link: Any = inputs[key].get(name)
        whole |= inputs.get(str(link[0]), {}) if _is_link(link) else {}
    if "conditioning" in whole:
        whole["positive"] = whole.pop("conditioning")
    inputs[key] = {**whole, **inputs[key]}


def _is_link(value: Any) -> bool:
    """A reference to another node's output: its key and the output's number."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[1], int)


# --- what the library found, as surd says it ---------------------------------------------------


def _generation(info: PromptInfo, texts: Mapping[str, str]) -> Generation:
    longest_first = info.generator is Generators.COMFYUI
    models = [sampler.model for sampler in info.samplers if sampler.model is not None]
    names = [name for model in models for name in (model.name, model.hash) if _is_words(name)]
    return Generation(
        generator=info.generator.value,
        prompt=_join((p.value for s in info.samplers for p in s.prompts), longest_first),
        negative_prompt=_join(
            (p.value for s in info.samplers for p in s.negative_prompts), longest_first
        ),
        model=names[0] if names else None,
        settings=_settings(info, texts),
    )


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _join(prompts: Iterable[Any], longest_first: bool) -> str | None:
    distinct = list(dict.fromkeys(str(prompt) for prompt in prompts if _is_words(prompt)))
    if longest_first:
        distinct.sort(key=len, reverse=True)
    return ", ".join(distinct) or None


def _settings(info: PromptInfo, texts: Mapping[str, str]) -> dict[str, Any]:
    """Settings under common names, with numbers as numbers whatever the generator wrote."""
    settings = {k: v for k, v in info.metadata.items() if not re.search(r'["{}\[\]]', str(k))}
    for sampler in info.samplers[:1]:
        settings |= {**sampler.parameters, "sampler": sampler.name}
    if "noise_seed" in settings:
        settings.setdefault("seed", settings["noise_seed"])
    settings = {**_size(settings), **settings}
    settings |= {name: _number(settings[name]) for name in _NUMBERS if name in settings}
    settings["generator"] = info.generator.value
    settings["raw"] = {k: text for k, text in texts.items() if len(text) <= MAX_RAW_CHARS}
    return {str(key): json_able(value) for key, value in settings.items()}


def _size(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Width and height from "512x768" or "(512, 768)", or from ComfyUI's empty latent image."""
    for name in ("Size", "size", "resolution"):
        if match := re.fullmatch(r"\(?(\d{1,6})\D{1,3}(\d{1,6})\)?", str(settings.get(name))):
            return {"width": match[1], "height": match[2]}
    for node_type, nodes in settings.items():
        if node_type.startswith("Empty") and "Latent" in node_type and isinstance(nodes, list):
            return {name: nodes[0][name] for name in ("width", "height") if name in nodes[0]}
    return {}


def _number(value: Any) -> Any:
    """A number written as a string as the number it means, anything else as it is."""
    for convert in (int, float):
        with suppress(ValueError):
            return convert(value) if isinstance(value, str) else value
    return value
