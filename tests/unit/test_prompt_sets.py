"""Sets of prompts to evaluate with: the bundled ones, and files in the formats of others."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from surd.errors import SurdError
from surd.evaluate.prompt import Prompt, Question, ask
from surd.evaluate.prompt_sets import KINDS, load_prompts

REAL = Path(__file__).parents[3] / "shared" / "real" / "prompts"
NUMBERS = {"1": "one", "2": "two", "3": "three", "4": "four", "5": "five", "6": "six"}
COLORS = {"red", "blue", "green", "yellow", "orange", "purple"}
COLORS |= {"pink", "white", "black", "brown", "gray"}


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]+", text)


def written(folder: Path, name: str, content: str | bytes) -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def refusal(folder: Path, name: str, content: str | bytes) -> str:
    """The message of the error, one line, without the folder."""
    path = written(folder, name, content)
    with pytest.raises(SurdError) as caught:
        load_prompts(path)
    message = str(caught.value)
    assert message.isprintable()  # one line, and nothing a terminal would obey
    assert message.startswith(path)
    return message.removeprefix(f"{folder}/")


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundled_set_has_a_hundred_prompts_of_its_kind_with_questions(kind):
    prompts = load_prompts(kind)
    assert len(prompts) == 100
    assert {prompt.kind for prompt in prompts} == {kind}
    assert all(prompt.questions for prompt in prompts)


def test_the_paper_is_all_three_sets_and_they_share_no_prompt():
    prompts = load_prompts("paper")
    assert prompts == [prompt for kind in KINDS for prompt in load_prompts(kind)]
    assert len({" ".join(words(prompt.text)) for prompt in prompts}) == 300


@pytest.mark.parametrize("kind", KINDS)
def test_no_bundled_line_is_lost_as_a_double_and_no_question_is_asked_twice(kind):
    path = Path(__file__).parents[2] / "data" / "prompts" / f"{kind}.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line["prompt"] for line in lines] == [prompt.text for prompt in load_prompts(kind)]
    assert all(set(line) == {"prompt", "kind", "questions"} for line in lines)
    for prompt in load_prompts(kind):
        asked = [question.question for question in prompt.questions]
        assert len(set(asked)) == len(asked)
        assert all(question.endswith("?") for question in asked)


def test_every_number_in_a_counting_prompt_is_asked_for_and_nothing_else():
    seen: Counter[str] = Counter()
    for prompt in load_prompts("counting"):
        answers = [question.answer for question in prompt.questions]
        numbers = [word for word in words(prompt.text) if word in NUMBERS.values()]
        assert [NUMBERS[answer] for answer in answers] == numbers, prompt.text
        assert all(
            re.fullmatch(r"how many [a-z ]+ are there\?", q.question) for q in prompt.questions
        )
        seen.update(answers)
    assert seen.keys() == NUMBERS.keys() and min(seen.values()) >= 15


def test_every_color_answer_is_in_its_prompt_beside_the_thing_asked_about():
    seen: Counter[str] = Counter()
    for prompt in load_prompts("color"):
        named = [word for word in words(prompt.text) if word in COLORS]
        assert [question.answer for question in prompt.questions] == named, prompt.text
        for question in prompt.questions:
            asked = re.fullmatch(r"what color (?:is|are) the (.+)\?", question.question)
            thing = asked[1].split()[-1]
            assert re.search(rf"\b{question.answer} (?:\w+ )?{thing}\b", prompt.text), prompt.text
        seen.update(named)
    assert seen.keys() == COLORS and min(seen.values()) >= 10


def test_every_action_prompt_asks_what_it_shows_and_once_what_the_same_subject_does_not_do():
    for prompt in load_prompts("action"):
        assert all(re.match(r"(is|are) ", question.question) for question in prompt.questions)
        *shown, other = prompt.questions
        assert shown and {question.answer for question in shown} == {"yes"}, prompt.text
        for question in shown:
            assert {*words(question.question)} & {*words(prompt.text)} - {"is", "a", "the"}
        assert other.answer == "no", prompt.text
        subject = words(other.question)[:3]  # "is the girl"
        assert subject in [words(question.question)[:3] for question in shown], prompt.text


def test_json_lines_need_only_a_prompt(tmp_path):
    path = written(
        tmp_path,
        "mine.jsonl",
        '\ufeff{"prompt": " a red cup ", "seed": 3}\r\n\r\n'
        '{"prompt": "two cups", "kind": "counting", "complex": "2cups, best quality",'
        ' "questions": [{"question": "how many cups are there?", "answer": "2"}]}\n'
        '{"prompt": "a red cup", "kind": "again"}\n'
        '{"prompt": "null is nothing", "kind": null, "questions": null, "complex": null}',
    )
    assert load_prompts(path) == [
        Prompt("a red cup", "mine"),
        Prompt(
            "two cups",
            "counting",
            (Question("how many cups are there?", "2"),),
            "2cups, best quality",
        ),
        Prompt("null is nothing", "mine"),
    ]


def test_parti_prompts_are_grouped_by_their_challenge(tmp_path):
    path = written(
        tmp_path,
        "P.TSV",
        "Prompt\tCategory\tChallenge\tNote\r\n"
        "  four cats \tAnimals\tQuantity\t\r\n"
        '"G I G G L E" painted on a wall\tIllustrations\tWriting & Symbols\t\r\n'
        "cut short\tAnimals\r\n",
    )
    assert load_prompts(path) == [
        Prompt("four cats", "Quantity"),
        Prompt('"G I G G L E" painted on a wall', "Writing & Symbols"),
        Prompt("cut short", "P"),
    ]


def test_a_tsv_that_another_program_quoted_is_read_alike(tmp_path):
    path = written(tmp_path, "q.tsv", '"Prompt"\t"Challenge"\n"a ""STOP"" sign"\t"Basic"\n')
    assert load_prompts(path) == [Prompt('a "STOP" sign', "Basic")]


def test_a_text_file_has_a_prompt_a_line(tmp_path):
    path = written(tmp_path, "color_val.txt", "a red cup\r\n\n  a blue cup\t\na red cup\n")
    assert load_prompts(path) == [
        Prompt("a red cup", "color_val"),
        Prompt("a blue cup", "color_val"),
    ]


def test_a_text_file_is_cut_at_line_ends_only(tmp_path):
    path = written(tmp_path, "t.txt", "one\u2028line\x0bonly\rthe next")
    assert [prompt.text for prompt in load_prompts(path)] == ["one\u2028line\x0bonly", "the next"]


def test_csv_needs_a_column_of_prompts(tmp_path):
    content = 'id,Prompt,complex\n1,"a cup, red","cup, red, 8k"\n\n2,"a ""STOP"" sign",\n'
    assert load_prompts(written(tmp_path, "mine.csv", content)) == [
        Prompt("a cup, red", "mine", complex="cup, red, 8k"),
        Prompt('a "STOP" sign', "mine"),
    ]
    assert load_prompts(written(tmp_path, "one.csv", "prompt\na cup\n")) == [Prompt("a cup", "one")]
    by_category = written(tmp_path, "c.csv", "prompt,category\na cup,Colors\n")
    assert load_prompts(by_category) == [Prompt("a cup", "Colors")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a cup"', "line 2: not JSON: "),
        ('"a cup"', "line 2: not a JSON object; write one object per line"),
        ('{"Prompt": "a cup"}', "line 2: prompt: missing; this line has 'Prompt'"),
        ('{"\\u001b[31m\\n": 1}', r"line 2: prompt: missing; this line has '\x1b[31m\n'"),
        ("{}", "line 2: prompt: missing; this line has none"),
        ('{"prompt": 3}', "line 2: prompt: 3 is not a string; put it in quotes"),
        ('{"prompt": null}', "line 2: prompt: None is not a string"),
        ('{"prompt": " "}', "line 2: prompt: empty; write some text or delete the line"),
        ('{"prompt": "a\\u0000"}', "line 2: prompt: contains an escape that is not a character"),
        ('{"prompt": "a\\ud800"}', "line 2: prompt: contains an escape that is not a character"),
        ('{"prompt": "a", "kind": 1}', "line 2: kind: 1 is not a string"),
        ('{"prompt": "a", "complex": ["b"]}', "line 2: complex: ['b'] is not a string"),
        ('{"prompt": "a", "questions": "b?"}', "line 2: questions: not a list; write "),
        ('{"prompt": "a", "questions": ["b?"]}', "line 2: questions[0]: needs a question and"),
        (
            '{"prompt": "a", "questions": [{"question": "b?", "answer": 2}]}',
            "line 2: questions[0].answer: 2 is not a string; put it in quotes",
        ),
        ("[" * 100_000, "line 2: not JSON: nested too deeply"),
        ('{"prompt": ' + "9" * 100_000 + "}", "line 2: "),
    ],
)
def test_a_wrong_json_line_is_named_with_its_field_and_the_mend(tmp_path, line, message):
    refused = refusal(tmp_path, "a.jsonl", f'{{"prompt": "good"}}\n{line}\n')
    assert refused.startswith(f"a.jsonl: {message}")
    assert len(refused) < 300


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "Text\tChallenge\na\tb\n", "line 1: no prompt column; the header has 'Text', "),
        ("a.csv", "prompt;kind\na;b\n", "line 1: no prompt column; the header has 'prompt;kind'"),
        ("a.csv", "prompt\na cup, red\n", "line 2: 2 values for 1 columns; quote any text"),
        ("a.csv", 'prompt,id\n"two\nlines",1\n,2\n', "line 4: prompt: empty; write some text"),
        ("a.csv", 'prompt\n"never closed\n', "line 2: not CSV: "),
        ("a.tsv", "Prompt\tNote\na\tb\tc\n", "line 2: 3 values for 2 columns; "),
        ("a.txt", b"fine\n\xff\xfea", "line 2: not UTF-8; save it as UTF-8 text"),
        ("a.txt", b"\xef\xbb\xbf\n\n\xe9", "line 3: not UTF-8; save it as UTF-8 text"),
        ("a.jsonl", b'{"prompt": "caf\xe9"}', "line 1: not UTF-8; save it as UTF-8 text"),
        ("a.csv", "prompt\na cup".encode("utf-16"), "UTF-16 text; save it as UTF-8"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path, name, content, message):
    assert refusal(tmp_path, name, content).startswith(f"{name}: {message}")


@pytest.mark.parametrize("suffix", ["jsonl", "tsv", "txt", "csv"])
def test_a_file_without_prompts_or_with_nul_bytes_is_refused(tmp_path, suffix):
    for content in (b"", b"\xef\xbb\xbf", b"\r\n \n"):
        assert refusal(tmp_path, f"a.{suffix}", content).endswith(
            "contains no prompts; write one per line"
        )
    assert "line 2: a NUL byte" in refusal(tmp_path, f"a.{suffix}", b"prompt\na\0cup\n")


def test_a_table_of_a_header_only_holds_no_prompts(tmp_path):
    assert "contains no prompts" in refusal(tmp_path, "a.tsv", "Prompt\tChallenge\n")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("colour", "did you mean color? "),
        ("Counting", "did you mean counting? "),
        ("nowhere/prompts.txt", ""),
        ("~nobody-of-this-name/a.txt", ""),
        ("a" * 5000, ""),
        ("", ""),
    ],
)
def test_an_unknown_name_lists_the_bundled_sets_and_suggests_the_nearest(name, hint):
    with pytest.raises(SurdError) as caught:
        load_prompts(name)
    assert str(caught.value) == (
        f"{name}: neither a prompt file nor a bundled set; {hint}"
        "bundled sets: action, color, counting, paper"
    )


def test_a_file_whose_name_tells_no_format_is_refused(tmp_path):
    assert refusal(tmp_path, "a.yaml", "[]").startswith(
        "a.yaml: unknown format; the name must end in one of .jsonl, "
    )


def test_a_prompt_without_questions_is_asked_for_as_a_whole():
    own = Question("how many cups are there?", "2")
    assert ask(Prompt("two cups", "counting", (own,))) == (own,)
    assert ask(Prompt("two cups", "counting")) == (
        Question('does this picture show "two cups"?', "yes"),
    )


def test_reading_prompts_loads_no_model_library():
    code = (
        "import sys; from surd.evaluate.prompt_sets import load_prompts; load_prompts('paper');"
        "print({'torch', 'pandas', 'pyarrow', 'transformers'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real prompts are not part of the repository")
def test_the_real_parti_prompts_are_read_whole():
    prompts = load_prompts(str(REAL / "parti_prompts.tsv"))
    assert len(prompts) == 1632
    kinds = Counter(prompt.kind for prompt in prompts)
    assert kinds["Quantity"] == 90 and len(kinds) == 11
    texts = {prompt.text for prompt in prompts}
    assert any(text.startswith('"G I G G L E" painted') for text in texts)
    assert "a corgi’s head" in texts


@pytest.mark.skipif(not REAL.is_dir(), reason="the real prompts are not part of the repository")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("color_val", 300),
        ("numeracy_val", 300),
        ("non_spatial_val", 300),
        ("complex_val_action", 212),
    ],
)
def test_the_real_t2i_compbench_prompts_are_read_whole(name, count):
    stem = f"t2i_compbench_{name}"
    prompts = load_prompts(str(REAL / f"{stem}.txt"))
    assert len(prompts) == count
    assert {prompt.kind for prompt in prompts} == {stem}
    assert all(prompt.text == prompt.text.strip() for prompt in prompts)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real prompts are not part of the repository")
def test_no_bundled_prompt_is_one_of_theirs():
    theirs = {
        prompt.text.lower().rstrip(".")
        for path in REAL.iterdir()
        for prompt in load_prompts(str(path))
    }
    assert not theirs & {prompt.text.lower() for prompt in load_prompts("paper")}
