"""What trainers are given is read back here by the rules that each of them documents."""

from __future__ import annotations

import io
import json
import shutil
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image, ImageOps
from support_publish import HOSTILE, make_workspace, picture, publish_anew, sample, samples

from surd.dataset.columns import PUBLISHED
from surd.dataset.export.job import Wish
from surd.dataset.export.run import export
from surd.dataset.publish.run import publish
from surd.errors import SurdError
from surd.recipe.publish import PublishParams

ODD = "{a|b} cup,\r\n\n in {{two}} lines\u2028or }{ three"
ODD_LINE = "{a|b} cup, in {{two}} lines or }{ three"
Surd = Callable[..., Any]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "w"
    rows = [
        *samples(21),
        sample(25) | {"bytes": picture(3, "GIF"), "mime": "image/gif"},
        sample(21) | {"simple_prompt": ODD, "complex_prompt": HOSTILE},
        sample(22) | turned(),
        sample(23) | {"bytes": picture(4, "TIFF"), "mime": "image/tiff"},
    ]
    publish_anew(make_workspace(folder, [rows]), PublishParams(validation=0.2, test=0.2))
    return folder


@pytest.fixture
def own_workspace(workspace: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return shutil.copytree(workspace, tmp_path / "w")


def turned() -> dict[str, Any]:
    """A JPEG that is upright only as EXIF says."""
    data = picture(5, "JPEG", orientation=6)
    facts = {"mime": "image/jpeg", "width": 24, "height": 32, "exif_orientation": 6}
    return {"bytes": data, **facts}


def rows_of(workspace: Path, split: str = "*") -> dict[str, dict[str, Any]]:
    paths = (workspace / "dataset").glob(f"{split}-*.parquet")
    return {row["id"]: row for path in paths for row in pq.read_table(path).to_pylist()}


def line(text: str) -> str:
    hostile = HOSTILE.replace("\n", " ").replace(" \u2028 ", " ")
    return {ODD: ODD_LINE, HOSTILE: hostile}.get(text, text)


def pixels(data: bytes) -> bytes:
    """Upright RGB."""
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB").tobytes()


Found = dict[str, tuple[Path, list[str]]]
"""Id -> its image and its captions."""


def beside(folder: Path, suffixes: set[str]) -> Iterator[tuple[Path, str]]:
    """Images directly in a folder, each with the text file of its name."""
    for path in sorted(folder.iterdir()):
        if path.suffix in suffixes:
            yield path, path.with_suffix(".txt").read_bytes().decode()
        else:
            assert path.suffix == ".txt", "a file that the trainer does not read"


# kohya: docs/config_README-en.md and docs/train_README-en.md ---------------------------


def wildcard_choices(text: str) -> list[str]:
    """The captions that a line stands for: doubled braces are braces, others a choice."""
    text = text.replace("{{", "\0").replace("}}", "\1")
    assert "{" not in text and "}" not in text, "would be a choice"
    return [text.replace("\0", "{").replace("\1", "}")]


def read_kohya(out: Path) -> Found:
    config = tomllib.loads((out / "dataset.toml").read_text(encoding="utf-8"))
    general = config["general"]
    (subset,) = config["datasets"][0]["subsets"]
    folder = Path(subset["image_dir"])
    repeats, _, name = folder.name.partition("_")  # as --train_data_dir reads it
    assert int(repeats) == subset["num_repeats"] and name
    assert general["caption_extension"] == ".txt"
    found: Found = {}
    for path, text in beside(folder, {".png", ".jpg", ".jpeg", ".webp", ".bmp"}):
        captions = [text.split("\n")[0]]  # without wildcards, the first line
        if general["enable_wildcard"]:
            captions = [c for each in text.split("\n") for c in wildcard_choices(each)]
        found[path.stem] = (path, captions)
        # kohya does not look at EXIF orientations
        assert Image.open(path).getexif().get(0x0112, 1) == 1
    return found


# OneTrainer: docs/QuickStartGuide.md; a line of the text file is drawn ---------------------------


def read_onetrainer(out: Path) -> Found:
    concepts = json.loads((out / "concepts.json").read_text(encoding="utf-8"))
    assert [c["validation_concept"] for c in concepts] == [False, True]
    assert {c["text"]["prompt_source"] for c in concepts} == {"sample"}
    suffixes = {".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp"}
    return {
        path.stem: (path, text.splitlines())
        for path, text in beside(Path(concepts[0]["path"]), suffixes)
    }


# SimpleTuner: documentation/DATALOADER.md, "Parquet caption strategy" ----------------------------


def read_simpletuner(out: Path) -> Found:
    backends = json.loads((out / "multidatabackend.json").read_text(encoding="utf-8"))
    assert [b["dataset_type"] for b in backends] == ["image", "eval", "text_embeds"]
    assert len({b["id"] for b in backends}) == 3 and backends[-1]["default"]
    backend = backends[0]
    assert backend["caption_strategy"] == backend["metadata_backend"] == "parquet"
    about = backend["parquet"]
    assert about["identifier_includes_extension"]
    table = pd.read_parquet(about["path"], engine="pyarrow").set_index(about["filename_column"])
    found: Found = {}
    for path in Path(backend["instance_data_dir"]).iterdir():
        row = table.loc[path.name]
        caption = row[about["caption_column"]]
        captions = [caption] if isinstance(caption, str) else [*caption]
        with Image.open(path) as image:
            size = ImageOps.exif_transpose(image).size
        assert size == (row[about["width_column"]], row[about["height_column"]])
        found[path.stem] = (path, captions)
    assert len(table) == len(found)
    return found


# ai-toolkit: README.md, "Dataset Preparation"; the whole text file is the caption ----------------


def read_ai_toolkit(out: Path) -> Found:
    (about,) = yaml.safe_load((out / "datasets.yaml").read_text(encoding="utf-8"))["datasets"]
    assert about["caption_ext"] == "txt"
    found = beside(Path(about["folder_path"]), {".jpg", ".jpeg", ".png"})
    return {path.stem: (path, [text]) for path, text in found}


# diffusers: examples/text_to_image, --train_data_dir and --caption_column text -------------------


def read_diffusers(out: Path) -> Found:
    datasets = pytest.importorskip("datasets", reason="pip install datasets")
    cache = str(out.parent / "cache")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out / "train"), cache_dir=cache)
    rows = loaded["train"].cast_column("image", datasets.Image(decode=False))
    found: Found = {}
    for row in rows:
        captions = [row["text"]] if isinstance(row["text"], str) else row["text"]
        path = Path(row["image"]["path"])
        found[path.stem] = (path, captions)
    return found


