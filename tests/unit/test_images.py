"""Image files: honest ones give upright pixels, all others a verdict and never anything worse."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFilter, ImageOps

from surd.demo.broken_images import broken_images
from surd.files import images
from surd.files.images import (
    ImageFacts,
    ImageProblem,
    check_decodes,
    decode,
    grey_thumbnail,
    perceptual_hash,
    read_header,
    sha256,
    upright,
)
from surd.files.jxl import jxl_size
from surd.files.resize import Resize, resize
from surd.store.schema import IMAGE_STATUSES

# The command line silences what Pillow has to say of broken files.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

MAX_PIXELS = 1_000_000
BROKEN = broken_images()
Facts = tuple[str, int, int, int]


def scene(width: int, height: int, seed: int = 0) -> Image.Image:
    """Soft blobs over a slope, with some fine grain: as busy as a photograph."""
    random = np.random.default_rng(seed)
    blobs = Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    soft = np.asarray(blobs.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    grain = random.normal(0, 4, (height, width, 1))
    picture = Image.fromarray(np.clip(soft + grain, 0, 255).astype(np.uint8))
    return picture.filter(ImageFilter.GaussianBlur(0.7))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pillow(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def facts(data: bytes) -> ImageFacts:
    return read_header(data, max_pixels=MAX_PIXELS)


def look(data: bytes) -> ImageFacts:
    """The header, the check, and the pixels; raises ImageProblem."""
    found = facts(data)
    grey = check_decodes(data, found)
    pixels = decode(data)
    assert pixels.shape == (found.height, found.width, 3)
    assert grey.ndim == 2
    assert pixels.dtype == grey.dtype == np.uint8
    return found


def verdict(data: bytes) -> str:
    """``ok``, or the status of the problem; anything else that is raised is a failure of surd."""
    try:
        look(data)
    except ImageProblem as problem:
        return checked(problem).status
    return "ok"


def checked(problem: ImageProblem) -> ImageProblem:
    assert problem.status in set(IMAGE_STATUSES) - {"ok"}
    assert "\n" not in problem.detail
    assert len(problem.detail) <= 200
    return problem


def difference(one: np.ndarray, other: np.ndarray) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other.astype(int)).max())


# Awkward files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("png_16bit", ("image/png", 48, 32, 1)),
        ("jpeg_cmyk", ("image/jpeg", 48, 32, 1)),
        ("png_palette", ("image/png", 48, 32, 1)),
        ("png_palette_transparent", ("image/png", 48, 32, 1)),
        ("jpeg_exif_rotated", ("image/jpeg", 20, 40, 6)),
        ("jpeg_broken_exif", ("image/jpeg", 48, 32, 1)),
        ("png_rgba", ("image/png", 48, 32, 1)),
        ("gif_static", ("image/gif", 48, 32, 1)),
        ("webp", ("image/webp", 48, 32, 1)),
        ("jpeg_grayscale", ("image/jpeg", 48, 32, 1)),
        ("jpeg_progressive", ("image/jpeg", 48, 32, 1)),
        ("bmp", ("image/bmp", 48, 32, 1)),
        ("tiff", ("image/tiff", 48, 32, 1)),
        ("animated_gif", ("image/gif", 48, 32, 1)),
    ],
)
def test_an_awkward_image_that_is_fine_is_described_as_seen_upright(
    name: str, expected: Facts
) -> None:
    assert look(BROKEN[name][0]) == ImageFacts(*expected)


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("huge_png", "too_many_pixels"),
        ("animated_webp", "animated"),
        ("apng", "animated"),
        ("png_text_bomb", "decode_error"),
        ("png_bad_crc", "decode_error"),
    ],
)
def test_an_image_that_is_no_use_is_told_why(name: str, status: str) -> None:
    assert verdict(BROKEN[name][0]) == status


def test_every_awkward_image_has_its_place_in_these_tests() -> None:
    named = {
        case[0]
        for test in (
            test_an_awkward_image_that_is_fine_is_described_as_seen_upright,
            test_an_image_that_is_no_use_is_told_why,
        )
        for case in test.pytestmark[0].args[1]  # type: ignore[attr-defined]
    }
    assert named == set(BROKEN)


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (b"", "empty", "zero bytes"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "not_an_image", "SVG"),
        (b"\n <!DOCTYPE html><title>x</title>", "not_an_image", "HTML"),
        (b"<html>", "not_an_image", "HTML"),
        (b'{"error": "gone"}', "not_an_image", "JSON"),
        (b"\x00" * 100, "not_an_image", "no format"),
        (b"\xff", "not_an_image", "no format"),
    ],
)
def test_what_is_no_image_is_told_what_it_looks_like(data: bytes, status: str, detail: str) -> None:
    with pytest.raises(ImageProblem, match=detail) as caught:
        facts(data)
    assert caught.value.status == status


def test_pixels_are_counted_before_anything_is_decoded() -> None:
    data = encoded(Image.new("L", (100, 50)), "PNG")
    assert read_header(data, max_pixels=5000).width == 100
    with pytest.raises(ImageProblem, match="100 x 50 is more than 4,999 pixels") as caught:
        read_header(data, max_pixels=4999)
    assert caught.value.status == "too_many_pixels"


def test_sha256_is_of_the_bytes() -> None:
    assert sha256(b"abc").startswith("ba7816bf8f01cfea414140de5dae2223")


# Decoding


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_come_upright_for_every_exif_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(40, 24), kind, exif=exif)
    right = ImageOps.exif_transpose(pillow(data)).convert("RGB")
    found = facts(data)
    assert (found.width, found.height, found.orientation) == (*right.size, orientation)
    assert difference(decode(data), np.asarray(right)) <= 3
    assert check_decodes(data, found).shape == (right.height, right.width)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert facts(encoded(scene(40, 24), "JPEG", exif=exif)).orientation == 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_undoes_an_orientation_of_grey_pixels_too(orientation: int) -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    right = ImageOps.exif_transpose(pillow(encoded(Image.fromarray(grey), "PNG", exif=exif)))
    assert np.array_equal(upright(grey, orientation), np.asarray(right))
    assert upright(grey, orientation).flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP"])
def test_lossless_files_decode_to_their_very_pixels(kind: str) -> None:
    image = scene(33, 17).quantize(64).convert("RGB") if kind == "GIF" else scene(33, 17)
    saved = image.quantize(64) if kind == "GIF" else image
    data = encoded(saved, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert np.array_equal(decode(data), np.asarray(image))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_jpegs_decode_as_pillow_decodes_them(options: dict[str, Any]) -> None:
    data = encoded(scene(97, 61), "JPEG", quality=90, **options)
    assert difference(decode(data), np.asarray(pillow(data).convert("RGB"))) <= 3


def test_a_grey_jpeg_becomes_rgb() -> None:
    data = encoded(scene(40, 24).convert("L"), "JPEG")
    pixels = decode(data)
    assert (pixels[:, :, :1] == pixels).all()


def test_cmyk_is_converted() -> None:
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert difference(decode(data), np.full((16, 16, 3), (255, 0, 0))) <= 4


def test_a_palette_is_looked_up() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decode(encoded(palette, "PNG")).tolist() == [[[10, 20, 30], [200, 100, 50]]]


def test_16_bit_samples_are_reduced_to_their_upper_byte() -> None:
    samples = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    pixels = decode(encoded(Image.fromarray(samples), "PNG"))
    assert pixels[0, :, 0].tolist() == [0, 0, 1, 128, 255]
    assert pixels.shape == (1, 5, 3)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_is_laid_on_white(kind: str) -> None:
    image = Image.new("RGBA", (3, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.putpixel((2, 0), (0, 0, 0, 128))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    (pixels,) = decode(encoded(image, kind, **options)).tolist()
    assert pixels[:2] == [[200, 0, 0], [255, 255, 255]]
    assert pixels[2] == pytest.approx([127, 127, 127], abs=1)


def test_a_transparent_palette_entry_is_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        pixels = decode(encoded(palette, kind, transparency=0))
        assert pixels.tolist() == [[[255, 255, 255], [200, 100, 50]]]


@pytest.mark.parametrize("size", [(640, 480), (481, 640), (100, 3000), (64, 64), (9, 9)])
@pytest.mark.parametrize("min_side_px", [1, 16, 60, 64, 200])
def test_scaled_decoding_keeps_at_least_the_asked_side(
    size: tuple[int, int], min_side_px: int
) -> None:
    data = encoded(scene(*size), "JPEG", quality=90)
    height, width = decode(data, min_side_px=min_side_px).shape[:2]
    assert min(width, height) >= min(min_side_px, *size)
    assert max(width, height) <= max(size)
    scaled = [(-(-size[0] // factor), -(-size[1] // factor)) for factor in (1, 2, 4, 8)]
    assert (width, height) in scaled


def test_scaled_decoding_shows_the_same_picture() -> None:
    data = encoded(scene(640, 480), "JPEG", quality=95)
    small = decode(data, min_side_px=60)
    assert small.shape == (60, 80, 3)
    right = pillow(data).convert("RGB").resize((80, 60), Image.Resampling.BOX)
    assert np.abs(small.astype(int) - np.asarray(right)).mean() < 3


def test_scaled_decoding_of_a_turned_jpeg_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(scene(640, 480), "JPEG", exif=exif)
    assert decode(data, min_side_px=60).shape == (80, 60, 3)


# Damage

WHOLE = {
    "jpeg": encoded(scene(96, 64), "JPEG", quality=90),
    "progressive": encoded(scene(96, 64), "JPEG", quality=90, progressive=True),
    "grey jpeg": encoded(scene(96, 64).convert("L"), "JPEG", quality=90),
    "cmyk jpeg": encoded(scene(96, 64).convert("CMYK"), "JPEG", quality=90),
    "png": encoded(scene(96, 64), "PNG"),
    "webp": encoded(scene(96, 64), "WEBP", quality=90),
    "lossless webp": encoded(scene(96, 64), "WEBP", lossless=True),
    "gif": encoded(scene(96, 64).quantize(64), "GIF"),
    "bmp": encoded(scene(96, 64), "BMP"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_cut_inside_its_pixels_is_never_ok(name: str) -> None:
    data = WHOLE[name]
    assert verdict(data) == "ok"
    lengths = sorted({*range(0, len(data) // 2, 37), *range(len(data) // 2, len(data) - 32, 23)})
    passed = [length for length in lengths if verdict(data[:length]) == "ok"]
    assert passed == []


@pytest.mark.parametrize("name", ["jpeg", "png", "webp"])
def test_a_file_that_ends_early_is_truncated_rather_than_broken(name: str) -> None:
    data = WHOLE[name]
    assert verdict(data[: len(data) * 6 // 10]) == "truncated"


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "gif"])
def test_bytes_after_the_end_do_no_harm(name: str) -> None:
    assert verdict(WHOLE[name] + b"\0" * 100) == "ok"


def test_pixels_of_a_png_that_fail_their_checksum_are_refused() -> None:
    data = WHOLE["png"]
    for at in range(data.index(b"IDAT") + 6, len(data) - 20, 151):
        flipped = data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]
        assert verdict(flipped) != "ok"


SMALL = {
    "jpeg": encoded(scene(16, 12), "JPEG"),
    "png": encoded(scene(16, 12), "PNG"),
    "webp": encoded(scene(16, 12), "WEBP"),
    "gif": encoded(scene(16, 12).quantize(16), "GIF"),
    "jpeg with exif": BROKEN["jpeg_exif_rotated"][0],
    "palette": BROKEN["png_palette_transparent"][0],
    "animation": BROKEN["apng"][0],
}
MAGIC = [
    b"\xff\xd8\xff\xe0",
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    b"RIFF\0\1\0\0WEBPVP8 ",
    b"GIF89a",
    b"BM",
]


@given(st.sampled_from([b"", *MAGIC]), st.binary(max_size=300))
@settings(derandomize=True, max_examples=200)
def test_random_bytes_are_a_verdict(magic: bytes, tail: bytes) -> None:
    verdict(magic + tail)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A small file with some bytes changed, taken out or put in."""
    data = bytearray(SMALL[draw(st.sampled_from(sorted(SMALL)))])
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        piece = draw(st.binary(max_size=4))
        data[at : at + draw(st.integers(0, 4))] = piece
        data = data or bytearray(1)
    return bytes(data)


