"""Models that look at pictures, in each type: as their libraries have it when called plainly."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BlipForConditionalGeneration,
    BlipForImageTextRetrieval,
    BlipForQuestionAnswering,
    BlipProcessor,
)

from real_names.matrix import MARKS, TYPES, apart, near, pictures, refusing, types
from real_names.tokens import SENTENCES
from real_names.zoo import Zoo
from surd.models.captioner import load_captioner
from surd.models.captions import Wanted
from surd.models.clip import load_clip
from surd.models.preference import load_itm
from surd.models.vqa import load_vqa

pytestmark = MARKS
CPU = torch.device("cpu")
TAGS = {
    "ViT-B-32/openai": ("ViT-B-32-quickgelu", "timm/vit_base_patch32_clip_224.openai"),
    "ViT-B-32/laion2b_s34b_b79k": ("ViT-B-32", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"),
    "ViT-L-14/openai": ("ViT-L-14-quickgelu", "timm/vit_large_patch14_clip_224.openai"),
    "ViT-B-16-SigLIP/webli": ("ViT-B-16-SigLIP", "timm/ViT-B-16-SigLIP"),
}
"""A name as surd takes it -> the architecture of open_clip that is meant, and where weights are."""
LARGE = ("ViT-L-14/openai", "ViT-B-16-SigLIP/webli")
CAPTIONERS = (
    "Salesforce/blip-image-captioning-large",
    "Salesforce/blip-image-captioning-base",
    "Salesforce/blip2-opt-2.7b",
    "florence-community/Florence-2-base",
    "Qwen/Qwen2.5-VL-3B-Instruct",
)


@pytest.mark.parametrize("kind", types())
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.long] if n in LARGE else []) for n in TAGS]
)
def test_clip_scores_as_open_clip_does(name: str, kind: str, zoo: Zoo, online: None) -> None:
    """In halves, as near to single precision as open_clip's own halves."""
    clip = load_clip(name, dtype=TYPES[kind])
    found = (clip.embed_images(pictures()), clip.embed_texts(SENTENCES))
    exact, plain = _plain_clip(name, zoo, "fp32"), _plain_clip(name, zoo, kind)
    for ours, theirs, wanted in zip(found, plain, exact, strict=True):
        assert near(ours, wanted, kind) or apart(ours, wanted) < 1.5 * apart(theirs, wanted)


