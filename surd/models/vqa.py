"""Models that answer questions about pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image

from surd.errors import ModelError
from surd.models.answers import NoProbabilitiesError, Vqa, in_one_word, shortly
from surd.models.hub import loading
from surd.models.quiet import hush
from surd.params import SERVED
from surd.text.number_words import spellings

_MAX_NEW_TOKENS = 10


def load_vqa(name: str, *, device: torch.device, dtype: torch.dtype) -> Vqa:
    """The model that `name` means: a hub id, a folder, or a model on a server.

    BLIP generates its answer (Li et al. 2022, arXiv:2201.12086, section 5.4); models that choose
    one of their answers (ViLT) choose; any other image-text-to-text model with a chat template is
    asked as a user would, for one word. Raises ModelError in one line.

    The probability of an answer is BLIP's of the whole answer and its end. A chat model's is that
    of the first token: the sum over the first tokens of all ways to write the answer, upper case or
    not, with a space or not, a number in digits or not, as GenEval 2 has it
    (https://arxiv.org/abs/2512.16853).
    """
    if name.startswith(SERVED):
        from surd.models.served import load_served_vqa

        return load_served_vqa(name)
    from transformers import AutoConfig

    with loading("VQA model", name) as found:
        hush()
        config = AutoConfig.from_pretrained(found)
        if config.model_type in ("blip", "vilt"):
            return _answering(found, name, config.model_type, device, dtype)
        return _chatting(found, name, device, dtype)


def _answering(found: str, name: str, kind: str, device: torch.device, dtype: torch.dtype) -> Vqa:
    from transformers import AutoModelForVisualQuestionAnswering, AutoProcessor

    processor = AutoProcessor.from_pretrained(found)
    model, loaded = AutoModelForVisualQuestionAnswering.from_pretrained(
        found, dtype=dtype, output_loading_info=True
    )
    if loaded["missing_keys"]:  # transformers makes up what is not there
        absent = sorted(loaded["missing_keys"])[0]
        raise ModelError(f"VQA model {name!r} cannot answer questions: it has no {absent}")
    model.to(device).eval().requires_grad_(False)

    def inputs_of(images: Sequence[Image.Image], questions: Sequence[str]) -> Any:
        inputs = processor(
            images=list(images), text=list(questions), padding=True, return_tensors="pt"
        ).to(device)
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        return inputs

    @torch.inference_mode()
    def answers(images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        inputs = inputs_of(images, questions)
        if kind == "vilt":
            chosen = model(**inputs).logits.argmax(dim=-1)  # [b]
            return [model.config.id2label[int(number)] for number in chosen]
        return _blip_says(model, processor, inputs)

    @torch.inference_mode()
    def probabilities(
        images: Sequence[Image.Image], questions: Sequence[str], wanted: Sequence[str]
    ) -> list[float]:
        if kind == "vilt":
            raise NoProbabilitiesError(f"VQA model {name!r} gives no probabilities of answers")
        inputs = inputs_of(images, questions)
        seen = model.vision_model(inputs["pixel_values"])[0]
        mask = inputs["attention_mask"]
        read = model.text_encoder(
            inputs["input_ids"], attention_mask=mask, encoder_hidden_states=seen
        )[0]  # [b, s, d]
        lengths = mask.sum(dim=1).tolist()
        return [
            sum(_blip_answers(model, processor, read[row, :length], spellings(answer)))
            for row, (length, answer) in enumerate(zip(lengths, wanted, strict=True))
        ]

    return Vqa(answers, probabilities)


def _blip_says(model: Any, processor: Any, inputs: Any) -> list[str]:
    """What BLIP generates, questions of one length at a time: it attends to padding too."""
    lengths = inputs["attention_mask"].sum(dim=1)
    said = [""] * len(lengths)
    for length in lengths.unique().tolist():
        rows = (lengths == length).nonzero()[:, 0]
        ids = model.generate(
            input_ids=inputs["input_ids"][rows, :length],
            attention_mask=inputs["attention_mask"][rows, :length],
            pixel_values=inputs["pixel_values"][rows],
            max_new_tokens=_MAX_NEW_TOKENS,
        )
        texts = processor.batch_decode(ids, skip_special_tokens=True)
        for row, text in zip(rows.tolist(), texts, strict=True):
            said[row] = text.strip()
    return said


def _blip_answers(
    model: Any, processor: Any, read: torch.Tensor, answers: Sequence[str]
) -> list[float]:
    """The probability of each answer to a question that was read with its picture, ``[s, d]``.

    One question at a time, for the decoder attends to padding whatever its mask says.
    """
    words = processor.tokenizer(list(answers), padding=True, return_tensors="pt").to(read.device)
    labels = words["input_ids"][:, 1:]  # without [CLS], in whose place the start token stands
    start = labels.new_full((len(labels), 1), model.config.text_config.bos_token_id)
    fed = torch.cat([start, labels[:, :-1]], dim=1)
    states = read.expand(len(labels), -1, -1)
    logits = model.text_decoder(fed, encoder_hidden_states=states).logits  # [answers, w, v]
    each = logits.float().log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    likely: list[float] = (each * words["attention_mask"][:, 1:]).sum(dim=1).exp().tolist()
    return likely


def _chatting(found: str, name: str, device: torch.device, dtype: torch.dtype) -> Vqa:
    from transformers import AutoProcessor

    from surd.models.vlm import load_vlm

    if not getattr(AutoProcessor.from_pretrained(found), "chat_template", None):
        raise ModelError(f"VQA model {name!r} has no chat template; use a BLIP-VQA model")
    vlm = load_vlm(found, device, dtype)

    def asked(images: Sequence[Image.Image], questions: Sequence[str]) -> Any:
        return vlm.inputs(images, [vlm.asked(question) for question in questions])

    def answers(images: Sequence[Image.Image], questions: Sequence[str]) -> list[str]:
        inputs = asked(images, [shortly(question) for question in questions])
        how = {"max_new_tokens": _MAX_NEW_TOKENS, "do_sample": False, "num_beams": 1}
        return vlm.texts(inputs, vlm.write(inputs, 1, None, **how))

    def probabilities(
        images: Sequence[Image.Image], questions: Sequence[str], wanted: Sequence[str]
    ) -> list[float]:
        inputs = asked(images, [in_one_word(question) for question in questions])
        likely = vlm.next_word(inputs).softmax(-1)  # [b, v]
        tokenizer = vlm.processor.tokenizer
        return [
            float(row[first_tokens(tokenizer, answer)].sum())
            for row, answer in zip(likely, wanted, strict=True)
        ]

    return Vqa(answers, probabilities)


def first_tokens(tokenizer: Any, answer: str) -> list[int]:
    """The different tokens with which an answer may begin, however it is written."""
    texts = [
        space + text
        for one in spellings(answer)
        for text in (one, one.lower(), one.capitalize())
        for space in ("", " ")
    ]
    found = {i for t in texts for i in tokenizer.encode(t, add_special_tokens=False)[:1]}
    # a space may be a token of its own, with which any answer could begin
    unknown = {tokenizer.unk_token_id}
    return sorted(i for i in found - unknown if tokenizer.decode([i]).strip())
