"""The training of the demo's models: exact resumption, their language, their formats."""

from __future__ import annotations

import random
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import BertTokenizerFast, CLIPTokenizer

from surd.demo.scenes import Pair, all_scenes, split_of
from surd.demo.sentences import simple_sentence
from surd.models.clip import load_clip
from tools.demo_models.check import check_clip
from tools.demo_models.clip import model_config, save_clip
from tools.demo_models.diffusion import encode_prompts, text_encoder_of
from tools.demo_models.language import make_caption_tokenizer, make_clip_tokenizer, tags
from tools.demo_models.loop import fit
from tools.demo_models.painted import distinct_scenes, paint_split
from tools.demo_models.sizes import CONTEXT_TOKENS, LAYERS, PICTURE_PX, TEXT_LAYERS_READ, WIDTH

SCENES = random.Random(5).sample(all_scenes(), 60)


class KilledError(Exception):
    pass


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))


def _loss_of(model: nn.Module, die_at: int | None = None):
    def loss(step: int) -> torch.Tensor:
        if step == die_at:
            raise KilledError
        x = torch.randn(16, 3)
        return (model(x) - x.sum(1, keepdim=True)).pow(2).mean()

    return loss


def test_killed_training_ends_with_the_weights_of_an_undisturbed_one(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.demo_models.loop._SAVE_EVERY_S", -1.0)  # at every step
    whole, killed, resumed = _model(), _model(), _model()
    options = {"steps": 20, "lr": 1e-2, "warmup": 3}
    fit("whole", whole, _loss_of(whole), checkpoint=tmp_path / "whole", **options)
    with pytest.raises(KilledError):
        fit("killed", killed, _loss_of(killed, 11), checkpoint=tmp_path / "killed", **options)
    fit("killed", resumed, _loss_of(resumed), checkpoint=tmp_path / "killed", **options)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert not torch.equal(whole[0].weight, _model()[0].weight)


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return make_clip_tokenizer()


def test_every_prompt_fits_the_window_and_comes_back_from_its_tokens(tokenizer):
    for seed, scene in enumerate(SCENES):
        for text in (tags(scene, seed), simple_sentence(scene, seed=seed, words="all")):
            ids = tokenizer(text).input_ids
            assert len(ids) <= CONTEXT_TOKENS
            assert ids[-1] == max(ids) == tokenizer.eos_token_id
            back = tokenizer.decode(ids, skip_special_tokens=True)
            assert back.replace(" ", "") == text.lower().replace(" ", "")


@pytest.fixture(scope="module")
def caption_tokenizer(tmp_path_factory) -> BertTokenizerFast:
    return make_caption_tokenizer(tmp_path_factory.mktemp("caption-words"))


@pytest.mark.long
@pytest.mark.timeout(600)  # it learns two of them
def test_the_tokenizers_are_the_same_each_time(tokenizer, caption_tokenizer, tmp_path):
    assert tokenizer.get_vocab() == make_clip_tokenizer().get_vocab()
    assert caption_tokenizer.get_vocab() == make_caption_tokenizer(tmp_path).get_vocab()


def test_the_captioner_knows_training_words_and_no_held_out_ones(caption_tokenizer):
    tokenizer = caption_tokenizer
    for seed, scene in enumerate(SCENES):
        known = tokenizer(simple_sentence(scene, seed=seed, words="train")).input_ids
        assert tokenizer.unk_token_id not in known
    assert tokenizer.unk_token_id in tokenizer("scarlet cones plunging").input_ids


def test_batches_never_hold_a_scene_twice():
    import numpy as np

    pictures = paint_split("validation", 2, 1, seed=3)
    groups = [s.left if isinstance(s, Pair) else s for s in pictures.scenes]
    assert {split_of(group) for group in groups} == {"validation"}
    assert pictures.pixels.shape == (len(pictures), PICTURE_PX, PICTURE_PX, 3)
    chosen = distinct_scenes(pictures, 64, np.random.default_rng(0))
    assert len({pictures.scenes[i] for i in chosen}) == 64


def test_a_painted_pool_is_read_back_from_its_cache(tmp_path):
    first = paint_split("validation", 1, 1, seed=3, cache=tmp_path)
    (cached,) = tmp_path.iterdir()
    again = paint_split("validation", 1, 1, seed=3, cache=tmp_path)
    assert (first.pixels == again.pixels).all() and cached.suffix == ".npy"


@pytest.fixture(scope="module")
def untrained(tokenizer, tmp_path_factory) -> Path:
    """A CLIP of the demo's shape with random weights, in open_clip's folder format."""
    torch.manual_seed(0)
    config = model_config(len(tokenizer))
    folder = tmp_path_factory.mktemp("clip")
    save_clip(open_clip.CLIP(**config), config, tokenizer, folder)
    return folder


def test_the_diffusion_text_encoder_is_the_text_tower_of_clip(untrained, tokenizer):
    clip = load_clip(str(untrained))
    encoder = text_encoder_of(clip.model, tokenizer, layers=LAYERS)
    texts = [tags(scene, 1) for scene in SCENES[:8]]
    hidden = encode_prompts(encoder, tokenizer, texts)
    assert hidden.shape == (8, CONTEXT_TOKENS, WIDTH)
    ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    pooled = encoder(ids).pooler_output @ clip.model.text_projection
    torch.testing.assert_close(
        nn.functional.normalize(pooled, dim=-1), clip.embed_texts(texts), atol=1e-5, rtol=0
    )


def test_the_diffusion_model_reads_clip_after_its_first_layers(untrained, tokenizer):
    clip = load_clip(str(untrained)).model
    whole = text_encoder_of(clip, tokenizer, layers=LAYERS)
    ids = tokenizer(tags(SCENES[0], 1), padding="max_length", return_tensors="pt").input_ids
    states = whole(ids, output_hidden_states=True).hidden_states[TEXT_LAYERS_READ]
    read = text_encoder_of(clip, tokenizer)(ids).last_hidden_state
    torch.testing.assert_close(whole.final_layer_norm(states), read)


def test_weights_are_stored_in_half_precision_and_loaded_in_full(untrained):
    stored = load_file(untrained / "open_clip_model.safetensors")
    assert {value.dtype for value in stored.values() if value.is_floating_point()} == {
        torch.float16
    }
    assert load_clip(str(untrained)).dtype == torch.float32


def test_the_check_finds_an_untrained_clip_wanting(untrained):
    figures = list(check_clip(1, str(untrained)))
    assert not any(figure.reached for figure in figures)
    assert all(figure.value < 0.2 for figure in figures)
