"""Captions from BLIP-2, Qwen2.5-VL, Florence-2, LLaVA and InternVL: small random ones, by
transformers' generate."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from support_blip import saved
from support_vlm import ASKED, QUESTION, TURN, WORDS
from support_vlm import saved as saved_vlm
from transformers import AutoModelForImageTextToText

from surd.models import vlm
from surd.models.captioner import load_captioner
from surd.models.captions import Captioner, Proposal, RefusedError, Wanted
from surd.models.vlm import load_vlm

pytestmark = pytest.mark.usefixtures("one_thread")
SAID = "What does the cat?"
ASKED_AS = {
    "blip-2": {None: "", SAID: SAID},
    "qwen2.5-vl": {None: TURN.format(QUESTION), SAID: TURN.format(SAID)},
    "florence-2": {None: "<CAPTION>", "<DETAILED_CAPTION>": "<DETAILED_CAPTION>"},
}
"""Of each kind, what the model is given where the user asks nothing, and something."""
TOWERS = {
    "blip-2": (transformers.Blip2VisionModel, "forward"),
    "qwen2.5-vl": (transformers.Qwen2_5_VLModel, "get_image_features"),
    "florence-2": (transformers.Florence2Model, "get_image_features"),
}
"""Of each kind, what looks at the pixels."""
LOOKS = {
    **TOWERS,
    "llava": (transformers.LlavaModel, "get_image_features"),
    "internvl": (transformers.InternVLModel, "get_image_features"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind."""
    return {kind: saved_vlm(tmp_path_factory.mktemp(kind), kind) for kind in ASKED_AS}


def pictures(count: int = 3) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 255, (count, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(some).resize((48, 40), Image.Resampling.NEAREST) for some in pixels]