READ: dict[str, Callable[[Path], Found]] = {
    "kohya": read_kohya,
    "onetrainer": read_onetrainer,
    "simpletuner": read_simpletuner,
    "ai-toolkit": read_ai_toolkit,
    "diffusers": read_diffusers,
}
SEVERAL = [form for form in READ if form != "ai-toolkit"]
ON_ONE_LINE = ("kohya", "onetrainer")


def told(form: str, text: str) -> str:
    return line(text) if form in ON_ONE_LINE else text


@pytest.mark.parametrize("form", READ)
def test_a_trainer_finds_every_image_of_the_split_with_its_simple_prompt(
    workspace: Path, tmp_path: Path, form: str
) -> None:
    summary = export(workspace, form, tmp_path / "out")
    expected = rows_of(workspace, "train")
    assert summary.splits["train"] == len(expected) and summary.left_out == {}
    found = READ[form](tmp_path / "out")
    assert found.keys() == expected.keys()
    assert {sample(number)["id"] for number in (21, 22, 23, 25)} <= found.keys(), "the odd ones"
    for id_, (path, captions) in found.items():
        assert captions == [told(form, expected[id_]["simple_prompt"])]
        assert pixels(path.read_bytes()) == pixels(expected[id_]["image"]["bytes"])


@pytest.mark.parametrize("form", SEVERAL)
def test_several_texts_are_several_captions(workspace: Path, tmp_path: Path, form: str) -> None:
    export(workspace, form, tmp_path / "out", wish=Wish(("complex", "simple")))
    rows = rows_of(workspace, "train")
    for id_, (_, captions) in READ[form](tmp_path / "out").items():
        texts = (rows[id_][column] for column in ("complex_prompt", "simple_prompt"))
        assert captions == [told(form, text) for text in texts]


@pytest.mark.parametrize("form", READ)
def test_a_trigger_is_in_every_text_once(workspace: Path, tmp_path: Path, form: str) -> None:
    export(workspace, form, tmp_path / "out", wish=Wish(trigger="red cup 1"))
    for _, (text,) in READ[form](tmp_path / "out").values():
        assert text.startswith("red cup 1, ") != (text == "the red cup 1")


