"""The syntax of prompts: what is words, what is not, and that no text is too much for it."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import real_prompts

from surd.text.prompt_reader import Network
from surd.text.prompt_syntax import ParsedPrompt, Weighted, parse


def weights_of(text: str) -> list[tuple[str, float]]:
    return [(piece.text, piece.weight) for piece in parse(text).weights]


@pytest.mark.parametrize(
    ("prompt", "words", "weights"),
    [
        ("a cat", "a cat", []),
        ("a (cat)", "a cat", [("cat", 1.1)]),
        ("a ((cat))", "a cat", [("cat", 1.21)]),
        ("a [cat]", "a cat", [("cat", 0.9091)]),
        ("a {cat}", "a cat", [("cat", 1.05)]),
        ("a {{best, cat}}", "a best, cat", [("best, cat", 1.1025)]),
        ("([cat])", "cat", []),
        ("(cat:1.3), dog", "cat, dog", [("cat", 1.3)]),
        ("(cat: 1.3 )", "cat", [("cat", 1.3)]),
        ("(cat,:1.3)", "cat", [("cat", 1.3)]),
        ("(cat:1)", "cat", []),
        ("(cat:0)", "cat", [("cat", 0.0)]),
        ("(cat:-.5)", "cat", [("cat", -0.5)]),
        ("((cat:1.5))", "cat", [("cat", 1.65)]),
        ("(a [b] c:1.2)", "a b c", [("a", 1.2), ("b", 1.0909), ("c", 1.2)]),
        ("(big (red:1.2) cat:1.5)", "big red cat", [("big", 1.5), ("red", 1.8), ("cat", 1.5)]),
        ("(re:zero)", "re:zero", [("re:zero", 1.1)]),
    ],
)
def test_brackets_weigh_what_is_inside_them(
    prompt: str, words: str, weights: list[tuple[str, float]]
) -> None:
    assert parse(prompt).text == words
    assert weights_of(prompt) == weights


@pytest.mark.parametrize(
    ("prompt", "weights"),
    [
        ("(cat:1.2.3)", [("cat", 1.1)]),
        ("(cat:1,2)", [("cat", 1.1)]),
        ("(cat:1. 2)", [("cat", 1.1)]),
        ("(cat:)", [("cat", 1.1)]),
        ("(cat):1.2", [("cat", 1.1)]),
        ("(cat:1.2, )", [("cat", 1.1)]),
        ("(cat:150)", []),
        ("(cat:" + "9" * 5000 + ")", []),
        ("(" * 3000 + "cat" + ")" * 3000, []),
        ("(" * 60 + "cat" + ")" * 60, []),
    ],
)
def test_a_slip_of_a_weight_is_no_words_and_never_an_absurd_weight(
    prompt: str, weights: list[tuple[str, float]]
) -> None:
    assert parse(prompt).text == "cat"
    assert weights_of(prompt) == weights


@pytest.mark.parametrize(
    ("prompt", "words", "weights"),
    [
        ("(cat, dog", "cat, dog", [("cat, dog", 1.1)]),
        ("[cat, dog", "cat, dog", [("cat, dog", 0.9091)]),
        ("(cat:1.2", "cat", [("cat", 1.2)]),
        ("cat), dog]}", "cat, dog", []),
        ("cat:1.2), dog", "cat, dog", []),
        ("(a [b) c], d", "a b c, d", [("a", 1.1)]),
        ("{a|b, c", "a, b, c", []),
        ("[a|b, c", "a, b, c", []),
        ("a smile :), b", "a smile, b", []),
        ("[):):5], b", "b", []),
        ("a, (b:", "a, b", [("b", 1.1)]),
    ],
)
def test_unbalanced_brackets_are_not_words_and_hold_as_far_as_they_can(
    prompt: str, words: str, weights: list[tuple[str, float]]
) -> None:
    assert parse(prompt).text == words
    assert weights_of(prompt) == weights


@pytest.mark.parametrize(
    ("prompt", "networks"),
    [
        ("<lora:add_detail:0.66>", [Network("lora", "add_detail", 0.66)]),
        ("<lora:more details:-1>", [Network("lora", "more details", -1)]),
        ("<lora:a>", [Network("lora", "a", 1)]),
        ("<lora:a:0.5:0.7>", [Network("lora", "a", 0.5)]),
        ("<lora:a:0.5:lbw=OUTALL:stop=20>", [Network("lora", "a", 0.5)]),
        ("<lora:a:te=0.4:unet=0.9>", [Network("lora", "a", 0.4)]),
        ("<lora:a:soon>", [Network("lora", "a", 1)]),
        ("<lora:a:1e9>", [Network("lora", "a", 1)]),
        ("<lora:a:99999>", [Network("lora", "a", 1)]),
        ("<LoRA:Name_v1.1:.5>", [Network("lora", "Name_v1.1", 0.5)]),
        ("<lora:a (b), c:1><lyco:d:1>", [Network("lora", "a (b), c"), Network("lyco", "d")]),
        ("<hypernet:h:0.3>", [Network("hypernet", "h", 0.3)]),
        ("<embedding:e> <ti:f:2>", [Network("embedding", "e"), Network("embedding", "f", 2)]),
        ("embedding:e", [Network("embedding", "e")]),
        ("embedding:e:1.1, ", [Network("embedding", "e", 1.1)]),
        ("(embedding:dir/e.pt:1.3)", [Network("embedding", "dir/e.pt", 1.3)]),
        ("<segment:face>", [Network("segment", "face")]),
        ("<lora::1>", []),
        ("<lora:>", []),
    ],
)
def test_networks_are_split_off(prompt: str, networks: list[Network]) -> None:
    parsed = parse(prompt)
    assert parsed.text == ""
    assert list(parsed.networks) == networks


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a cat<lora:x:1>dog", "a cat dog"),
        ("film <lora:x:1>,robot", "film, robot"),
        ("a cat <lora:x:1>.", "a cat."),
        ("<lora:torn:0.8, a cat", "a cat"),
        ("<cat-toy> on a <3 shelf", "<cat-toy> on a <3 shelf"),
        ("my_embedding:x", "my_embedding:x"),
    ],
)
def test_words_around_networks_stay_words(prompt: str, words: str) -> None:
    assert parse(prompt).text == words


def test_a_network_inside_a_weighted_piece_leaves_the_piece_whole() -> None:
    parsed = parse("(red <lora:x:0.5> cat:1.2)")
    assert parsed == ParsedPrompt(
        text="red cat",
        networks=(Network("lora", "x", 0.5),),
        weights=(Weighted("red cat", 1.2),),
    )


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a [cat:dog:0.5] here", "a dog here"),
        ("a [cat:0.5] here", "a cat here"),
        ("a [cat::0.5] here", "a here"),
        ("a [cat::5]", "a"),
        ("a [the [cat:dog:3]:a fox: 10 ]", "a a fox"),
        ("[(white background:1.2)::5], girl", "girl"),
        ("a [cat|horse] runs", "a cat, horse runs"),
        ("a [|fluffy] cat", "a fluffy cat"),
        ("a [fluffy|] cat", "a fluffy cat"),
        ("a [cat:dog]", "a cat:dog"),
        ("rating:safe, :3, word:1.2", "rating:safe, :3, word:1.2"),
        ("red|blue", "red|blue"),
        ("(masterpiece:1.2, best), (16:9, wide)", "masterpiece, best, 16:9, wide"),
        ("(warm):1.2, (sun):1.2 (sky):1.2", "warm, sun sky"),
    ],
)
def test_prompt_editing_keeps_the_words_in_force_at_the_last_step(prompt: str, words: str) -> None:
    assert parse(prompt).text == words


def test_editing_is_no_attention_but_keeps_the_attention_inside_it() -> None:
    assert weights_of("[(cat:1.3):(dog:1.4):0.5] [a|(b:1.2)]") == [("dog", 1.4), ("b", 1.2)]


def test_networks_in_words_edited_away_still_count() -> None:
    assert parse("[<lora:x:1>::0.5]").networks == (Network("lora", "x"),)


@pytest.mark.parametrize(
    ("prompt", "words", "wildcards"),
    [
        ("a {red|blue} cat", "a cat", ["{red|blue}"]),
        ("{2$$red|{blue|(green:1.2)}}, cat", "cat", ["{2$$red|{blue|(green:1.2)}}"]),
        ("{<lora:a:1>|b BREAK c} cat", "cat", ["{<lora:a:1>|b BREAK c}"]),
        ("a __colour__ cat", "a cat", ["__colour__"]),
        ("__hair color__, woman", "woman", ["__hair color__"]),
        ("o__o standing x__x", "o__o standing x__x", []),
        ("__a/b_c-d/*__, cat", "cat", ["__a/b_c-d/*__"]),
        ("<random:red,blue> cat", "cat", ["<random:red,blue>"]),
        ("looking_at_viewer, ^__^", "looking_at_viewer, ^__^", []),
    ],
)
def test_choices_and_wildcards_are_split_off(prompt: str, words: str, wildcards: list[str]) -> None:
    parsed = parse(prompt)
    assert parsed.text == words
    assert list(parsed.wildcards) == wildcards
    assert parsed.networks == ()
    assert parsed.weights == ()
    assert parsed.segments == 1


@pytest.mark.parametrize(
    ("prompt", "words", "segments"),
    [
        ("a cat BREAK a dog", "a cat, a dog", 2),
        ("a cat,\nBREAK,\na dog BREAK", "a cat, a dog", 3),
        ("a cat AND a dog", "a cat, a dog", 2),
        ("a cat :1.2 AND a dog :0.5 AND a fox:2", "a cat, a dog, a fox", 3),
        ("a (cat BREAK dog:1.2)", "a cat, dog", 2),
        ("break and Break, BREAKDANCE, BREAK-dance", "break and Break, BREAKDANCE, BREAK-dance", 1),
    ],
)
def test_break_and_and_separate_segments(prompt: str, words: str, segments: int) -> None:
    parsed = parse(prompt)
    assert parsed.text == words
    assert parsed.segments == segments
    assert all(" :" not in piece.text for piece in parsed.weights)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (r"spring \(season\)", "spring (season)"),
        (r"\[a\], \{b\}, c\_d", "[a], {b}, c_d"),
        (r"(bea \(pokemon\):1.2)", "bea (pokemon)"),
        (r"a \\ b", "a \\ b"),
        (r"\o/ \m/", r"\o/ \m/"),
        (r"\<lora:x:1>", "<lora:x:1>"),
        ("a\\", "a\\"),
    ],
)
def test_escaped_characters_are_words(prompt: str, words: str) -> None:
    assert parse(prompt).text == words


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", ""),
        (" , ,, ", ""),
        (",a,,b , c, ", "a, b, c"),
        ("a   b\t c\u3000d", "a b c d"),
        ("10,000 cats,dogs, 4k,8k", "10,000 cats, dogs, 4k, 8k"),
        ("a cat\na dog", "a cat, a dog"),
        ("a cat,\r\n\r\na dog.\nA fox", "a cat, a dog. A fox"),
        ("(a cat)\n, dog", "a cat, dog"),
        ("1 woman((happy))", "1 woman happy"),
        ("(a)(b)[c]d", "a b c d"),
        ("(star)-shaped, (cat)'s", "star-shaped, cat's"),
        ("Best Quality, BEST quality", "Best Quality, BEST quality"),
        ("“curly”, it’s — fine…", "“curly”, it’s — fine…"),
    ],
)
def test_commas_and_space_are_tidied_and_nothing_else(prompt: str, words: str) -> None:
    assert parse(prompt).text == words


SYNTAX = [
    *"()[]{}|:,.-\n ",
    "a",
    "b c",
    "1",
    "1.2",
    ":1.3",
    "AND",
    "BREAK",
    "é",
    "，",
    "<lora:x:1>",
]
SYNTAX += ["<ti:y>", "[a:b:0.5]", "{a|b}", "__w__", "(x:1.2)", " embedding:x ", "<lora:torn, "]
SOUP = st.lists(st.sampled_from(SYNTAX), max_size=30).map("".join)
HALVES = ["\\", "_", "__", "<", ">", "<lora:", "embedding:"]
HOSTILE_SOUP = st.lists(st.sampled_from([*SYNTAX, *HALVES])).map("".join)


@given(st.text() | HOSTILE_SOUP)
@example("\ud800(\x00:nan)")
def test_any_text_is_read_and_every_number_is_usable(text: str) -> None:
    parsed = parse(text)
    assert parsed.segments >= 1
    assert all(abs(piece.weight) <= 100 and piece.weight != 1 for piece in parsed.weights)
    assert all(abs(network.weight) <= 100 and network.name for network in parsed.networks)
    assert all(wildcard in text for wildcard in parsed.wildcards)
    assert all(piece.text for piece in parsed.weights)
    assert parsed.text == parsed.text.strip(" ,")
    assert not re.search(r"\n|  |,,", parsed.text)


@given(SOUP)
def test_words_read_again_are_words(text: str) -> None:
    words = parse(text).text
    assert not set(words) & set("()[]{}")
    assert parse(words) == ParsedPrompt(words)


@given(st.lists(st.sampled_from(["red cat", "dog", "8k", "Big"]), min_size=1))
def test_words_without_syntax_come_back_unchanged(phrases: list[str]) -> None:
    text = ", ".join(phrases)
    assert parse(text) == ParsedPrompt(text)


LONG = 200_000
"""Characters; twenty times as many as a prompt may have. What takes their square takes hours."""
PIECES = [*"([<{)|\\:_ ,\n1", "__", "<lora:", "<a:", "[a:b:", "{a|", "(a:1", "__a_", "__a ", "AND "]


@pytest.mark.timeout(60)  # a hang, not a slow machine, ends it
@pytest.mark.parametrize("piece", [*PIECES, "embedding:", "\\(", "(a)", "((a:1.1)", "([{"])
def test_a_long_text_of_anything_is_read_to_its_end(piece: str) -> None:
    parse(piece * (LONG // len(piece)))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("opening", "closing"), [("[a:", ":5]"), ("{a|", "}"), ("(a", ":1.1)")])
def test_a_long_text_of_nesting_is_read_to_its_end(opening: str, closing: str) -> None:
    depth = LONG // len(opening + closing)
    parse(opening * depth + "x" + closing * depth)


def test_no_syntax_is_left_in_real_prompts() -> None:
    for prompt in filter(None, real_prompts()):
        parsed = parse(prompt)
        assert not re.search(r"<\w+:|\bBREAK\b|__|[{}\[\]]|^,|,$|,,|  ", parsed.text)
        names = re.findall(r"[^\W_]_\([^(),:]*\)", prompt)
        assert parsed.text.count("(") == prompt.count(r"\(") + len(names)
        assert len(parsed.networks) == len(re.findall("<(?:lora|hypernet):", prompt))
        outside = re.sub(r"\([^()]*\)", "", prompt)
        assert set(re.findall(r":\d*\.\d+", parsed.text)) <= set(re.findall(r":\d*\.\d+", outside))


def test_every_word_of_real_prompts_is_kept_in_order() -> None:
    for prompt in filter(None, real_prompts()):
        if not re.search(r"[<\[|{]|BREAK|__", prompt):
            words = re.findall(r"[^\W\d_]+", prompt)
            assert re.findall(r"[^\W\d_]+", parse(prompt).text) == words


@pytest.mark.parametrize(
    ("generator", "prompt", "words", "weights"),
    [
        ("InvokeAI", "a (red cat)++ here", "a red cat here", [("red cat", 1.21)]),
        ("InvokeAI", "a cat++, dog-", "a cat, dog", [("cat", 1.21), ("dog", 0.9)]),
        ("InvokeAI", "(red cat)1.3, (dog)0.5", "red cat, dog", [("red cat", 1.3), ("dog", 0.5)]),
        ("InvokeAI", "a (cat) here", "a cat here", []),
        ("InvokeAI", "a (big (cat)+)--", "a big cat", [("big", 0.81), ("cat", 0.891)]),
        ("InvokeAI", "a well-lit (star)-shaped room", "a well-lit star-shaped room", []),
        ("InvokeAI", "a (cat).swap(dog) on a mat", "a dog on a mat", []),
        ("InvokeAI", 'a ("red cat").swap("dog", s_end=0.5) here', "a dog here", []),
        ("InvokeAI", "a cat.swap(dog) here", "a dog here", []),
        ("InvokeAI", '("a cat", "a dog").blend(1, 0.5)', "a cat, a dog", []),
        ("InvokeAI", '("a cat", "a (dog)+").and()', "a cat, a dog", [("dog", 1.1)]),
        ("NovelAI", "man, 1.3::laughing, loud::, hat", "man, laughing, loud, hat",
         [("laughing, loud", 1.3)]),
        ("NovelAI", "1.5::a cat 0.5::a dog:: a fox", "a cat a dog a fox",
         [("a cat", 1.5), ("a dog", 0.5)]),
        ("NovelAI", "-1::hat::, {{cat}}, [dog]", "hat, cat, dog",
         [("hat", -1.0), ("cat", 1.1025), ("dog", 0.9524)]),
        ("NovelAI", "miku (vocaloid), a :(", "miku (vocaloid), a", []),
        ("NovelAI", "a cat | a dog", "a cat, a dog", []),
        ("SwarmUI", "a <fromto[0.5]:cat,dog> here", "a dog here", []),
        ("SwarmUI", "a <alternate:cat,dog>, (sun:1.3)", "a cat, dog, sun", [("sun", 1.3)]),
        ("SwarmUI", "<setvar[pet]:cat> and a <var:pet><comment:no>", "cat and a cat", []),
        ("SwarmUI", "a cat <break> a dog <trigger>", "a cat, a dog", []),
        ("Midjourney", "https://x.example/a.png a cat::2 a dog::-0.5 --ar 3:2", "a cat, a dog", []),
    ],
)  # fmt: skip
def test_each_generator_has_its_own_syntax(
    generator: str, prompt: str, words: str, weights: list[tuple[str, float]]
) -> None:
    parsed = parse(prompt, generator)
    assert parsed.text == words
    assert [(piece.text, piece.weight) for piece in parsed.weights] == weights


@pytest.mark.parametrize(
    ("prompt", "words", "wildcards"),
    [
        ("a <random:red,blue> cat", "a cat", ["<random:red,blue>"]),
        ("a <random:red,<random:a,b>> cat", "a cat", ["<random:red,<random:a,b>>"]),
        ("a <wildcard:pets/small>", "a", ["<wildcard:pets/small>"]),
        ("a <fromto[0.5]:<random:a,b>,<random:c,d>> cat", "a cat", ["<random:c,d>"]),
    ],
)
def test_nested_tags_of_swarmui_are_templates(
    prompt: str, words: str, wildcards: list[str]
) -> None:
    parsed = parse(prompt, "SwarmUI")
    assert parsed.text == words
    assert list(parsed.wildcards) == wildcards
    assert parse("<lora:ink:0.6>", "SwarmUI").networks == (Network("lora", "ink", 0.6),)


@pytest.mark.parametrize(
    ("prompt", "words", "segments"),
    [
        ("a cat ADDCOMM a dog ADDCOL a fox ADDROW an owl", "a cat, a dog, a fox, an owl", 4),
        ("a cat AND_PERP a dog :0.5", "a cat, a dog", 2),
        ("ADDBASE a cat", "a cat", 2),
        ("ADDCOMMA addcol", "ADDCOMMA addcol", 1),
    ],
)
def test_regional_keywords_separate_segments(prompt: str, words: str, segments: int) -> None:
    parsed = parse(prompt)
    assert parsed.text == words
    assert parsed.segments == segments


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a cat --ar 16:9 --v 6.1", "a cat"),
        ("a cat --style raw --s 250 --no text, blur --q 2", "a cat"),
        ("a cat —ar 3:2 --niji 6 --tile", "a cat"),
        ("a cat --chaos 10 --sref https://x.example/a.png", "a cat"),
        ("a cat -- a dog, well--known --arbitrary", "a cat -- a dog, well--known --arbitrary"),
    ],
)
def test_flags_of_midjourney_are_no_words(prompt: str, words: str) -> None:
    assert parse(prompt).text == words


def test_variables_of_templates_are_split_off() -> None:
    parsed = parse("${pet={cat|dog}} a ${pet}, a ${colour=red} hat")
    assert parsed.text == "a, a hat"
    assert parsed.wildcards == ("${pet={cat|dog}}", "${pet}", "${colour=red}")


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("# what I wanted\na cat\n// later: a dog\nhat", "a cat, hat"),
        ("a /* red */ cat /* and", "a cat /* and"),
        ("#1 dad, c# note, https://x.example", "#1 dad, c# note, https://x.example"),
    ],
)
def test_comments_are_no_words(prompt: str, words: str) -> None:
    assert parse(prompt).text == words


@pytest.mark.parametrize(
    "prompt",
    [
        '{"scene": "a cat", "style": {"light": "(soft:1.2)"}}',
        '[{"subject": "a cat"}]',
        '{\n "scene": "a cat, [a hat]"\n}',
    ],
)
def test_a_prompt_that_is_json_stays_whole(prompt: str) -> None:
    assert parse(f" {prompt}\n") == ParsedPrompt(prompt)


@pytest.mark.parametrize("face", [":(", ";(", "=(", ":-(", ":[", ":{", ":'("])
def test_faces_are_no_brackets(face: str) -> None:
    parsed = parse(f"a cat, {face}, rain, night")
    assert parsed.text == "a cat, rain, night"
    assert parsed.weights == ()


def test_a_name_with_its_series_is_a_word() -> None:
    parsed = parse("saber_(fate), 1girl, (miku_(vocaloid):1.2), rain (heavy)")
    assert parsed.text == "saber_(fate), 1girl, miku_(vocaloid), rain heavy"
    assert parsed.weights == (Weighted("miku_(vocaloid)", 1.2), Weighted("heavy", 1.1))


OF_GENERATORS = [
    *'()[]{}<>|:+-"#/.=',
    "1.2::",
    "::",
    "(a)++",
    "a--",
    ").swap(",
    '("a", "b").blend(',
]
OF_GENERATORS += [
    "<random:",
    "<fromto[1]:a,",
    "<var:a>",
    "<setvar[a]:",
    "--no ",
    "--ar ",
    "||",
    "${",
]
OF_GENERATORS += ["/*", "*/", "_(a)", " :( ", "https://", '{"a": ', "ADDCOL ", "cat ", ", "]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", OF_GENERATORS)
@pytest.mark.parametrize("generator", [None, "InvokeAI", "NovelAI", "SwarmUI", "Midjourney"])
def test_no_generators_syntax_makes_a_prompt_slow(generator: str | None, piece: str) -> None:
    parse(piece * (200_000 // len(piece)), generator)


@given(
    st.lists(st.sampled_from(OF_GENERATORS)).map("".join),
    st.sampled_from(["InvokeAI", "NovelAI", "SwarmUI", "Midjourney", "Fooocus"]),
)
def test_any_generators_text_is_read_and_every_number_is_usable(text: str, generator: str) -> None:
    parsed = parse(text, generator)
    assert all(abs(piece.weight) <= 100 and piece.text for piece in parsed.weights)
    assert not set(parsed.text) & set("\ue000\ue001")
    assert all("\ue000" not in wildcard for wildcard in parsed.wildcards)
    assert parsed.text == parsed.text.strip(" ,") or parsed.text[:1] in "[{"