@torch.inference_mode()
def greedy(folder: Path, image: Image.Image, text: str) -> str:
    """The likeliest word by the model's own forward pass, and again, with nothing kept."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = dict(processor(images=[image], text=[text], return_tensors="pt"))
    which = "decoder_input_ids" if model.config.is_encoder_decoder else "input_ids"
    ids = torch.tensor([[2]]) if model.config.is_encoder_decoder else inputs["input_ids"]
    written: list[int] = []
    end = model.generation_config.eos_token_id
    while len(written) < Wanted().max_new_tokens and end not in written:
        asked = {**inputs, which: torch.cat([ids, torch.tensor([written]).long()], dim=1)}
        if which == "input_ids":
            for name in {"attention_mask", "mm_token_type_ids"} & set(inputs):
                more = torch.full((1, len(written)), int(name == "attention_mask"))
                asked[name] = torch.cat([inputs[name], more], dim=1)
        written.append(int(model(**asked, use_cache=False).logits[0, -1].argmax()))
    return str(processor.tokenizer.decode(written, skip_special_tokens=True)).strip()


def proposed(
    captioner: Captioner, images: list[Image.Image], seeds: list[int], **wanted: Any
) -> list[list[Proposal]]:
    prepared = [captioner.prepare(image) for image in images]
    return captioner.propose(prepared, Wanted(max_new_tokens=8, **wanted), seeds)


@pytest.mark.parametrize("kind", ASKED_AS)
def test_a_greedy_caption_is_the_likeliest_words_after_the_question(
    folders: dict[str, Path], kind: str
) -> None:
    answers = []
    for prompt, text in ASKED_AS[kind].items():
        captioner = load_captioner(str(folders[kind]), prompt=prompt)
        answers.append([greedy(folders[kind], image, text) for image in pictures()])
        assert captioner.caption(pictures()) == answers[-1]
        assert len(set(answers[-1])) > 1
    assert answers[0] != answers[1]


def test_a_decoder_that_gives_no_question_back_loses_no_words(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner = load_captioner(str(folders["blip-2"]), prompt="the cat")
    expected = proposed(captioner, pictures(), [0, 1, 2])
    model = transformers.Blip2ForConditionalGeneration
    generate = model.generate

    def new_words(self: Any, input_ids: torch.Tensor, **how: Any) -> torch.Tensor:
        return generate(self, input_ids=input_ids, **how)[:, input_ids.shape[1] :]

    monkeypatch.setattr(model, "generate", new_words)
    assert proposed(captioner, pictures(), [0, 1, 2]) == expected


@pytest.mark.parametrize("kind", ASKED_AS)
def test_a_picture_has_its_captions_by_its_seed_alone(folders: dict[str, Path], kind: str) -> None:
    captioner, images, seeds = load_captioner(str(folders[kind])), pictures(), [7, 2**63 + 5, 9]
    state = torch.get_rng_state()
    together = proposed(captioner, images, seeds, samples=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert [[p.how for p in some] for some in together] == 3 * [["beam", *5 * ["nucleus"]]]
    torch.manual_seed(123)
    assert proposed(captioner, images[::-1], seeds[::-1], samples=5) == together[::-1]
    assert proposed(captioner, images[1:2], seeds[1:2], samples=5) == together[1:2]
    other = proposed(captioner, images[:1], [8], samples=5)[0]
    assert other[0] == together[0][0] and other[1:] != together[0][1:]
    assert proposed(captioner, [], []) == []


@pytest.mark.parametrize(
    ("kind", "shipped"),
    [
        ("qwen2.5-vl", {"do_sample": True, "temperature": 1e-6, "top_k": 1, "top_p": 0.001}),
        ("florence-2", {"num_beams": 3, "early_stopping": False}),
    ],
)
def test_samples_are_nucleus_samples_whatever_the_model_does_by_itself(
    folders: dict[str, Path], tmp_path: Path, kind: str, shipped: dict[str, Any]
) -> None:
    folder = shutil.copytree(folders[kind], tmp_path / kind)
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, **shipped}))
    expected = proposed(load_captioner(str(folders[kind])), pictures(), [1, 2, 3])
    assert all(len({p.text for p in some[1:]}) > 1 for some in expected)
    assert proposed(load_captioner(str(folder)), pictures(), [1, 2, 3]) == expected


@pytest.mark.parametrize("kind", ASKED_AS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_pixels_and_beams_are_as_asked(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str, dtype: torch.dtype
) -> None:
    captioner = load_captioner(str(folders[kind]), dtype=dtype)
    model = type(AutoModelForImageTextToText.from_pretrained(folders[kind]))
    generate = model.generate
    beams: list[int] = []
    pixels: list[torch.dtype] = []

    def noted(self: Any, **how: Any) -> torch.Tensor:
        assert self.dtype == dtype
        beams.append(how["num_beams"])
        return generate(self, **how)

    def seen(self: Any, pixel_values: torch.Tensor, *rest: Any, **more: Any) -> Any:
        pixels.append(pixel_values.dtype)
        return look(self, pixel_values, *rest, **more)

    monkeypatch.setattr(model, "generate", noted)
    owner, method = TOWERS[kind]
    look = getattr(owner, method)
    monkeypatch.setattr(owner, method, seen)
    [found] = proposed(captioner, pictures(1), [1], num_beams=2, samples=3)
    assert beams == [2, 1] and {*pixels} == {dtype}
    assert len(pixels) == (2 if kind == "blip-2" else 1), "not once for each answer"
    assert len(found) == 4 and all({*p.text.split()} <= {*WORDS, *ASKED} for p in found)


@pytest.mark.parametrize("kind", ["qwen2.5-vl", "florence-2", "llava", "internvl"])
def test_pictures_are_read_once_for_all_their_captions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    loaded = load_vlm(str(saved_vlm(tmp_path, kind)), torch.device("cpu"), torch.float32)
    assert loaded.shares_prefix
    alone = replace(loaded, shares_prefix=False)
    inputs = loaded.inputs(pictures(2), [loaded.asked("a cat under the tree?"), loaded.asked("a?")])
    for how in ({"num_beams": 3}, {"num_beams": 1}):
        how |= {"do_sample": False, "max_new_tokens": 6}
        plain = alone.write(inputs, 1, alone.read(inputs), **how)
        assert torch.equal(loaded.write(inputs, 1, loaded.read(inputs), **how), plain)
    owner, method = LOOKS[kind]
    look, looked = getattr(owner, method), []
    noted = lambda *some, **more: looked.append(1) or look(*some, **more)  # noqa: E731
    monkeypatch.setattr(owner, method, noted)
    read = loaded.read(inputs)
    for answers, beams in ((1, 3), (4, 1)):
        loaded.write(inputs, answers, read, num_beams=beams, do_sample=False, max_new_tokens=3)
    assert len(looked) == 1


def test_a_picture_that_a_model_does_not_take_ends_no_others(folders: dict[str, Path]) -> None:
    captioner = load_captioner(str(folders["qwen2.5-vl"]))
    images = [*pictures(2), Image.new("RGB", (1, 3000)), *pictures(3)[2:]]
    found = proposed(captioner, images, [1, 2, 3, 4], samples=1)
    refused = found.pop(2)
    assert isinstance(refused, RefusedError) and refused.is_final
    assert str(refused).startswith("the model takes no such picture: absolute aspect ratio")
    assert found == proposed(captioner, pictures(3), [1, 2, 4], samples=1)


def test_a_model_that_answers_otherwise_when_it_shares_a_reading_does_not(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = vlm._read
    broken = lambda *some: replace(read(*some), shift=torch.full((2, 1), 5))  # noqa: E731
    monkeypatch.setattr(vlm, "_read", broken)
    loaded = load_vlm(str(folders["qwen2.5-vl"]), torch.device("cpu"), torch.float32)
    assert not loaded.shares_prefix


def test_a_blip_built_otherwise_than_surd_expects_captions_by_its_own_generate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = str(saved(tmp_path, transformers.BlipForConditionalGeneration, window=24))
    own = proposed(load_captioner(folder), pictures(), [1, 2, 3])
    assert "its generate instead" not in caplog.text

    def moved(*_: Any) -> None:
        raise AttributeError("'BlipVisionModel' object has no attribute 'encoder'")

    monkeypatch.setattr("surd.models.blip.encoder.image_states", moved)
    theirs = proposed(load_captioner(folder), pictures(), [1, 2, 3])
    assert len({beam.text for beam, *_ in theirs}) > 1, "else equal beams would show little"
    assert [beam for beam, *_ in theirs] == [beam for beam, *_ in own]
    assert [[one.how for one in some] for some in theirs] == [["beam", *["nucleus"] * 4]] * 3
    (line,) = [
        record.getMessage() for record in caplog.records if "its generate instead" in record.msg
    ]
    assert "no attribute 'encoder'" in line and f"transformers {transformers.__version__}" in line
