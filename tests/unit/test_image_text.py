"""Captions from BLIP-2, Qwen2.5-VL and Florence-2: small random ones, by transformers' generate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from support_blip import saved
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForImageTextToText

from surd.models.captioner import load_captioner
from surd.models.captions import Captioner, Proposal, Wanted

pytestmark = pytest.mark.usefixtures("one_thread")
WORDS = ["a", "red", "blue", "cat", "dog", "fox", "house", "tree", "sits", "runs", "under", "near"]
QUESTION = "Describe this picture in one short sentence."
ASKED = ["What", "does", "the", "image", "describe", "?", ".", "user", *QUESTION[:-1].split()]
SEEN = "<|vision_start|><|image_pad|><|vision_end|>"
TURN = f"<|im_start|>user {SEEN}{{}}<|im_end|><|im_start|>assistant "
CHAT_TEMPLATE = """{% for m in messages %}<|im_start|>{{ m.role }} {% for c in m.content %}
{%- if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}
{%- endif %}{% endfor %}<|im_end|>{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant {% endif %}"""
SAID = "What does the cat?"
ASKED_AS = {
    "blip-2": {None: "", SAID: SAID},
    "qwen2.5-vl": {None: TURN.format(QUESTION), SAID: TURN.format(SAID)},
    "florence-2": {None: "<CAPTION>", "<DETAILED_CAPTION>": "<DETAILED_CAPTION>"},
}
"""Of each kind, what the model is given where the user asks nothing, and something."""
SQUARE = {"height": 32, "width": 32}
LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4}
SIZE = {"hidden_size": 32, "intermediate_size": 64, **LAYERS}


def tokenizer(special: list[str], start: str | None = None, **names: Any) -> Any:
    """One token a word; the special ones have the first ids, in their order."""
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([*special, *WORDS, *ASKED]))}
    bare = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    bare.pre_tokenizer = Whitespace()
    if start:
        pair = (start, vocabulary[start])
        bare.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[pair])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=bare, unk_token="<unk>", **names)
    fast.add_special_tokens({"additional_special_tokens": special})
    return fast


def blip_2() -> tuple[Any, Any]:
    special = ["<pad>", "</s>", "<unk>", "<image>"]
    words = tokenizer(special, "</s>", eos_token="</s>", pad_token="<pad>")
    text = {"model_type": "opt", "hidden_size": 32, "ffn_dim": 64, "word_embed_proj_dim": 32}
    text |= {"vocab_size": len(words), "max_position_embeddings": 64, **LAYERS}
    config = transformers.Blip2Config(
        vision_config={**SIZE, "image_size": 32, "patch_size": 8},
        qformer_config={**SIZE, "encoder_hidden_size": 32, "vocab_size": len(words)},
        text_config={**text, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1},
        num_query_tokens=4,
        image_token_index=3,
    )
    images = transformers.BlipImageProcessor(size=SQUARE)
    return config, transformers.Blip2Processor(images, words, num_query_tokens=4)


def qwen() -> tuple[Any, Any]:
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|image_pad|>", "<|video_pad|>", "<unk>"]
    words = tokenizer(special, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    ids = {"vision_start_token_id": 3, "vision_end_token_id": 4}
    vision = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2}
    vision |= {"patch_size": 4, "window_size": 16, "out_hidden_size": 32}
    turns = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}
    text = {**SIZE, "num_key_value_heads": 2, "vocab_size": len(words), "rope_parameters": turns}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={**vision, "fullatt_block_indexes": [1]},
        text_config={**text, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0},
        **{**ids, "image_token_id": 5, "video_token_id": 6},
    )
    pixels = {"patch_size": 4, "merge_size": 2, "min_pixels": 256, "max_pixels": 1024}
    images = transformers.Qwen2VLImageProcessor(**pixels)
    videos = transformers.Qwen2VLVideoProcessor(**pixels)
    chat = {"chat_template": CHAT_TEMPLATE}
    return config, transformers.Qwen2_5_VLProcessor(images, words, videos, **chat)


def florence() -> tuple[Any, Any]:
    names = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"}
    names |= {"extra_special_tokens": {"image_token": "<image>"}}
    words = tokenizer(["<s>", "<pad>", "</s>", "<unk>", "<image>"], **names)
    vision = {"depths": (1, 1), "patch_size": (7, 3), "patch_stride": (4, 2), "window_size": 2}
    vision |= {"patch_padding": (3, 1), "patch_prenorm": (False, True), "embed_dim": (16, 32)}
    vision |= {"num_heads": (2, 2), "num_groups": (2, 2), "projection_dim": 32}
    text = {"model_type": "bart", "d_model": 32, "vocab_size": len(words)}
    for side in ("encoder", "decoder"):
        text |= {f"{side}_layers": 1, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 32}
    text |= {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    text |= {"max_position_embeddings": 128, "forced_eos_token_id": None}
    towers = {"vision_config": vision, "text_config": text}
    config = transformers.Florence2Config(image_token_id=4, **towers)
    images = transformers.CLIPImageProcessor(size=SQUARE, crop_size=SQUARE, image_seq_length=17)
    return config, transformers.Florence2Processor(images, words)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of each kind, by seeds whose captions differ between pictures."""
    found = {kind: tmp_path_factory.mktemp(kind) for kind in ASKED_AS}
    for folder, make, seed in zip(found.values(), (blip_2, qwen, florence), (3, 2, 2), strict=True):
        config, processor = make()
        model = AutoModelForImageTextToText.from_config(config)
        random = torch.Generator().manual_seed(seed)
        for name, values in model.named_parameters():
            scales = values.ndim == 1 and name.endswith("weight")
            values.data = 0.3 * torch.randn(values.shape, generator=random) + scales
        head = model.get_output_embeddings().weight.data
        head[config.image_token_id] = head[model.generation_config.eos_token_id]  # never chosen
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return found


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
    captioner, seen = load_captioner(str(folders[kind]), dtype=dtype), []
    model = type(AutoModelForImageTextToText.from_pretrained(folders[kind]))
    generate = model.generate

    def noted(self: Any, **how: Any) -> torch.Tensor:
        seen.append((self.dtype, how["pixel_values"].dtype, how["num_beams"]))
        return generate(self, **how)

    monkeypatch.setattr(model, "generate", noted)
    [found] = proposed(captioner, pictures(1), [1], num_beams=2, samples=3)
    assert seen == [(dtype, dtype, 2), (dtype, dtype, 1)]
    assert len(found) == 4 and all({*p.text.split()} <= {*WORDS, *ASKED} for p in found)


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