@given(mutations())
@settings(derandomize=True, max_examples=200)
def test_a_mutated_file_is_fine_or_a_verdict(data: bytes) -> None:
    verdict(data)


# Perceptual hashes


def hamming(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def hash_of(data: bytes) -> str:
    return perceptual_hash(check_decodes(data, facts(data)))


@pytest.mark.parametrize("size", [(64, 64), (97, 61), (500, 333), (1, 5), (3000, 2)])
def test_the_hash_is_what_imagehash_gives_for_the_same_grey_picture(size: tuple[int, int]) -> None:
    import imagehash

    grey = np.asarray(scene(*size).convert("L"))
    found = perceptual_hash(grey)
    assert found == str(imagehash.phash(Image.fromarray(grey)))
    assert len(found) == 16


@pytest.mark.parametrize("seed", range(6))
def test_the_hash_stays_near_under_recompression_and_resizing(seed: int) -> None:
    picture = scene(480, 360, seed)
    original = hash_of(encoded(picture, "PNG"))
    copies = [
        encoded(picture, "JPEG", quality=90),
        encoded(picture, "JPEG", quality=40),
        encoded(picture, "WEBP", quality=60),
        encoded(picture.resize((432, 324), Image.Resampling.LANCZOS), "JPEG", quality=90),
        encoded(picture.resize((528, 396), Image.Resampling.LANCZOS), "JPEG", quality=90),
    ]
    assert max(hamming(original, hash_of(copy)) for copy in copies) <= 8


def test_hashes_of_different_pictures_are_far_apart() -> None:
    hashes = [hash_of(encoded(scene(480, 360, seed), "JPEG")) for seed in range(6)]
    distances = [hamming(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(distances) > 8


def test_the_hash_is_of_the_picture_as_seen_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    picture = scene(480, 360)
    turned = picture.transpose(Image.Transpose.ROTATE_270)
    assert (
        hamming(
            hash_of(encoded(picture, "JPEG", quality=95)),
            hash_of(encoded(turned, "JPEG", quality=95, exif=exif)),
        )
        <= 4
    )


@pytest.mark.parametrize("size", [(640, 480), (64, 64), (63, 200), (1, 1), (1, 5000)])
def test_the_thumbnail_for_hashing_is_small_and_grey(size: tuple[int, int]) -> None:
    thumbnail = grey_thumbnail(np.asarray(scene(*size)))
    assert thumbnail.ndim == 2
    assert min(thumbnail.shape) >= min(64, *size)
    assert min(thumbnail.shape) < 128


# Formats and colours


@pytest.mark.parametrize("kind", ["AVIF", "GIF", "TIFF", "BMP", "WEBP", "PNG", "JPEG"])
def test_every_format_is_decoded(kind: str) -> None:
    picture = scene(64, 48)
    data = encoded(picture, kind)
    assert look(data).mime == f"image/{kind.lower()}"
    assert np.abs(decode(data).astype(int) - np.asarray(picture).astype(int)).mean() < 12


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_the_first_of_several_pictures_stands_for_the_file(kind: str) -> None:
    first, second = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")
    data = encoded(first, kind, save_all=True, append_images=[second])
    assert look(data).mime == f"image/{kind.lower()}"
    assert decode(data)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiff_is_turned_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(scene(64, 48), "TIFF", exif=exif)
    found = look(data)
    assert (found.width, found.height) == ((64, 48) if orientation < 5 else (48, 64))
    wanted = np.asarray(ImageOps.exif_transpose(pillow(data)).convert("RGB"))
    assert difference(decode(data), wanted) == 0


def profile(swap: bool = True) -> bytes:
    """sRGB's profile, with the primaries of red and green exchanged, and another name."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data = data.replace("sRGB".encode("utf-16-be"), "xxxx".encode("utf-16-be"))
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * data[131], 12)}
    if swap:
        red, green = tags[b"rXYZ"], tags[b"gXYZ"]
        data[red : red + 4], data[green : green + 4] = b"gXYZ", b"rXYZ"
    return bytes(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_with_a_profile_are_converted_to_srgb(kind: str, mode: str) -> None:
    if (kind, mode) in (("JPEG", "RGBA"), ("JPEG", "P"), ("WEBP", "P"), ("AVIF", "P")):
        pytest.skip("the format has no such mode")
    picture = Image.new(mode if mode != "P" else "RGB", (64, 48), (204, 51, 51)).convert(mode)
    data = encoded(picture, kind, icc_profile=profile())
    plain = decode(encoded(picture, kind))[20, 20].astype(int)
    assert np.abs(plain - [204, 51, 51]).max() < 8
    red, green, _ = decode(data)[20, 20].tolist()
    assert green > 180 and red < 80, "red is green in this profile"
    same = decode(encoded(picture, kind, icc_profile=profile(swap=False)))[20, 20].astype(int)
    assert np.abs(same - [204, 51, 51]).max() < 8


def test_resizing_and_scaled_decoding_convert_colours() -> None:
    data = encoded(Image.new("RGB", (640, 480), (204, 51, 51)), "JPEG", icc_profile=profile())
    assert decode(data, min_side_px=60).shape == (60, 80, 3)
    assert decode(data, min_side_px=60)[5, 5, 1] > 180
    small, pixels = resize(data, facts(data), Resize(size=120))
    assert pixels[5, 5, 1] > 180
    assert "icc_profile" not in pillow(small).info
    assert decode(small)[5, 5, 1] > 180


@pytest.mark.parametrize("mode", ["L", "LA", "CMYK", "I;16"])
@pytest.mark.parametrize(
    "broken",
    [b"", b"nonsense", b"\0" * 200, profile()[:300], profile()],
    ids=["empty", "nonsense", "zeros", "cut", "whole"],  # a profile says when it was made
)
def test_a_profile_that_does_not_fit_or_is_broken_changes_nothing(mode: str, broken: bytes) -> None:
    kind = "TIFF" if mode in ("CMYK", "I;16") else "PNG"
    picture = Image.new(mode, (8, 6))
    plain = decode(encoded(picture, kind))
    assert (decode(encoded(picture, kind, icc_profile=broken)) == plain).all()


@pytest.mark.parametrize(
    ("module", "data", "name"),
    [
        ("pillow_heif", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "HEIC"),
        ("pillow_jxl", b"\xff\x0a" + bytes(50), "JPEG XL"),
    ],
)
def test_a_format_of_an_extra_that_is_missing_names_it(
    monkeypatch: pytest.MonkeyPatch, module: str, data: bytes, name: str
) -> None:
    images._registered.cache_clear()
    monkeypatch.setattr(images, "find_spec", lambda _: None)
    with pytest.raises(ImageProblem) as caught:
        facts(data)
    assert caught.value.status == "unsupported_format"
    assert caught.value.detail == f'{name}; run: pip install "surd[formats]"'
    images._registered.cache_clear()


@pytest.mark.parametrize(
    ("brand", "status"),
    [(b"avif", "decode_error"), (b"heic", "decode_error"), (b"mp42", "not_an_image")],
)
def test_a_damaged_avif_is_an_image_and_a_video_is_none(brand: bytes, status: str) -> None:
    if brand == b"heic":
        pytest.importorskip("pillow_heif")
    with pytest.raises(ImageProblem) as caught:
        facts(b"\0\0\0\x18ftyp" + brand + bytes(60))
    assert caught.value.status == status


@pytest.mark.parametrize(("kind", "module"), [("HEIF", "pillow_heif"), ("JXL", "pillow_jxl")])
def test_formats_of_the_extra_are_decoded(kind: str, module: str) -> None:
    loaded = pytest.importorskip(module)
    if kind == "HEIF":
        loaded.register_heif_opener()
    picture = scene(64, 48)
    data = encoded(picture, kind)
    assert look(data) == ImageFacts(f"image/{kind.lower()}", 64, 48, 1)
    assert np.abs(decode(data).astype(int) - np.asarray(picture).astype(int)).mean() < 12


@pytest.mark.parametrize(
    ("bits", "size"),
    [
        ("1 01010 000 10010", (19 * 8, 11 * 8)),
        ("0 00 000001110 001", (15, 15)),
        ("0 10 000000000000000111 011", ((8 * 4) // 3, 8)),
        ("0 11 111111111111111111111111111111 001", (2**30, 2**30)),
        ("0 01 0000000000111 000 00 000000001", (2, 8)),
    ],
)
def test_the_size_of_a_jxl_is_known_before_it_is_decoded(bits: str, size: tuple[int, int]) -> None:
    fields = bits.split()
    stream = "".join(field[::-1] for field in fields)  # lowest bit first
    body = int(stream[::-1], 2).to_bytes(14, "little")
    bare = b"\xff\x0a" + body
    assert jxl_size(bare) == size
    box = (8 + len(bare)).to_bytes(4, "big") + b"jxlc" + bare
    assert jxl_size(b"\0\0\0\x0cJXL \r\n\x87\n" + box) == size
    if size[0] * size[1] > MAX_PIXELS:
        with pytest.raises(ImageProblem, match="too_many_pixels"):
            facts(bare)
