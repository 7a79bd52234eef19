"""Where texts lie in image files, and how they are encoded there."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from surd.files.carriers.find import hidden_texts_in, texts_in
from surd.sources import metadata

TEXT = "a clay fox, naïve, 狐狸, лиса"
WORDS = "a clay fox, under a lamp"
INFOTEXT = f"{WORDS}\nNegative prompt: blurry, text\nSteps: 12, Sampler: Euler a, Seed: 3"
USER_COMMENT = 0x9286


def saved(format_: str, mode: str = "RGB", **options: Any) -> bytes:
    file = BytesIO()
    Image.new(mode, (8, 8)).save(file, format_, **options)
    return file.getvalue()


def with_tags(format_: str = "JPEG", **tags: Any) -> bytes:
    exif = Image.Exif()
    for name, value in tags.items():
        exif[{"make": 0x10F, "model": 0x110, "description": 0x10E, "xp": 0x9C9C}[name]] = value
    return saved(format_, exif=exif)


def with_comment(comment: bytes | str) -> bytes:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[USER_COMMENT] = comment
    return saved("WEBP", exif=exif)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes) -> bytes:
    whole = saved("PNG")
    return whole[:33] + b"".join(chunks) + whole[33:]


def values(data: bytes) -> dict[str, str]:
    return {text.where: text.value for text in texts_in(data)}


@pytest.mark.parametrize(
    "made",
    [
        chunk(b"tEXt", b"parameters\0" + TEXT.encode()),
        chunk(b"tEXt", b"parameters\0" + TEXT.encode("utf-16")),
        chunk(b"zTXt", b"parameters\0\0" + zlib.compress(TEXT.encode())),
        chunk(b"iTXt", b"parameters\0\0\0en\0\0" + TEXT.encode()),
        chunk(b"iTXt", b"parameters\0\1\0\0\0" + zlib.compress(TEXT.encode())),
        chunk(b"tEXt", b"parameters\0" + TEXT.encode())[:-4] + b"\0\0\0\0",
    ],
    ids=["UTF-8", "UTF-16", "compressed", "international", "both", "damaged checksum"],
)
def test_every_text_chunk_of_png_is_read(made: bytes) -> None:
    assert values(png(made)) == {"PNG parameters": TEXT}


def test_latin_1_is_read_where_it_is_not_utf_8() -> None:
    assert values(png(chunk(b"tEXt", b"Comment\0caf\xe9 \x96 bar"))) == {
        "PNG Comment": "café – bar"
    }


def test_exif_and_xmp_are_read_from_every_format() -> None:
    exif = Image.Exif()
    exif[0x10E] = WORDS
    packet = f"<x:xmpmeta><dc:title><rdf:li>{WORDS}</rdf:li></dc:title></x:xmpmeta>".encode()
    profile = b"\nexif\n 99\n" + exif.tobytes().hex().encode() + b"\n"
    for data in (
        png(chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0"))),
        png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))),
        *(saved(format_, exif=exif) for format_ in ("JPEG", "WEBP", "TIFF")),
    ):
        assert WORDS in values(data).values()
    for format_ in ("JPEG", "WEBP"):
        assert values(saved(format_, xmp=packet)) == {"XMP dc:title": WORDS}
    assert values(png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))) == {
        "XMP dc:title": WORDS
    }


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif_is_read() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[USER_COMMENT] = b"UNICODE\0" + INFOTEXT.encode("utf-16-be")
    assert metadata.read(saved("AVIF", exif=exif.tobytes())).prompt == WORDS


def test_comments_of_jpeg_and_gif_are_read() -> None:
    assert values(saved("JPEG", comment=TEXT.encode())) == {"JPEG comment": TEXT}
    assert values(saved("GIF", comment=TEXT.encode())) == {"comment": TEXT}


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


JXL = b"\0\0\0\x0cJXL \r\n\x87\n"


def test_jpeg_xl_is_read_without_decoding_it(monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x10E] = WORDS
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was opened"))
    for head in (b"", b"\0\0\0\0", b"\0\0\0\6Exif\0\0"):
        file = JXL + box(b"jxlc", bytes(20)) + box(b"Exif", head + tiff)
        assert values(file) == {"EXIF ImageDescription": WORDS}
    packet = f"<dc:title>{WORDS}</dc:title>".encode()
    last = struct.pack(">I4s", 0, b"xml ") + packet  # up to the end of the file
    assert values(JXL + last) == {"XMP dc:title": WORDS}


@pytest.mark.parametrize("size", [1, 2, 7, 2**31])
def test_boxes_that_lie_about_their_size_end_the_search(size: int) -> None:
    assert values(JXL + struct.pack(">I4s", size, b"free") + box(b"xml ", b"<a:b>ab</a:b>")) == {}
    assert values(JXL + box(b"free", b"") * 5000 + box(b"xml ", b"<a:b>ab</a:b>")) == {}


def test_exif_of_heic_is_read() -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[USER_COMMENT] = b"UNICODE\0" + INFOTEXT.encode("utf-16-be")
    assert metadata.read(saved("HEIF", exif=exif.tobytes())).prompt == WORDS


def test_exif_that_goes_on_over_segments_is_one() -> None:
    exif = Image.Exif()
    exif[0x10E] = WORDS * 4_000
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    segments = b"".join(
        b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\0\0" + part
        for part in (tiff[:60_000], tiff[60_000:])
    )
    jpeg = saved("JPEG")
    assert list(values(jpeg[:2] + segments + jpeg[2:]).values()) == [WORDS * 4_000]


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + TEXT.encode("utf-16-be"),
        b"UNICODE\0" + TEXT.encode("utf-16-le"),
        b"UNICODE\0" + TEXT.encode("utf-16"),
        b"UNICODE\0" + TEXT.encode(),
        b"Unicode\0" + TEXT.encode("utf-16-le"),
        b"ASCII\0\0\0" + TEXT.encode(),
        bytes(8) + TEXT.encode(),
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.encode("utf-16"),
        b"UNICODE\0" + TEXT.encode("utf-16-be") + bytes(6),
        b'charset="Unicode" ' + TEXT.encode("utf-16-le"),
        b"charset=Ascii " + TEXT.encode(),
    ],
)
def test_a_user_comment_is_read_in_every_encoding(comment: bytes) -> None:
    assert values(with_comment(comment)) == {"EXIF UserComment": TEXT}


def test_a_user_comment_of_other_scripts_is_read_in_either_order_of_bytes() -> None:
    for text in (
        "一只粘土做的狐狸在灯下看书，夜晚的窗外下着雨",
        "глиняная лиса под лампой",
        "粘土の狐がランプの下にいる",
    ):
        for encoding in ("utf-16-be", "utf-16-le"):
            comment = b"UNICODE\0" + text.encode(encoding)
            assert values(with_comment(comment)) == {"EXIF UserComment": text}
    japanese = b"JIS\0\0\0\0\0" + "粘土の狐".encode("iso2022_jp")
    assert values(with_comment(japanese)) == {"EXIF UserComment": "粘土の狐"}


def test_tags_of_text_are_utf_8() -> None:
    assert values(with_tags(description=TEXT.encode())) == {"EXIF ImageDescription": TEXT}
    tiff = b"II*\0\x08\0\0\0\x01\0" + struct.pack("<HHII", 0x10E, 7, len(WORDS), 26) + bytes(4)
    assert values(png(chunk(b"eXIf", tiff + WORDS.encode()))) == {"EXIF ImageDescription": WORDS}
    windows = TEXT.encode("utf-16-le") + b"\0\0"
    assert values(with_tags(xp=windows)) == {"EXIF XPComment": TEXT}


@pytest.mark.parametrize("tag", ["make", "model", "description"])
@pytest.mark.parametrize("label", ["prompt:", "Prompt:", "Prompt: "])
def test_comfyuis_writers_of_webp_are_read(tag: str, label: str) -> None:
    graph = {"1": {"class_type": "Draw", "inputs": {"prompt": WORDS, "seed": 1}}}
    found = metadata.read(with_tags("WEBP", **{tag: label + json.dumps(graph)}))
    assert (found.generator, found.prompt) == ("ComfyUI", WORDS)


PACKET = (
    '<?xpacket begin="" id="x"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description '
    'xmp:CreatorTool="Draw Things" xmlns:dc="http://purl.org/dc/elements/1.1/" {attribute}>'
    "{element}</rdf:Description></rdf:RDF></x:xmpmeta>"
)


@pytest.mark.parametrize(
    "packet",
    [
        PACKET.format(attribute="", element="<exif:UserComment><rdf:Alt><rdf:li xml:lang='x'>{}"
                      "</rdf:li></rdf:Alt></exif:UserComment>"),
        PACKET.format(attribute="exif:UserComment='{}'", element=""),
        PACKET.format(attribute="", element="<exif:UserComment>{}</exif:UserComment>"),
        PACKET.format(attribute="", element="<exif:UserComment><![CDATA[{}]]></exif:UserComment>"),
    ],
)  # fmt: skip
def test_xmp_is_read_as_elements_and_as_attributes(packet: str) -> None:
    value = json.dumps({"c": WORDS, "uc": "blurry & text", "seed": 5})
    if "CDATA" not in packet:
        value = value.replace("&", "&amp;").replace('"', "&quot;")
    found = metadata.read(saved("JPEG", xmp=packet.replace("{}", value).encode()))
    assert (found.generator, found.prompt) == ("Draw Things", WORDS)
    assert found.negative_prompt == "blurry & text"


def hidden(
    text: bytes, signature: bytes, size: tuple[int, int] = (40, 60), **options: Any
) -> bytes:
    body = signature + struct.pack(">I", 8 * len(text)) + text
    bits = np.unpackbits(np.frombuffer(body, np.uint8))
    alpha = np.full(size, 255, np.uint8).reshape(-1)
    alpha[: len(bits)] = 254 | bits
    pixels = np.zeros((size[1], size[0], 4), np.uint8)
    pixels[..., 3] = alpha.reshape(size).T
    file = BytesIO()
    Image.fromarray(pixels).save(file, **({"format": "PNG"} | options))
    return file.getvalue()


@pytest.mark.parametrize("size", [(40, 60), (400, 8), (8, 400)])
@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_text_in_the_alpha_channel_is_read(size: tuple[int, int], format_: str) -> None:
    options = {"format": format_} | ({"lossless": True, "exact": True} if format_ == "WEBP" else {})
    for text, signature in (
        (INFOTEXT.encode(), b"stealth_pnginfo"),
        (gzip.compress(INFOTEXT.encode()), b"stealth_pngcomp"),
    ):
        found = metadata.read(hidden(text, signature, size, **options))
        assert (found.prompt, found.negative_prompt) == (WORDS, "blurry, text")
        assert found.prompt_from is not None
        assert found.prompt_from.where == "alpha channel"


def test_novelais_texts_in_the_alpha_channel_are_read() -> None:
    comment = json.dumps({"prompt": WORDS, "uc": "blurry, text"})
    texts = {"Title": "NovelAI generated image", "Software": "NovelAI", "Comment": comment}
    data = hidden(gzip.compress(json.dumps(texts).encode()), b"stealth_pngcomp")
    found = metadata.read(data)
    assert (found.generator, found.prompt) == ("NovelAI", WORDS)


def test_alpha_channels_without_text_are_none() -> None:
    assert hidden_texts_in(saved("PNG", "RGBA")) == []
    assert hidden_texts_in(saved("PNG", "LA")) == []
    assert hidden_texts_in(saved("JPEG")) == []
    assert hidden_texts_in(hidden(b"", b"stealth_pnginfo", (2, 2 * 76))[:-40]) == []
    bomb = gzip.compress(bytes(50_000_000))
    assert all(len(text.value) < 5_000_000 for text in hidden_texts_in(
        hidden(bomb, b"stealth_pngcomp", (800, 800))
    ))  # fmt: skip
    endless = b"stealth_pnginfo" + b"\xff\xff\xff\xff"
    assert hidden_texts_in(hidden(b"", endless)) == []


CARRIERS = {
    "PNG tEXt": lambda text: png(chunk(b"tEXt", b"Anything\0" + text.encode())),
    "PNG zTXt": lambda text: png(chunk(b"zTXt", b"Comment\0\0" + zlib.compress(text.encode()))),
    "PNG iTXt": lambda text: png(chunk(b"iTXt", b"Description\0\0\0\0\0" + text.encode())),
    "UserComment": lambda text: with_comment(b"ASCII\0\0\0" + text.encode()),
    "ImageDescription": lambda text: with_tags(description=text),
    "XPComment": lambda text: with_tags(xp=text.encode("utf-16-le")),
    "Make with a label": lambda text: with_tags("WEBP", make=f'prompt:{{"x": "{text}"}}'),
    "XMP": lambda text: saved(
        "JPEG", xmp=f"<a><dc:description>{text}</dc:description></a>".encode()
    ),
    "JSON in parameters": lambda text: png(
        chunk(b"tEXt", f'parameters\0{{"x":"{text}"}}'.encode())
    ),
    "JSON in UserComment": lambda text: with_comment(f'{{"x": "{text}"}}'.encode()),
    "JPEG comment": lambda text: saved("JPEG", comment=text.encode()),
    "alpha channel": lambda text: hidden(f'{{"x": "{text}"}}'.encode(), b"stealth_pnginfo"),
    "beside a prompt": lambda text: png(
        chunk(b"tEXt", b"parameters\0" + INFOTEXT.encode()),
        chunk(b"tEXt", b"Note\0" + text.encode()),
    ),
}


@pytest.mark.parametrize("carrier", CARRIERS)
def test_text_that_is_not_understood_is_kept_and_told(carrier: str) -> None:
    """Text of 20 letters or more is used, kept in the settings, or counted as not understood."""
    text = "something written in the old harbour"
    found = metadata.read(CARRIERS[carrier](text))
    missed = found.settings[metadata.NOT_UNDERSTOOD]
    assert len(missed) == 1
    assert text in next(iter(missed.values()))
    assert found.prompt == (WORDS if carrier == "beside a prompt" else None)


def test_words_alone_in_a_unicode_comment_are_a_prompt_unless_a_camera_is_named() -> None:
    comment = b"UNICODE\0" + WORDS.encode("utf-16-be")
    assert metadata.read(with_comment(comment)).prompt == WORDS
    exif = Image.Exif()
    exif[0x10F] = "A Camera Maker"
    exif.get_ifd(0x8769)[USER_COMMENT] = comment
    found = metadata.read(saved("JPEG", exif=exif))
    assert found.prompt is None
    assert metadata.NOT_UNDERSTOOD not in found.settings or found.settings[metadata.NOT_UNDERSTOOD]


def test_short_texts_and_those_of_cameras_are_not_counted_as_missed() -> None:
    assert metadata.read(with_tags(description="holidays")).settings == {}
    assert metadata.read(with_tags(make="A Camera Maker")).settings == {}
    made = metadata.read(with_tags(make="A Camera Maker of Great Renown")).settings
    assert made == {"raw": {"EXIF Make": "A Camera Maker of Great Renown"}}
    packet = "<x><xmp:CreatorTool>An Editor for Photographs</xmp:CreatorTool></x>"
    edited = metadata.read(saved("JPEG", xmp=packet.encode())).settings
    assert edited == {"raw": {"XMP xmp:CreatorTool": "An Editor for Photographs"}}


def test_what_was_used_is_kept_whole_in_the_settings() -> None:
    data = png(
        chunk(b"tEXt", b"parameters\0" + INFOTEXT.encode()), chunk(b"tEXt", b"Software\0a web page")
    )
    assert metadata.read(data).settings["raw"] == {
        "PNG parameters": INFOTEXT,
        "PNG Software": "a web page",
    }