@functools.cache
def _plain_clip(name: str, zoo: Zoo, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What open_clip makes of the pictures, and of the sentences."""
    architecture, repo = TAGS[name]
    model, _, transform = open_clip.create_model_and_transforms(
        architecture,
        pretrained=str(zoo.folder(repo) / "open_clip_model.safetensors"),
        precision=kind,
        **_preprocessing(name),
    )
    model.eval()
    tokenizer = open_clip.get_tokenizer(architecture)
    with torch.inference_mode():
        pixels = torch.stack([transform(image) for image in pictures()]).to(TYPES[kind])
        seen = model.encode_image(pixels, normalize=True)
        return seen, model.encode_text(tokenizer(list(SENTENCES)), normalize=True)


def _preprocessing(name: str) -> dict[str, Any]:
    """What open_clip takes from the tag where the weights are named by it."""
    config = open_clip.get_pretrained_cfg(*name.split("/"))
    return {
        "image_mean": config["mean"],
        "image_std": config["std"],
        "image_interpolation": config["interpolation"],
        "image_resize_mode": config["resize_mode"],
    }


@pytest.mark.parametrize("kind", types())
@pytest.mark.parametrize("name", CAPTIONERS)
def test_a_captioner_says_what_generate_says(name: str, kind: str, zoo: Zoo) -> None:
    folder, images = zoo.folder(name), pictures()
    captioner = load_captioner(str(folder), dtype=TYPES[kind])
    wanted = Wanted(samples=2, num_beams=3, max_new_tokens=6)
    prepared = [captioner.prepare(image) for image in images]
    found = captioner.propose(prepared, wanted, [1, 2, 3])
    assert [len(proposals) for proposals in found] == [3, 3, 3]
    alone = captioner.propose(prepared[1:2], wanted, [2])
    said = [proposals[0].text for proposals in found]
    if kind == "fp32":
        assert alone[0] == found[1]  # whatever is beside it
        assert said == _generated(name, folder, images, wanted)


def _generated(name: str, folder: Path, images: list[Any], wanted: Wanted) -> list[str]:
    how = {"num_beams": wanted.num_beams, "max_new_tokens": wanted.max_new_tokens}
    said = []
    for image in images:
        if name.startswith("Salesforce/blip-"):
            processor: Any = BlipProcessor.from_pretrained(folder)
            model: Any = BlipForConditionalGeneration.from_pretrained(folder)
            inputs = processor(images=image, return_tensors="pt")
        else:
            processor = AutoProcessor.from_pretrained(folder)
            model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
            inputs = processor(images=image, text=_asked(name, processor), return_tensors="pt")
        ids = model.eval().generate(**inputs, do_sample=False, **how)
        if name.startswith("Qwen") or name.startswith("Salesforce/blip2"):
            ids = ids[:, inputs["input_ids"].shape[1] :]
        said.append(processor.batch_decode(ids, skip_special_tokens=True)[0].strip())
    return said


def _asked(name: str, processor: Any) -> str:
    if name.startswith("Qwen"):
        text = "Describe this picture in one short sentence."
        content = [{"type": "image"}, {"type": "text", "text": text}]
        turn = [{"role": "user", "content": content}]
        return str(processor.apply_chat_template(turn, add_generation_prompt=True))
    return "<CAPTION>" if "Florence" in name else ""


QUESTIONS = ("how many apples are there?", "is the child running in the snow?", "what color?")


@pytest.mark.parametrize("kind", types())
def test_a_judge_answers_as_generate_does(kind: str, zoo: Zoo) -> None:
    folder, images = zoo.folder("Salesforce/blip-vqa-base"), pictures()
    answers = load_vqa(str(folder), device=CPU, dtype=TYPES[kind])(images, QUESTIONS)
    processor = BlipProcessor.from_pretrained(folder)
    model = BlipForQuestionAnswering.from_pretrained(folder, dtype=TYPES[kind]).eval()
    for image, question, answer in zip(images, QUESTIONS, answers, strict=True):
        inputs = processor(images=image, text=question, return_tensors="pt").to(TYPES[kind])
        ids = model.generate(**inputs, max_new_tokens=10)
        plain = processor.batch_decode(ids, skip_special_tokens=True)[0].strip()
        assert answer == plain or kind != "fp32"


@pytest.mark.parametrize("kind", types())
def test_a_chatting_judge_answers(kind: str, zoo: Zoo) -> None:
    folder = zoo.folder("Qwen/Qwen2.5-VL-3B-Instruct")
    judge = load_vqa(str(folder), device=CPU, dtype=TYPES[kind])
    answers = judge(pictures(), QUESTIONS)
    assert all(answers)
    assert judge(pictures()[1:2], QUESTIONS[1:2]) == answers[1:2]


@pytest.mark.parametrize(
    "name",
    ["Salesforce/blip-image-captioning-base", "Salesforce/blip2-opt-2.7b",
     "florence-community/Florence-2-base", "openai-community/gpt2"],
)  # fmt: skip
def test_what_cannot_answer_is_refused_as_a_judge(name: str, zoo: Zoo) -> None:
    with refusing():
        load_vqa(str(zoo.folder(name)), device=CPU, dtype=torch.float32)


@pytest.mark.parametrize(
    "name", ["Salesforce/blip-vqa-base", "openai-community/gpt2", "google-bert/bert-base-uncased"]
)
def test_what_cannot_describe_is_refused_as_a_captioner(name: str, zoo: Zoo) -> None:
    with refusing():
        load_captioner(str(zoo.folder(name)))


@pytest.mark.parametrize("kind", types())
def test_a_match_is_scored_as_transformers_does(kind: str, zoo: Zoo) -> None:
    folder, images = zoo.folder("Salesforce/blip-itm-base-coco"), pictures()
    texts = SENTENCES[:3]
    found = load_itm(str(folder), device=CPU, dtype=TYPES[kind])(images, texts)
    processor = BlipProcessor.from_pretrained(folder)
    model = BlipForImageTextRetrieval.from_pretrained(folder).eval()
    plain = []
    for image, text in zip(images, texts, strict=True):
        inputs = processor(images=image, text=text, return_tensors="pt")
        with torch.inference_mode():
            plain.append(model(**inputs).itm_score.softmax(-1)[0, 1])
    assert near(torch.tensor(found), torch.stack(plain), kind)