def test_repeats_are_what_each_trainer_takes_them_for(workspace: Path, tmp_path: Path) -> None:
    for form in ("kohya", "onetrainer", "simpletuner", "ai-toolkit"):
        export(workspace, form, tmp_path / form, wish=Wish(repeats=10))
    assert [p.name for p in (tmp_path / "kohya" / "train").iterdir()] == ["10_images"]
    assert [p.name for p in (tmp_path / "kohya" / "validation").iterdir()] == ["1_images"]
    toml = tomllib.loads((tmp_path / "kohya" / "dataset.toml").read_text())
    assert toml["datasets"][0]["subsets"][0]["num_repeats"] == 10
    concepts = json.loads((tmp_path / "onetrainer" / "concepts.json").read_text())
    assert [c["balancing"] for c in concepts] == [10, 1]
    backends = json.loads((tmp_path / "simpletuner" / "multidatabackend.json").read_text())
    assert backends[0]["repeats"] == 9, "where 0 is once"
    (about,) = yaml.safe_load((tmp_path / "ai-toolkit" / "datasets.yaml").read_text())["datasets"]
    assert about["num_repeats"] == 10


def test_tars_hold_the_text_that_was_asked_for(workspace: Path, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="pip install webdataset")
    export(workspace, "webdataset", tmp_path / "out", wish=Wish(("complex",), trigger="sks"))
    rows = rows_of(workspace, "train")
    tar = str(tmp_path / "out" / "train" / "00000.tar")
    found = {s["__key__"]: s for s in wds.WebDataset(tar, shardshuffle=False)}
    assert found.keys() == rows.keys()
    for id_, one in found.items():
        text = f"sks, {rows[id_]['complex_prompt']}"
        assert (one["txt"].decode(), json.loads(one["json"])["caption"]) == (text, text)


def test_samples_without_such_a_text_are_left_out_and_counted(
    own_workspace: Path, tmp_path: Path
) -> None:
    path = next((own_workspace / "dataset").glob("train-*.parquet"))
    rows = pq.read_table(path).to_pylist()
    for row, text in zip(rows, (None, " \n", "\u2028"), strict=False):
        row["complex_prompt"] = text
    pq.write_table(pa.Table.from_pylist(rows, PUBLISHED), path)
    done = export(own_workspace, "kohya", tmp_path / "a", wish=Wish(("complex",)))
    assert done.left_out == {"without such a text": 3} and done.splits["train"] == len(rows) - 3
    assert len(read_kohya(tmp_path / "a")) == len(rows) - 3
    done = export(own_workspace, "kohya", tmp_path / "b", wish=Wish(("all",)))
    assert done.left_out == {} and len(read_kohya(tmp_path / "b")[rows[0]["id"]][1]) == 1
    for path in (own_workspace / "dataset").glob("*.parquet"):
        rows = [row | {"complex_prompt": ""} for row in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, PUBLISHED), path)
    with pytest.raises(SurdError, match=r"25 samples without such a text; nothing to export"):
        export(own_workspace, "kohya", tmp_path / "c", wish=Wish(("complex",)))
    assert not (tmp_path / "c").exists()


def test_dense_captions_and_tags_are_texts_too(own_workspace: Path, tmp_path: Path) -> None:
    more = {"dense_caption": "A cup, and much else.", "tags": "cup, red"}
    for path in (own_workspace / "dataset").glob("*.parquet"):
        rows = [row | more for row in pq.read_table(path).to_pylist()]
        pq.write_table(pa.Table.from_pylist(rows, PUBLISHED), path)
    for name, text in zip(("dense", "tags"), more.values(), strict=True):
        export(own_workspace, "kohya", tmp_path / name, wish=Wish((name,)))
        assert {tuple(texts) for _, texts in read_kohya(tmp_path / name).values()} == {(text,)}


def test_an_image_that_cannot_be_decoded_is_left_out_and_counted(
    own_workspace: Path, tmp_path: Path
) -> None:
    path = next((own_workspace / "dataset").glob("train-*.parquet"))
    rows = pq.read_table(path).to_pylist()
    rows[0]["image"] = {"bytes": b"no picture", "path": f"{rows[0]['id']}.heic"}
    pq.write_table(pa.Table.from_pylist(rows, PUBLISHED), path)
    done = export(own_workspace, "onetrainer", tmp_path / "out")
    assert done.left_out == {"that cannot be decoded": 1}
    assert rows[0]["id"] not in read_onetrainer(tmp_path / "out")


# links -------------------------------------------------------------------------------------------


