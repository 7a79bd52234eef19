"""Resizing: the right size, upright, close to the best resampling, and only where it is needed."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image, ImageOps

from surd.files.images import ImageFacts, ImageProblem, read_header
from surd.files.resize import Resize, needs_resize, resize, scale, target_size
from surd.stages.download.stage import DownloadParams, describe

Mode = Literal["shorter", "longer", "center_crop"]


def smooth(width: int, height: int) -> Image.Image:
    """A picture of slow waves, different in each channel."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(9 * x + 4 * y), np.cos(7 * y - 3 * x), np.sin(8 * x * y + 1)]
    return Image.fromarray((127.5 + 120 * np.stack(waves, axis=2)).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()


def turned(image: Image.Image, orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, kind, exif=exif)


def resized(data: bytes, **options: Any) -> Image.Image:
    """The file that resizing makes, opened; its pixels are those that were handed out."""
    found = read_header(data, max_pixels=100_000_000)
    made, pixels = resize(data, found, Resize(**options))
    image = Image.open(io.BytesIO(made))
    assert pixels.shape == (image.height, image.width, 3)
    assert pixels.dtype == np.uint8
    return image


def psnr_db(one: Image.Image, other: Image.Image) -> float:
    """Peak signal-to-noise ratio, 10 log10(255^2 / MSE)."""
    error = np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)
    return float(10 * np.log10(255**2 / max(np.square(error).mean(), 1e-9)))


def facts(width: int, height: int, mime: str = "image/jpeg", orientation: int = 1) -> ImageFacts:
    return ImageFacts(mime, width, height, orientation)


# Sizes


@pytest.mark.parametrize(
    ("mode", "size", "before", "after"),
    [
        ("shorter", 512, (1024, 768), (683, 512)),
        ("shorter", 512, (768, 1024), (512, 683)),
        ("shorter", 512, (2000, 512), (2000, 512)),
        ("shorter", 512, (400, 300), (400, 300)),
        ("shorter", 512, (9000, 300), (9000, 300)),
        ("longer", 512, (1024, 768), (512, 384)),
        ("longer", 512, (768, 1024), (384, 512)),
        ("longer", 512, (512, 100), (512, 100)),
        ("longer", 512, (100, 200), (100, 200)),
        ("center_crop", 512, (1024, 768), (683, 512)),
        ("shorter", 16, (33, 17), (31, 16)),
        ("longer", 16, (33, 17), (16, 8)),
        ("longer", 16, (1, 5000), (1, 16)),
        ("longer", 16, (5000, 1), (16, 1)),
        ("shorter", 16, (1, 5000), (1, 5000)),
    ],
)
def test_the_size_after_scaling(
    mode: Mode, size: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    assert target_size(*before, Resize(mode=mode, size=size)) == after


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [
        ("shorter", (400, 300), (683, 512)),
        ("longer", (400, 300), (512, 384)),
        ("center_crop", (300, 400), (512, 683)),
        ("shorter", (1024, 768), (683, 512)),
    ],
)
def test_smaller_images_are_enlarged_when_asked_for(
    mode: Mode, before: tuple[int, int], after: tuple[int, int]
) -> None:
    assert target_size(*before, Resize(mode=mode, size=512, upscale=True)) == after


@pytest.mark.parametrize("before", [(64, 48), (48, 64), (65, 47), (63, 63), (301, 17), (17, 301)])
@pytest.mark.parametrize(
    ("mode", "upscale"), [("shorter", False), ("longer", True), ("shorter", True)]
)
def test_the_file_made_has_the_size_that_was_planned(
    mode: Mode, upscale: bool, before: tuple[int, int]
) -> None:
    options = {"mode": mode, "size": 32, "upscale": upscale}
    assert resized(encoded(smooth(*before)), **options).size == target_size(
        *before, Resize(**options)
    )


@pytest.mark.parametrize(
    ("before", "side"),
    [((64, 48), 32), ((48, 65), 32), ((33, 32), 32), ((500, 33), 32), ((20, 30), 20), ((1, 9), 1)],
)
def test_a_centre_crop_is_square(before: tuple[int, int], side: int) -> None:
    assert resized(encoded(smooth(*before)), mode="center_crop", size=32).size == (side, side)


