"""Language models in each type: the states that transformers gives each prompt by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoTokenizer

from real_names.matrix import MARKS, TYPES, near, refusing, types
from real_names.tokens import SENTENCES
from real_names.zoo import Zoo
from surd.llm.batches import Embedder
from surd.models.llm import load_llm, shape_of

pytestmark = MARKS
WORKING = (
    "meta-llama/Llama-2-13b-hf",
    "mistralai/Mistral-7B-v0.1",
    "Qwen/Qwen2.5-7B-Instruct",
    "Qwen/Qwen3-0.6B",
    "google/gemma-3-1b-it",
    "google/embeddinggemma-300m",
    "microsoft/phi-2",
    "openai-community/gpt2",
    "facebook/opt-350m",
    "Qwen/Qwen2.5-VL-3B-Instruct",
    "google-bert/bert-base-uncased",
)
LONG = "a red cup on a table, " * 20


@pytest.mark.parametrize("kind", types())
@pytest.mark.parametrize("name", WORKING)
def test_vectors_are_the_hidden_states_of_each_prompt(name: str, kind: str, zoo: Zoo) -> None:
    folder = str(zoo.folder(name))
    last = shape_of(folder).layers
    layers = [0, 1, last // 2, last - 1, *([] if name in ODD_LAST else [last])]
    prompts = [*SENTENCES[:4], LONG]
    llm = load_llm(folder, layers, dtype=TYPES[kind])
    ids = llm.tokenize(prompts, True)
    found = Embedder(llm, layers, "none", 4096).vectors(ids)
    wanted = plain_states(folder, prompts, kind)
    for row, states in enumerate(wanted):
        for layer in layers:
            vectors = torch.from_numpy(found[layer][row])
            assert near(vectors, states[layer].half(), WITH_HALVES[kind]), (layer, prompts[row])


ODD_LAST = ("facebook/opt-350m",)
"""Their last layer is projected to another width, and is refused."""
WITH_HALVES = {"fp32": "kept in fp16", "bf16": "bf16", "fp16": "fp16"}
"""Vectors are kept in fp16, whatever computed them."""


@torch.inference_mode()
def plain_states(folder: str, prompts: list[str], kind: str) -> list[Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=TYPES[kind]).eval()
    found = []
    for prompt in prompts:
        out = model(**tokenizer(prompt, return_tensors="pt"), output_hidden_states=True)
        found.append([states[0] for states in out.hidden_states])
    return found


@pytest.mark.parametrize("name", ODD_LAST)
def test_a_last_layer_of_another_width_is_refused(name: str, zoo: Zoo) -> None:
    folder = str(zoo.folder(name))
    with refusing():
        load_llm(folder, [shape_of(folder).layers])


@pytest.mark.parametrize(
    "name",
    ["google-t5/t5-small", "Salesforce/blip-vqa-base",
     "stable-diffusion-v1-5/stable-diffusion-v1-5"],
)  # fmt: skip
def test_what_does_not_continue_a_text_is_refused(name: str, zoo: Zoo) -> None:
    with refusing():
        load_llm(str(zoo.folder(name)), [1])


def test_the_files_are_the_published_kind(zoo: Zoo) -> None:
    """What the tests are for is there: shards, pickles, keys of before transformers 5."""
    llama = zoo.folder("meta-llama/Llama-2-13b-hf")
    assert (llama / "model.safetensors.index.json").is_file()
    assert AutoTokenizer.from_pretrained(llama).pad_token is None
    opt = zoo.folder("facebook/opt-350m")
    assert [f.name for f in opt.glob("*.bin")] and not [*opt.glob("*.safetensors")]
    qwen = AutoConfig.from_pretrained(zoo.folder("Qwen/Qwen3-0.6B"))
    tokenizer = AutoTokenizer.from_pretrained(zoo.folder("Qwen/Qwen3-0.6B"))
    assert tokenizer("a", return_tensors="pt").input_ids.shape == (1, 1)
    assert tokenizer.pad_token_id == 151643 and qwen.vocab_size == 151936
