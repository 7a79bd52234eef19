"""How likely judges find answers, written out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support_blip import saved
from support_chat import ChatServer
from support_vlm import saved as saved_vlm
from transformers import AutoModelForImageTextToText, AutoProcessor, BlipForQuestionAnswering

from surd.errors import ModelError
from surd.evaluate.judges import VqaJudge, vqa_judge
from surd.evaluate.prompt import Question
from surd.models.answers import NoProbabilitiesError, Vqa
from surd.models.vqa import first_tokens, load_vqa
from surd.text.number_words import spellings

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
TOLERANCE = 1e-4


def pictures(count: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 255, (count, 6, 8, 3), dtype=np.uint8)
    return [Image.fromarray(some).resize((64, 48), Image.Resampling.NEAREST) for some in pixels]


def load(folder: Path | str) -> Vqa:
    return load_vqa(str(folder), device=CPU, dtype=torch.float32)


@torch.inference_mode()
def test_blips_probability_is_the_product_over_the_words_of_an_answer(tmp_path: Path) -> None:
    folder = saved(tmp_path / "vqa", BlipForQuestionAnswering)
    model = BlipForQuestionAnswering.from_pretrained(folder).eval()
    prepare = AutoProcessor.from_pretrained(folder)
    images, questions = pictures(3), ["a red cat", "old dog runs under a tree", "a"]
    wanted = ["blue", "old house near", "a"]
    expected = []
    for image, question, answer in zip(images, questions, wanted, strict=True):
        inputs = prepare(images=image, text=question, return_tensors="pt")
        seen = model.vision_model(inputs["pixel_values"])[0]
        read = model.text_encoder(
            inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            encoder_hidden_states=seen,
        )[0]
        written, likely = [model.config.text_config.bos_token_id], 1.0
        for token in prepare.tokenizer(answer)["input_ids"][1:]:  # with its end, [SEP]
            ids = torch.tensor([written])
            step = model.text_decoder(ids, encoder_hidden_states=read).logits[0, -1]
            likely *= float(step.softmax(-1)[token])
            written.append(token)
        expected.append(likely)
    found = load(folder).probabilities(images, questions, wanted)
    assert found == pytest.approx(expected, rel=TOLERANCE)
    assert len(set(expected)) == 3


def test_blip_answers_in_a_batch_what_it_answers_alone(tmp_path: Path) -> None:
    judge, images = load(saved(tmp_path / "vqa", BlipForQuestionAnswering)), pictures(8)
    questions = [" ".join(["red", "cat", "near", "old", "tree"][: 1 + n % 5]) for n in range(8)]
    pairs = [(image, question) for image in images for question in questions]
    together = judge.answers(*zip(*pairs, strict=True))
    assert together == [judge.answers([image], [question])[0] for image, question in pairs]
    assert len(set(together)) > 1


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_vlm(tmp_path_factory.mktemp("qwen"), "qwen2.5-vl")


QUESTIONS = ["a red cat under the tree", "What does the image describe?", "a house"]


@torch.inference_mode()
def first_word(folder: Path, image: Image.Image, question: str) -> torch.Tensor:
    """Probabilities of the first token of one answer, with no padding: ``[v]``."""
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = AutoProcessor.from_pretrained(folder)
    content = [{"type": "image"}, {"type": "text", "text": question}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = processor(images=[image], text=[text], return_tensors="pt")
    likely: torch.Tensor = model(**inputs).logits[0, -1].softmax(-1)
    return likely


def test_a_chat_models_probability_is_that_of_the_first_token(chatty: Path) -> None:
    images, wanted = pictures(3), ["cat", "dog", "red"]
    tokenizer: Any = AutoProcessor.from_pretrained(chatty).tokenizer
    expected = [
        float(
            first_word(chatty, image, f"{question} Answer in one word.")[tokenizer(a).input_ids[0]]
        )
        for image, question, a in zip(images, QUESTIONS, wanted, strict=True)
    ]
    found = load(chatty).probabilities(images, QUESTIONS, wanted)
    assert found == pytest.approx(expected, rel=TOLERANCE)
    assert min(expected) > 1e-6


def test_a_question_that_says_how_to_answer_is_asked_as_it_stands(chatty: Path) -> None:
    asked = 'Does this figure show "a cat"? Please answer yes or no.'
    expected = float(first_word(chatty, pictures(1)[0], asked)[20])
    tokenizer = AutoProcessor.from_pretrained(chatty).tokenizer
    word = tokenizer.decode([20]).strip()
    assert load(chatty).probabilities(pictures(1), [asked], [word]) == pytest.approx([expected])


@torch.inference_mode()
def test_a_chat_model_answers_in_a_batch_what_it_answers_alone(chatty: Path) -> None:
    judge, images = load(chatty), pictures(3)
    together = judge.answers(images, QUESTIONS)
    alone = [judge.answers([i], [q])[0] for i, q in zip(images, QUESTIONS, strict=True)]
    assert together == alone and len(set(together)) > 1


def test_first_tokens_are_those_of_every_way_to_write_an_answer() -> None:
    class Spaced:
        """A tokenizer for which a space before a word is a token of its own."""

        unk_token_id = None
        words: tuple[str, ...] = ("▁", "four", "Four", "4", "FOUR")

        def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
            assert not add_special_tokens
            pieces = ["▁"] * text.startswith(" ") + [text.strip()]
            return [self.words.index(piece) for piece in pieces if piece in self.words]

        def decode(self, ids: list[int]) -> str:
            return self.words[ids[0]].replace("▁", " ")

    assert first_tokens(Spaced(), "four") == [1, 2, 3]
    assert first_tokens(Spaced(), "4") == [1, 2, 3]


@pytest.mark.parametrize(
    ("answer", "ways"),
    [("four", ["four", "4"]), ("4", ["4", "four"]), ("Yes", ["Yes"]), ("12", ["12"])],
)
def test_numbers_are_written_in_two_ways(answer: str, ways: list[str]) -> None:
    assert spellings(answer) == ways


def test_memory_that_runs_out_halves_the_questions_asked_at_once() -> None:
    asked: list[int] = []

    def answers(images: Any, questions: Any) -> list[str]:
        asked.append(len(questions))
        if len(questions) > 2:
            raise torch.OutOfMemoryError
        return [f"{q}!" for q in questions]

    judge = VqaJudge(Vqa(answers, lambda *_: [], at_once=4))
    images = pictures(2)
    questions = [[Question("a", "yes"), Question("b", "yes")], [Question("c", "no")]]
    assert judge(images, questions) == [["a!", "b!"], ["c!"]]
    assert asked == [3, 2, 1]


# over a server ----------------------------------------------------------------------------------

LIKELIEST = {"Yes": math.log(0.5), " yes": math.log(0.2), "No": math.log(0.1), "Yesterday": -3.0}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer(likeliest=LIKELIEST, say=lambda body: "Two.") as server:
        yield server


def test_a_servers_probability_sums_over_the_ways_to_write_an_answer(server: ChatServer) -> None:
    judge = load(server.name)
    found = judge.probabilities(pictures(3), ["is it?"] * 3, ["yes", "no", "blue"])
    assert found == pytest.approx([0.7, 0.1, 0.0])
    body = server.bodies[0]
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
    assert body["messages"][0]["content"][1]["text"] == "is it? Answer in one word."


@pytest.mark.parametrize(
    ("answer", "share"), [("giraffe", 0.6), ("grey", 0.3), ("goat", 0.05), ("dog", 0.0)]
)
def test_a_word_of_several_tokens_is_known_by_its_longest_beginning(
    answer: str, share: float
) -> None:
    some = {" gir": 0.4, "Gir": 0.2, "g": 0.05, "Grey": 0.3, "giraffes": 0.01}
    likeliest = {token: math.log(p) for token, p in some.items()}
    with ChatServer(likeliest=likeliest) as server:
        [found] = load(server.name).probabilities(pictures(1), ["is it?"], [answer])
    assert found == pytest.approx(share)


def test_a_server_that_gives_five_is_asked_for_five(server: ChatServer) -> None:
    refused = []

    def refuse(body: dict[str, Any], before: int) -> str | None:
        refused.append(body["top_logprobs"] == 20)
        return "refused" if refused[-1] else None

    server.fault = refuse
    judge = load(server.name)
    for _ in range(2):
        assert judge.probabilities(pictures(1), ["is it?"], ["yes"]) == pytest.approx([0.7])
    assert refused == [True, False, False], "it is asked for twenty once"


@pytest.mark.parametrize("blank", ["\n\n", '"', "**", "<think>", "\u2581"])
def test_an_answer_is_looked_for_behind_tokens_without_a_word(blank: str) -> None:
    first = {blank: math.log(0.8), "Yes": math.log(0.1)}
    then = [{"\n": 0.0}, {"\u0120yes": math.log(0.5), "\u2581no": math.log(0.4)}, {"yes": 0.0}]
    with ChatServer(likeliest=first, then=then) as server:
        judge = load(server.name)
        yes, no = judge.probabilities(pictures(2), ["is it?", "is it?"], ["yes", "no"])
        assert (yes, no) == pytest.approx((0.1 + 0.8 * 0.5, 0.8 * 0.4))
        server.bodies.clear()
        judge.probabilities(pictures(1), ["is it?"], ["yes"])
    assert [body["max_tokens"] for body in server.bodies] == [16]


def test_a_judges_answer_may_be_wrapped() -> None:
    with ChatServer(say=lambda body: '```json\n{"answer": "Yes."}\n```') as server:
        assert load(server.name).answers(pictures(1), ["is it?"]) == ["Yes."]


def test_a_server_without_probabilities_says_so() -> None:
    with ChatServer() as server:
        server._logprobs = lambda body: None  # type: ignore[assignment]
        with pytest.raises(NoProbabilitiesError, match="gives no log-probabilities"):
            load(server.name).probabilities(pictures(1), ["is it?"], ["yes"])


def test_a_server_judges(server: ChatServer) -> None:
    judge = vqa_judge(server.name, CPU, torch.float32)
    questions = [[Question("how many?", "two"), Question("is it?", "yes")], []]
    assert judge(pictures(2), questions) == [["Two.", "Two."], []]
    assert judge.probabilities(pictures(2), questions)[0][1] == pytest.approx(0.7)


def test_a_question_without_an_answer_is_no_number(
    server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    judge = load(server.name)
    judge.answers(pictures(1), ["first?"])
    server.fault = lambda body, _: "refused" if "bad" in str(body["messages"])[-90:] else None
    assert judge.answers(pictures(2), ["good?", "bad?"]) == ["Two.", None]
    good, bad = judge.probabilities(pictures(2), ["good?", "bad?"], ["yes", "yes"])
    assert good == pytest.approx(0.7) and math.isnan(bad)
    assert sum("1 of 2 questions: HTTP 400: no way" in r.getMessage() for r in caplog.records) == 2


def test_a_judge_that_answers_nothing_is_refused() -> None:
    thinking = ChatServer(say=lambda _: "<think> Let me look.", max_tokens=2)
    with thinking as server, pytest.raises(ModelError, match="none of 2 questions: no word within"):
        load(server.name).answers(pictures(2), ["one?", "two?"])


def test_a_server_that_is_not_there_cannot_judge() -> None:
    with ChatServer() as server:
        pass
    with pytest.raises(ModelError, match="start it first"):
        load(server.name)