def test_a_centre_crop_keeps_the_middle() -> None:
    image = Image.new("RGB", (96, 32), "red")
    image.paste("blue", (32, 0, 64, 32))
    middle = resized(encoded(image, "PNG"), mode="center_crop", size=32, format="png")
    assert middle.getcolors() == [(32 * 32, (0, 0, 255))]


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (5, 999), (999, 5)])
@pytest.mark.parametrize("mode", ["shorter", "longer", "center_crop"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_an_extreme_shape_keeps_at_least_one_pixel_a_side(
    kind: str, mode: Mode, size: tuple[int, int]
) -> None:
    after = resized(encoded(smooth(*size), kind), mode=mode, size=16).size
    if mode == "center_crop":
        assert after == (min(size), min(size))
    else:
        assert after == target_size(*size, Resize(mode=mode, size=16))
    assert min(after) >= 1


def test_a_side_that_rounds_to_itself_does_not_keep_the_other_from_growing() -> None:
    """20 x 500 to 510: the width stays 20 (20.4), the height does not stay 500."""
    assert resized(encoded(smooth(20, 500)), mode="longer", size=510, upscale=True).size == (
        20,
        510,
    )


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_an_image_too_long_for_its_format_is_a_verdict(kind: str) -> None:
    """JPEG ends at 65,535 pixels a side, WebP at 16,383."""
    data = encoded(Image.new("L", (70_000, 1)), "PNG")
    with pytest.raises(ImageProblem):
        resized(data, size=16, format=kind)


def test_enlarging_never_makes_more_pixels_than_a_file_can_hold() -> None:
    """1 x 5,000 with its shorter side at 16 would be 16 x 80,000."""
    with pytest.raises(ImageProblem):
        resized(encoded(smooth(1, 5000)), size=16, upscale=True)


# Only what is needed


@pytest.mark.parametrize(
    ("found", "options", "needed"),
    [
        (facts(400, 300), {"size": 512}, False),
        (facts(683, 512), {"size": 512}, False),
        (facts(684, 513), {"size": 512}, True),
        (facts(400, 300), {"size": 512, "upscale": True}, True),
        (facts(512, 512), {"mode": "center_crop"}, False),
        (facts(512, 513), {"mode": "center_crop"}, True),
        (facts(100, 101), {"mode": "center_crop"}, True),
        (facts(512, 100), {"mode": "longer"}, False),
        (facts(400, 300, "image/png"), {"size": 512}, True),
        (facts(400, 300, "image/png"), {"size": 512, "format": "png"}, False),
        (facts(400, 300, "image/webp"), {"size": 512, "format": "webp"}, False),
        (facts(400, 300, orientation=6), {"size": 512}, True),
    ],
)
def test_resizing_is_needed_only_when_something_changes(
    found: ImageFacts, options: dict[str, Any], needed: bool
) -> None:
    assert needs_resize(found, Resize(**options)) is needed


@pytest.mark.parametrize("options", [None, Resize(size=64), Resize(mode="longer", size=128)])
def test_bytes_are_untouched_when_there_is_nothing_to_do(options: Resize | None) -> None:
    data = encoded(smooth(64, 48))
    row = describe(data, DownloadParams(resize=options))
    assert row["bytes"] == data
    assert (row["width"], row["height"], row["resized"]) == (64, 48, False)


def test_what_is_kept_after_resizing_is_described_as_it_is_now() -> None:
    data = turned(smooth(128, 96), 6)
    row = describe(data, DownloadParams(resize=Resize(size=48)))
    found = read_header(row["bytes"], max_pixels=10**6)
    assert (row["width"], row["height"]) == (found.width, found.height) == (48, 64)
    assert (row["mime"], row["exif_orientation"], row["resized"]) == ("image/jpeg", 1, True)


def test_a_resized_file_needs_no_resizing_again() -> None:
    options = Resize(size=48)
    made, _ = resize(encoded(smooth(131, 97)), facts(131, 97), options)
    assert not needs_resize(read_header(made, max_pixels=10**6), options)


# Pixels


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_exif_orientation_is_baked_in(orientation: int, kind: str) -> None:
    data = turned(smooth(160, 120), orientation, kind)
    made = resized(data, size=60)
    seen = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert made.getexif().get(0x0112, 1) == 1
    assert made.size == ((80, 60) if orientation < 5 else (60, 80))
    assert psnr_db(made, seen.resize(made.size, Image.Resampling.LANCZOS)) > 30


@pytest.mark.parametrize("size", [480, 400, 301, 240, 150, 97, 40])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_resampling_is_close_to_lanczos(kind: str, size: int) -> None:
    data = encoded(smooth(640, 480), kind)
    made = resized(data, size=size)
    right = Image.open(io.BytesIO(data)).convert("RGB")
    assert psnr_db(made, right.resize(made.size, Image.Resampling.LANCZOS)) > 30


def test_enlarging_is_close_to_lanczos() -> None:
    data = encoded(smooth(64, 48), "PNG")
    made = resized(data, size=120, upscale=True)
    right = Image.open(io.BytesIO(data)).resize(made.size, Image.Resampling.LANCZOS)
    assert psnr_db(made, right) > 30


def test_fine_stripes_become_grey_instead_of_other_stripes() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    small = scale(stripes, 100, 100)
    assert small.std() < 40
    assert small.mean() == pytest.approx(127.5, abs=2)


def test_scaling_to_the_same_size_changes_nothing() -> None:
    pixels = np.asarray(smooth(31, 17))
    assert np.array_equal(scale(pixels, 31, 17), pixels)


# Formats


@pytest.mark.parametrize("kind", ["jpeg", "webp", "png"])
def test_the_file_has_the_asked_format(kind: str) -> None:
    made = resized(encoded(smooth(64, 48)), size=32, format=kind)
    assert (made.format or "").lower() == kind


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_a_lower_quality_makes_a_smaller_file(kind: Literal["jpeg", "webp"]) -> None:
    data, found = encoded(smooth(320, 240)), facts(320, 240)
    lengths = [
        len(resize(data, found, Resize(size=120, format=kind, quality=quality))[0])
        for quality in (30, 95)
    ]
    assert lengths[0] < lengths[1]


def test_png_keeps_the_pixels_exactly() -> None:
    data, found = encoded(smooth(64, 48)), facts(64, 48)
    made, pixels = resize(data, found, Resize(size=32, format="png"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(made))), pixels)


def test_transparency_is_laid_on_white() -> None:
    data = encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "PNG")
    assert resized(data, size=32, format="png").getcolors() == [(32 * 32, (255, 255, 255))]


def test_a_damaged_file_is_a_verdict() -> None:
    data = encoded(smooth(64, 48))
    with pytest.raises(ImageProblem):
        resize(data[: len(data) // 2], facts(64, 48), Resize(size=32))
