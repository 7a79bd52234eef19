"""Texts of any encoding: read as they were written, or refused, and never made into nonsense."""

from __future__ import annotations

import random

import pytest

from surd.files.text_encoding import decode_text, encoding_of

TEXTS = [
    ("utf-8", "a dück, 桜"),
    ("utf-8-sig", "a dück, 桜"),
    ("utf-16", "a dück, 桜"),
    ("utf-32", "a dück"),
    *[(f"utf-16-{end}", text) for end in ("le", "be") for text in (
        "a red kite over barley", "café, früh", "桜の木の下で, 笑う少女",
        "桜の木の下で笑う少女", "кот, 4k",
    )],
    *[("cp1252", text) for text in (
        "a dück", "café", "a café in the früh morning, “quoted” — naïve",
        "l’été à la plage, déjà vu",
        "Ein Mädchen mit großen Augen, Öl auf Leinwand",
    )],
    *[("cp932", text) for text in (
        "桜の木の下で笑う少女、アニメ風", "少女", "a girl, 桜, masterpiece, 1girl, 笑顔",
        "夕焼けの海岸、油絵",
    )],
    ("gb18030", "一个女孩在樱花树下微笑，动漫风格"),
    ("big5", "一個女孩在櫻花樹下微笑"),
    ("cp949", "벚꽃 나무 아래에서 웃는 소녀"),
    ("cp1251", "девочка под вишнёвым деревом"),
    ("cp1251", "кот, 4k, photo"),
]  # fmt: skip


@pytest.mark.parametrize(("encoding", "text"), TEXTS)
def test_a_text_is_read_as_it_was_written(encoding: str, text: str) -> None:
    assert decode_text(text.encode(encoding)) == text
    long = "\n".join([text] * 500)
    assert decode_text(long.encode(encoding)) == long


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"a cup \x01\x02", "holds control characters"),
        (b"a \x1b[31mred\x1b[0m cup", "holds control characters"),
        (b"a\0\0\0cup", "holds zero bytes"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "holds zero bytes"),
        (b"\xff\xfea\x00b", "not valid UTF-16 at byte"),
        (b"\xef\xbb\xbfa d\xfcck", "not valid UTF-8-SIG at byte"),
        (b"\xe9\x1f\x80\xd8", "not text in an encoding that surd knows; save it as UTF-8"),
        (bytes(range(128, 256)), "not text in an encoding"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode_text(data)


@pytest.mark.parametrize(("size", "most"), [(12, 20), (30, 2), (100, 0), (3000, 0)])
def test_random_bytes_are_no_text(size: int, most: int) -> None:
    rng = random.Random(size)
    read = 0
    for _ in range(500):
        try:
            decode_text(rng.randbytes(size))
            read += 1
        except ValueError:
            pass
    assert read <= most


def test_the_start_of_a_file_may_end_within_a_character() -> None:
    assert encoding_of("a dü".encode()[:-1], whole=False) == "utf-8"
    with pytest.raises(ValueError):
        encoding_of("a 桜桜".encode()[:-1])