def test_images_that_are_equal_to_their_files_are_linked(tmp_path: Path) -> None:
    inputs, rows = tmp_path / "inputs", samples(6)
    inputs.mkdir()
    for row in rows:
        path = inputs / f"{row['source_id']}.bin"
        path.write_bytes(row["bytes"])
        row["path"] = str(path)
    (inputs / "0.bin").write_bytes(b"edited since")
    (inputs / "1.bin").unlink()
    rows[2]["path"] = f"{inputs}/pictures.zip::2.png"
    publish(make_workspace(tmp_path / "w", [rows]), PublishParams(validation=0, test=0))
    done = export(tmp_path / "w", "kohya", tmp_path / "out", wish=Wish(link=True))
    assert done.linked == 3
    found = read_kohya(tmp_path / "out")
    for number, row in enumerate(rows):
        path, _ = found[row["id"]]
        assert path.read_bytes() == row["bytes"]
        assert (path.stat().st_nlink == 2) == (number > 2)
        assert number < 3 or path.samefile(row["path"])
    with pytest.raises(SurdError, match="--link needs the workspace"):
        export(tmp_path / "w" / "dataset", "kohya", tmp_path / "b", wish=Wish(link=True))


def test_without_links_no_file_is_shared(tmp_path: Path) -> None:
    row = sample(1)
    (tmp_path / "1.bin").write_bytes(row["bytes"])
    rows = [row | {"path": str(tmp_path / "1.bin")}]
    publish(make_workspace(tmp_path / "w", [rows]), PublishParams(validation=0, test=0))
    export(tmp_path / "w", "kohya", tmp_path / "out")
    assert (tmp_path / "1.bin").stat().st_nlink == 1


# the command -------------------------------------------------------------------------------------


def test_the_command_says_what_became_of_the_images(
    surd: Surd, workspace: Path, tmp_path: Path
) -> None:
    told = ("export", workspace, "kohya", "--text", "all", "--trigger", "sks", "--repeats", 3)
    ran = surd(*told, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "images converted to PNG, for kohya to show them as they are: 2\n" in ran.out
    assert f"settings: {tmp_path / 'out' / 'dataset.toml'}" in ran.out
    assert [p.name for p in (tmp_path / "out" / "train").iterdir()] == ["3_sks"]


@pytest.mark.parametrize(
    ("told", "says"),
    [
        (("csv", "--text", "simple"), "csv: takes no --text; leave it out"),
        (("imagefolder", "--trigger", "sks"), "imagefolder: takes no --trigger"),
        (("webdataset", "--link"), "webdataset: takes no --link"),
        (("diffusers", "--repeats", 2), "diffusers: takes no --repeats"),
        (("ai-toolkit", "--text", "all"), "holds one text a sample; choose one with --text: simp"),
        (("kohya", "--text", "shorter"), "--text shorter: unknown; texts: simple, complex"),
        (("kohya", "--trigger", "a\nb"), "--trigger: must be words on one line"),
        (("kohya", "--trigger", "  "), "--trigger: must be words on one line"),
        (("kohya", "--model", "llama"), "kohya: takes no --model; leave it out"),
        (("prompt2vec", "--text", "all"), "prompt2vec: takes no --text; leave it out"),
    ],
)
def test_what_a_form_has_no_place_for_is_refused(
    surd: Surd, workspace: Path, tmp_path: Path, told: tuple[Any, ...], says: str
) -> None:
    ran = surd("export", workspace, *told, "-o", tmp_path / "out")
    assert ran.code == 2 and says in ran.err and ran.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_settings_survive_odd_folder_names_and_triggers(workspace: Path, tmp_path: Path) -> None:
    out = tmp_path / 'a "b" \\ é # [x]'
    export(workspace, "kohya", out, wish=Wish(trigger="../Él/x: {y} "))
    assert [p.name for p in (out / "train").iterdir()] == ["1_Él x y"]
    assert {texts[0].split(", ")[0] for _, texts in read_kohya(out).values()} == {"../Él/x: {y} "}
    for form in ("onetrainer", "simpletuner", "ai-toolkit"):
        export(workspace, form, out / form)
        assert READ[form](out / form)
    with pytest.raises(SurdError, match="its name is not valid UTF-8"):
        export(workspace, "kohya", tmp_path / "caf\udce9")


def test_grey_of_16_bits_is_given_in_8(tmp_path: Path) -> None:
    deep, file = Image.fromarray(np.full((32, 24), 0x4000, np.uint16)), io.BytesIO()
    deep.save(file, "PNG")
    row = sample(1) | {"bytes": file.getvalue(), "mime": "image/png"}
    workspace = make_workspace(tmp_path / "w", [[row]])
    publish(workspace, PublishParams(validation=0, test=0))
    done = export(tmp_path / "w", "kohya", tmp_path / "out")
    assert done.converted == 1
    (path,) = (tmp_path / "out").rglob("*.png")
    assert pixels(path.read_bytes()) == bytes([0x40]) * (32 * 24 * 3)
