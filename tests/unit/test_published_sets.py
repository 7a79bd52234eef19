"""Sets of prompts with questions, in the form they are published in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from surd.errors import SurdError
from surd.evaluate.prompt import Prompt, Question
from surd.evaluate.prompt_sets import load_prompts
from surd.evaluate.question_rows import honoured

DSG = """\
item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
zoo_1,A grey cat under a table.,cat,1,0,entity,whole,entity - whole (cat),Is there a cat?
zoo_1,A grey cat under a table.,"cat, grey",2,1,attribute,color,"attribute - color (cat, grey)",Is the cat grey?
zoo_1,A grey cat under a table.,table,3,0,entity,whole,entity - whole (table),Is there a table?
zoo_1,A grey cat under a table.,"cat, table, under",4,"1,3",relation,spatial,"relation - spatial",Is the cat under the table?
park7,"Two dogs, running",dogs,1,0,entity,whole,entity - whole (dogs),Are there dogs?
"""  # noqa: E501
DPG = (
    "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,"
    "question_natural_language\r\n"
    '0,"A tall lamp, called ""the heron"", leans.\nIts shade is green.",,1,0,entity,whole,'
    "entity - whole (lamp),Is there a lamp?\r\n"
    '0,"A tall lamp, called ""the heron"", leans.\nIts shade is green.",,2,1,entity,part,'
    '"entity - part (lamp, shade)",Does the lamp have a shade?\r\n'
    '0,"A tall lamp, called ""the heron"", leans.\nIts shade is green.",,3,"1,2",attribute,color,'
    '"attribute - color (shade, green)",Is the shade green?\r\n'
    '0,"A tall lamp, called ""the heron"", leans.\nIts shade is green.",,4,0,global,,'
    '"global - (leaning)","Is the picture leaning, as a whole?"\r\n'
    "partiprompts12,a fox on a bicycle,,1,0,entity,whole,entity - whole (fox),Is there a fox?\r\n"
    'COCOval7,three red mugs,,1,0,other,count,"other - count (mugs, ==3)",Are there three mugs?\r\n'
)
GENEVAL_2 = {
    "prompt": "two blue boats behind a wooden bench",
    "atom_count": 5,
    "vqa_list": [["How many boats are in the image?", "two"], ["Are the boats blue?", "Yes"]],
    "skills": ["count", "attribute"],
}
GENEVAL: list[dict[str, Any]] = [
    {"tag": "single_object", "include": [{"class": "apple", "count": 1}], "prompt": "one"},
    {
        "tag": "counting",
        "include": [{"class": "cup", "count": 3}],
        "exclude": [{"class": "cup", "count": 4}],
        "prompt": "three",
    },
    {
        "tag": "color_attr",
        "include": [
            {"class": "cup", "count": 1, "color": "red"},
            {"class": "dog", "count": 1, "color": "blue"},
        ],
        "prompt": "colors",
    },
    {
        "tag": "position",
        "include": [
            {"class": "dog", "count": 1},
            {"class": "tie", "count": 1, "position": ["left of", 0]},
        ],
        "prompt": "places",
    },
]
TIFA = [
    {
        "id": "coco_12",
        "caption": "A man on a horse.",
        "question": "who rides?",
        "choices": ["man", "cat"],
        "answer": "man",
        "element_type": "animal/human",
        "element": "man",
        "coco_val_id": "9",
    },
    {
        "id": "drawbench_2",
        "caption": "Two cats.",
        "question": "how many cats are there?",
        "choices": ["1", "2"],
        "answer": "2",
        "element_type": "counting",
        "element": "two",
    },
    {"id": "coco_12", "caption": "A man on a horse.", "question": "a horse?", "answer": "yes"},
]


def written(folder: Path, name: str, content: str | list[Any]) -> str:
    path = folder / name
    text = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("name", ["dsg-1k-anns.csv", "dpg_bench.csv"])
def test_a_table_of_dependent_questions(tmp_path: Path, name: str) -> None:
    first, second = load_prompts(written(tmp_path, name, DSG))
    assert first == Prompt(
        "A grey cat under a table.",
        "zoo",
        (
            Question("Is there a cat?", "yes"),
            Question("Is the cat grey?", "yes", (0,)),
            Question("Is there a table?", "yes"),
            Question("Is the cat under the table?", "yes", (0, 2)),
        ),
    )
    assert (second.text, second.kind) == ("Two dogs, running", "park")


def test_dpg_bench(tmp_path: Path) -> None:
    """Ids without an underscore, some of them numbers alone; paragraphs, with lines in them."""
    first, second, third = load_prompts(written(tmp_path, "dpg_bench.csv", DPG))
    assert [(p.kind, len(p.questions)) for p in (first, second, third)] == [
        ("dpg_bench", 4), ("partiprompts", 1), ("COCOval", 1)
    ]  # fmt: skip
    assert first.text == 'A tall lamp, called "the heron", leans.\nIts shade is green.'
    assert [q.needs for q in first.questions] == [(), (0,), (0, 1), ()]


@pytest.mark.parametrize(
    ("fault", "mended", "questions", "says"),
    [
        ('"1,3"', '"1, under"', 4, "line 5: dependency: 'under' is no question of this prompt"),
        ('"1,3"', '"1,9"', 4, "line 5: dependency: '9' is no question of this prompt"),
        ("Is there a table?", " ", 3, "line 4: question_natural_language: empty"),
        (",3,0,", ",1,0,", 3, "line 4: proposition_id: there is a question 1 of this prompt"),
    ],
)
def test_faults_of_published_tables_are_left_out_and_told(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: str,
    mended: str,
    questions: int,
    says: str,
) -> None:
    first, _ = load_prompts(written(tmp_path, "a.csv", DSG.replace(fault, mended)))
    assert len(first.questions) == questions
    assert first.questions[-1] == Question("Is the cat under the table?", "yes", (0,))
    assert says in caplog.text and "left out" in caplog.text


def test_geneval_2(tmp_path: Path) -> None:
    (prompt,) = load_prompts(written(tmp_path, "geneval2_data.jsonl", [GENEVAL_2]))
    assert (prompt.text, prompt.kind) == (GENEVAL_2["prompt"], "5 atoms")
    assert prompt.questions == (
        Question("How many boats are in the image?", "two"),
        Question("Are the boats blue?", "Yes"),
    )


def test_geneval(tmp_path: Path) -> None:
    one, three, colors, places = load_prompts(written(tmp_path, "metadata.jsonl", GENEVAL))
    assert one.questions == (Question("Is there an apple in the image?", "yes"),)
    assert three.questions == (
        Question('How many objects of the kind "cup" are in the image?', "3"),
    )
    assert [(q.question, q.answer, q.needs) for q in colors.questions[2:]] == [
        ("What color is the cup?", "red", (0,)),
        ("What color is the dog?", "blue", (1,)),
    ]
    assert places.questions[-1] == Question("Is the tie left of the dog?", "yes", (1, 0))
    assert [p.kind for p in (one, three, colors, places)] == [row["tag"] for row in GENEVAL]


def test_tifa(tmp_path: Path) -> None:
    path = written(tmp_path, "tifa_v1.0_question_answers.json", json.dumps(TIFA))
    man, cats = load_prompts(path)
    assert (man.text, man.kind) == ("A man on a horse.", "coco")
    assert man.questions == (Question("who rides?", "man"), Question("a horse?", "yes"))
    assert (cats.kind, cats.questions[0].answer) == ("drawbench", "2")


def test_tifas_captions_alone(tmp_path: Path) -> None:
    rows = [
        {"id": "coco_12", "caption": "A man on a horse. ", "coco_val_id": "9"},
        {"id": "partiprompt_3", "caption": "Two cats."},
        {"id": "drawbench_4", "caption": "Two cats."},
    ]
    found = load_prompts(written(tmp_path, "tifa_v1.0_text_inputs.json", json.dumps(rows)))
    assert found == [Prompt("A man on a horse.", "coco"), Prompt("Two cats.", "partiprompt")]


def test_sets_of_prompts_alone(tmp_path: Path) -> None:
    compbench = "a green bench and a blue bowl\na red book and a yellow vase\n"
    found = load_prompts(written(tmp_path, "color_val.txt", compbench))
    assert [(p.text, p.kind) for p in found][1] == ("a red book and a yellow vase", "color_val")
    parti = "Prompt\tCategory\tChallenge\tNote\nthree cups\tFood\tQuantity\t\n"
    (prompt,) = load_prompts(written(tmp_path, "PartiPrompts.tsv", parti))
    assert (prompt.text, prompt.kind) == ("three cups", "Quantity")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", DSG.replace(",3,0,", ",x,0,"), "line 4: proposition_id: 'x' is not a number"),
        ("a.jsonl", [{**GENEVAL_2, "vqa_list": [["?"]]}], "line 1: vqa_list: not a list of pairs"),
        ("a.jsonl", [{**GENEVAL_2, "vqa_list": [["?", 2]]}], "vqa_list[0]: 2 is not a string"),
        ("a.jsonl", [{"prompt": "a", "include": [{"count": 1}]}], "line 1: include: not a list"),
        (
            "a.jsonl",
            [{"prompt": "a", "include": [{"class": "b", "position": ["on", 3]}]}],
            "include[0].position: ['on', 3]; write",
        ),
        ("a.json", json.dumps([{"caption": "a", "question": "b"}]), "[0]: answer: missing"),
        ("a.json", json.dumps([{"caption": "a", "answer": "b"}]), "[0]: question: missing"),
        ("a.json", json.dumps([{"id": "a_1"}]), "[0]: caption: missing"),
        ("a.json", "{}", "not a list of objects"),
        ("a.json", "[", "not JSON"),
        ("a.json", "[]", "contains no prompts"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_where(
    tmp_path: Path, name: str, content: Any, says: str
) -> None:
    with pytest.raises(SurdError) as caught:
        load_prompts(written(tmp_path, name, content))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_right_answer_counts_only_where_what_it_needs_counts() -> None:
    asked = [Question("?", "yes", needs) for needs in ((), (0,), (1,), (), (4,), (3,))]
    assert honoured([False, True, True, True, True, True], asked) == [
        *(False, False, False),
        *(True, True, True),
    ]
    backwards = [Question("?", "yes", (1,)), Question("?", "yes", (2,)), Question("?", "yes")]
    assert honoured([True, True, False], backwards) == [False, False, False]
