"""A few steps of every training: what comes out loads as any other model does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from surd.errors import ModelError, SurdError
from surd.models.captioner import load_captioner
from surd.models.clip import load_clip
from surd.models.diffusion import load_pipeline
from tools.demo_models.train import train_all

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.mark.long  # a minute and more, for what no wheel holds
def test_trained_models_are_in_the_libraries_formats(tmp_path, monkeypatch):
    monkeypatch.setattr("tools.demo_models.clip._BATCH", 8)
    monkeypatch.setattr("tools.demo_models.captioner._BATCH", 8)
    train_all(tmp_path, device="cpu", steps_scale=0.0005, pictures_of_a_scene=1)
    picture = Image.fromarray(np.full((60, 90, 3), 200, np.uint8))

    clip = load_clip(str(tmp_path / "clip"))
    images, texts = clip.embed_images([picture]), clip.embed_texts(["two red circles", "a box"])
    assert images.shape == (1, 128) and texts.shape == (2, 128)
    torch.testing.assert_close(texts.norm(dim=-1), torch.ones(2))

    captions = load_captioner(str(tmp_path / "captioner")).caption([picture, picture])
    assert len(captions) == 2 and captions[0] == captions[1]

    pipeline = load_pipeline(str(tmp_path / "diffusion"))
    prompts = {"prompt": "1 red circle", "generator": torch.Generator().manual_seed(0)}
    (made,) = pipeline(**prompts, num_inference_steps=2, output_type="np").images
    assert made.shape == (48, 48, 3) and np.isfinite(made).all()
    assert pipeline.tokenizer.model_max_length == clip.context_tokens
    assert not list(tmp_path.glob("*.tmp"))


def test_models_of_somebody_else_are_not_replaced(tmp_path):
    (tmp_path / "clip").mkdir()
    (tmp_path / "clip" / "weights").write_bytes(b"mine")
    with pytest.raises(SurdError, match="holds what this training did not make"):
        train_all(tmp_path, device="cpu")
    assert [path.name for path in tmp_path.rglob("*")] == ["clip", "weights"]


def test_a_device_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ModelError, match=r"device tpu9.*use auto, cpu or cuda"):
        train_all(tmp_path, device="tpu9")
