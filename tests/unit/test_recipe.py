"""Recipes: what is right is taken, what is wrong is named in one line with its mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from surd.errors import RecipeError
from surd.params import Params
from surd.recipe.keys import Recipe
from surd.recipe.load import (
    find_recipe,
    load_recipe,
    override_recipe,
    replace_keys,
    shipped_recipes,
    stored_recipe,
    validate_recipe,
)
from surd.stages.filter.params import FilterParams

SHIPPED = ("civitai", "demo", "folder", "table")


def raw(**changed: Any) -> dict[str, Any]:
    return {"name": "x", "sources": [{"kind": "civitai"}], **changed}


def problems(**changed: Any) -> list[str]:
    """The lines said about a recipe, without the name of its file."""
    with pytest.raises(RecipeError) as caught:
        validate_recipe(raw(**changed), "r.yaml")
    lines = str(caught.value).split("\n")
    assert all(line.startswith("r.yaml: ") for line in lines)
    return [line.removeprefix("r.yaml: ") for line in lines]


def source_problems(**changed: Any) -> list[str]:
    return problems(sources=[{"kind": "civitai"}, changed])


def file(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "r.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(tmp_path: Path, content: str | bytes, *overrides: str) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe(file(tmp_path, content), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


MINIMAL = "name: x\nsources:\n  - kind: civitai\n  - {kind: folder, path: .}\n"


def loaded(tmp_path: Path, *overrides: str) -> Recipe:
    return load_recipe(file(tmp_path, MINIMAL), overrides)


# What null means

NULLABLE = [
    name
    for name, field in FilterParams.model_fields.items()
    if type(None) in get_args(field.annotation)
]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        *((f"filter.{name}={{}}", "; null switches it off") for name in NULLABLE),
        ("filter.clip_threshold=none", ", not 'none'; null switches it off"),
        ("filter.min_words=off", ", not False; null switches it off"),
        ("dedup.max_hamming=none", ", not 'none'; null switches it off"),
        ("dedup.max_hamming_with_cosine=x", ", not 'x'; null: CLIP alone decides"),
        ("download.host_patience_s=x", ", not 'x'; null: for ever"),
        ("sources.0.limit=x", ", not 'x'; null: all"),
        ("score.itm=3", ", not 3; or null"),
        ("filter.languages=[3]", ", not 3"),
        ("filter.nsfw_words=x", ", not 'x'"),
    ],
)
def test_a_refusal_says_what_null_means_where_it_is_taken(override: str, told: str) -> None:
    recipe = validate_recipe(raw(), "x")
    with pytest.raises(RecipeError) as refused:
        override_recipe(recipe, [override])
    assert str(refused.value).endswith(told)


# Unknown keys


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"part_sise": 5}, "part_sise: unknown key; did you mean part_size?"),
        ({"Name": "y"}, "Name: unknown key; did you mean name?"),
        ({"downloads": {}}, "downloads: unknown key; did you mean download?"),
        (
            {"download": {"max_byte": 5}},
            "download.max_byte: unknown key; did you mean max_bytes?",
        ),
        (
            {"download": {"resize": {"sise": 5}}},
            "download.resize.sise: unknown key; did you mean size?",
        ),
        ({"demo_site": {"prot": 5}}, "demo_site.prot: unknown key; did you mean port?"),
        ({"prompts": {"langauge": True}}, "prompts.langauge: unknown key; did you mean language?"),
    ],
)
def test_an_unknown_key_names_the_nearest(changed: dict[str, Any], line: str) -> None:
    assert problems(**changed) == [line]


def test_an_unknown_key_that_is_near_to_none_lists_those_there_are() -> None:
    (line,) = problems(download={"resize": {"qqqq": 1}})
    assert line == (
        "download.resize.qqqq: unknown key; known keys: mode, size, quality, format, upscale"
    )


def test_an_unknown_key_called_like_a_kind_of_source_keeps_its_name() -> None:
    (line,) = problems(download={"resize": {"folder": 1}})
    assert line.startswith("download.resize.folder: unknown key")


def test_a_key_that_was_removed_says_so_wherever_somebody_wrote_it(tmp_path: Path) -> None:
    line = (
        "train_adapter.distance: this key was removed, and surd now always behaves as with "
        '"kl"; delete it'
    )
    assert problems(train_adapter={"distance": "cosine"}) == [line]
    assert refusal(tmp_path, MINIMAL, "train_adapter.distance=kl") == f"--set: {line}"
    with pytest.raises(RecipeError, match="was removed"):
        replace_keys(loaded(tmp_path), "train_adapter", {"depth": 3})


def test_a_recipe_that_an_earlier_version_saved_is_read_and_what_is_gone_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = validate_recipe(raw(), "r.yaml")
    saved = recipe.model_dump(mode="json")
    saved["train_adapter"] |= {"depth": 2, "distance": "kl", "validation_clip": None}
    assert stored_recipe(saved, "surd.json") == recipe and caplog.text == ""
    saved["train_adapter"] |= {"depth": 3, "distance": "mse"}
    assert stored_recipe(saved, "surd.json") == recipe
    (told,) = caplog.messages
    assert told == (
        "surd.json: left out, since this version no longer has it: train_adapter.depth (3, now 2), "
        'train_adapter.distance ("mse", now "kl")'
    )
    saved["train_adapter"]["never"] = 1
    with pytest.raises(RecipeError, match=r"train_adapter\.never: unknown key"):
        stored_recipe(saved, "surd.json")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            {"kind": "civitai", "base_ulr": "http://x"},
            "sources[1].base_ulr: unknown key; did you mean base_url?",
        ),
        (
            {"kind": "folder", "path": ".", "limmit": 3},
            "sources[1].limmit: unknown key; did you mean limit?",
        ),
    ],
)
def test_an_unknown_key_of_a_source_names_the_nearest_of_its_kind(
    source: dict[str, Any], line: str
) -> None:
    assert source_problems(**source) == [line]


def test_a_key_of_another_kind_of_source_is_unknown() -> None:
    (line,) = source_problems(kind="folder", path=".", endpoint="images")
    assert line.startswith("sources[1].endpoint: unknown key; ")


# Sources


def test_a_misspelt_kind_names_the_nearest() -> None:
    (line,) = source_problems(kind="civitay")
    assert line == "sources[1].kind: unknown source civitay; did you mean civitai?"


def test_an_unheard_of_kind_lists_those_there_are() -> None:
    (line,) = source_problems(kind="qqqq")
    assert line.startswith("sources[1].kind: unknown source qqqq; known sources: civitai, lexica, ")


def test_a_source_without_kind_is_told_the_kinds() -> None:
    (line,) = source_problems(limit=3)
    assert line.startswith("sources[1].kind: missing; one of civitai, lexica, ")


@pytest.mark.parametrize("sources", [[], None, "civitai", {"kind": "civitai"}, ["civitai"]])
def test_sources_are_a_list_of_mappings(sources: Any) -> None:
    (line,) = problems(sources=sources)
    assert line.startswith("sources")


# Values


@pytest.mark.parametrize(
    ("changed", "where", "value"),
    [
        ({"part_size": 0}, "part_size", "0"),
        ({"part_size": 100_001}, "part_size", "100001"),
        ({"part_size": "many"}, "part_size", "'many'"),
        ({"part_size": 1.5}, "part_size", "1.5"),
        ({"name": 7}, "name", "7"),
        ({"download": {"concurrency": 0}}, "download.concurrency", "0"),
        ({"download": {"stall_timeout_s": -1}}, "download.stall_timeout_s", "-1"),
        ({"download": {"resize": {"size": 15}}}, "download.resize.size", "15"),
        ({"download": {"resize": {"quality": 101}}}, "download.resize.quality", "101"),
        ({"download": {"resize": {"format": "gif"}}}, "download.resize.format", "'gif'"),
        ({"download": {"resize": {"mode": "short"}}}, "download.resize.mode", "'short'"),
        ({"download": {"max_pixels": 10**12}}, "download.max_pixels", "1000000000000"),
        ({"demo_site": {"port": 65536}}, "demo_site.port", "65536"),
        ({"sources": [{"kind": "civitai", "limit": 0}]}, "sources[0].limit", "0"),
        ({"sources": [{"kind": "civitai", "page_size": 201}]}, "sources[0].page_size", "201"),
        (
            {"sources": [{"kind": "civitai", "endpoint": "posts"}]},
            "sources[0].endpoint",
            "'posts'",
        ),
        (
            {"sources": [{"kind": "civitai", "base_url": "ftp://x"}]},
            "sources[0].base_url",
            "'ftp://x'",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_place(
    changed: dict[str, Any], where: str, value: str
) -> None:
    (line,) = problems(**changed)
    assert line.startswith(f"{where}: ")
    assert line.partition("; null")[0].endswith(f", not {value}")


NUMBERS = [
    (section, key)
    for section, field in Recipe.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Params)
    for key, inner in field.annotation.model_fields.items()
    if type(inner.default) in (int, float)
]


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        *(({section: {key: True}}, f"{section}.{key}") for section, key in NUMBERS),
        ({"part_size": True}, "part_size"),
        ({"demo_site": {"port": False}}, "demo_site.port"),
        ({"dedup": {"min_cosine": True}}, "dedup.min_cosine"),
        ({"download": {"resize": {"size": True}}}, "download.resize.size"),
        ({"filter": {"clip_threshold": False}}, "filter.clip_threshold"),
        ({"embed_llm": {"layers": [-1, True]}}, "embed_llm.layers"),
        ({"sources": [{"kind": "civitai", "limit": True}]}, "sources[0].limit"),
        ({"sources": [{"kind": "civitai", "image_width": True}]}, "sources[0].image_width"),
    ],
)
def test_yes_and_no_are_no_numbers(changed: dict[str, Any], where: str) -> None:
    (line,) = problems(**changed)
    assert line.startswith(f"{where}: input should be a number")


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"download": {"allow_private_addresses": "maybe"}}, "download.allow_private_addresses"),
        ({"download": {"allow_private_addresses": ["10.x"]}}, "download.allow_private_addresses"),
        ({"sources": [{"kind": "civitai", "image_width": "wide"}]}, "sources[0].image_width"),
    ],
)
def test_a_value_of_none_of_several_types_is_named_by_its_key_alone(
    changed: dict[str, Any], where: str
) -> None:
    assert all(line.startswith(f"{where}: ") for line in problems(**changed))


def test_a_folder_of_a_model_is_the_same_with_a_slash_at_its_end(tmp_path: Path) -> None:
    for key in ("caption.model", "score.clip", "embed_llm.model", "train_adapter.diffusion"):
        stage, name = key.split(".")
        found = loaded(tmp_path, f"{key}=/models/sd/")
        assert getattr(getattr(found, stage), name) == "/models/sd"
    (line,) = problems(train_adapter={"llm": " "})
    assert line == "train_adapter.llm: name a hub id or a folder, not ' '"


def test_a_missing_name_is_named() -> None:
    with pytest.raises(RecipeError, match=r"^r\.yaml: name: field required$"):
        validate_recipe({"sources": [{"kind": "civitai"}]}, "r.yaml")


def test_several_problems_are_one_line_each() -> None:
    lines = problems(part_size=0, extra=1, download={"retries": -1, "resize": {"size": 1}})
    assert sorted(line.split(":")[0] for line in lines) == [
        "download.resize.size",
        "download.retries",
        "extra",
        "part_size",
    ]


@pytest.mark.parametrize("url", ["https://user:hunter2@civitai.com", "https://hunter2@civitai.com"])
def test_a_secret_in_a_recipe_is_refused_and_not_repeated(url: str) -> None:
    (line,) = problems(sources=[{"kind": "civitai", "base_url": url}])
    assert "CIVITAI_API_TOKEN" in line
    assert "hunter2" not in line


@pytest.mark.parametrize("key", [1, None, True, 1.5])
def test_a_key_that_is_no_text_is_refused_in_a_line(tmp_path: Path, key: object) -> None:
    text = "null" if key is None else str(key).lower()
    assert text in refusal(tmp_path, f"{MINIMAL}{text}: x\n").lower().replace("none", "null")


def test_keys_left_out_have_their_defaults() -> None:
    recipe = validate_recipe(raw(), "r.yaml")
    assert recipe.part_size == 1000
    assert recipe.download.respect_noai
    assert recipe.download.allow_private_addresses is False
    assert recipe.download.resize is None


def test_a_recipe_survives_being_saved_and_read_again() -> None:
    recipe = validate_recipe(raw(download={"resize": {"size": 64}}), "r.yaml")
    assert validate_recipe(recipe.model_dump(mode="json"), "surd.json") == recipe


# Files


def test_what_is_not_yaml_is_named_by_line_and_column(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: x\nsources: [\n  {kind: civitai\n")
    assert message.startswith(f"{tmp_path / 'r.yaml'}: not valid YAML: line 4, column 1: ")


def test_a_tab_is_named_by_line_and_column(tmp_path: Path) -> None:
    assert "line 2, column 1" in refusal(tmp_path, "sources:\n\t- kind: civitai\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "this is empty"),
        ("# only a comment\n", "this is empty"),
        ("- a\n- b\n", "this is a list"),
        ("just words", "this is a str"),
        ("42", "this is a int"),
        (b"name: caf\xe9\n", "not UTF-8 text (byte 9)"),
        (b"name: a\x00b\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
    ],
)
def test_a_file_that_is_no_recipe_says_what_it_is(
    tmp_path: Path, content: str | bytes, says: str
) -> None:
    message = refusal(tmp_path, content)
    assert message.startswith(f"{tmp_path / 'r.yaml'}: ")
    assert says in message


@pytest.mark.parametrize(
    "value",
    [
        '!!python/object/apply:os.system ["touch pwned"]',
        "!!python/object:surd.recipe.load.Recipe {}",
        "!!python/name:os.system",
        "!secret x",
    ],
)
def test_yaml_that_would_make_objects_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "not valid YAML: line 1, column 7: " in refusal(tmp_path, f"name: {value}\n")
    assert not (tmp_path / "pwned").exists()


def test_yaml_nested_without_end_is_refused(tmp_path: Path) -> None:
    assert "r.yaml" in refusal(tmp_path, "name: " + "[" * 5000)


def nine_times(inner: str, outer: str) -> str:
    """Anchors a0 to a9, each of nine times the one before it."""
    lines = [f"a0: &a0 {inner}"]
    lines += [f"a{n}: &a{n} {outer}" % ", ".join([f"*a{n - 1}"] * 9) for n in range(1, 10)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "head",
    [
        nine_times("[x, x, x]", "[%s]"),
        nine_times("{x: 1}", "{<<: [%s]}"),
        "a9: &a9 [*a9]",
        "a9: &a9 {b: *a9}",
    ],
)
@pytest.mark.parametrize("key", ["part_size", "description", "download"])
def test_aliases_that_expand_without_end_are_refused(tmp_path: Path, head: str, key: str) -> None:
    message = refusal(tmp_path, f"name: x\n{head}\n{key}: *a9\n")
    assert "r.yaml: not valid YAML: ValueError: aliases that expand" in message


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    assert load_recipe(file(tmp_path, b"\xef\xbb\xbf" + MINIMAL.encode())).name == "x"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"gone\.yaml: cannot be read: No such file"):
        load_recipe(tmp_path / "gone.yaml")
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipe(tmp_path)


# --set


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("part_size=7", ("part_size",), 7),
        ("name=a=b", ("name",), "a=b"),
        ("name='7'", ("name",), "7"),
        ("download.max_bytes=10", ("download", "max_bytes"), 10),
        ("download.resize.size=64", ("download", "resize", "size"), 64),
        ("download.resize={size: 64, mode: longer}", ("download", "resize", "mode"), "longer"),
        ("sources.0.limit=3", ("sources", 0, "limit"), 3),
        ("sources.1.path=/a b/c", ("sources", 1, "path"), "/a b/c"),
        ("sources.0.base_url=http://127.0.0.1:8000", ("sources", 0, "base_url"), None),
        ("sources.1={kind: civitai}", ("sources", 1, "kind"), "civitai"),
        ("sources=[{kind: civitai, limit: 2}]", ("sources", 0, "limit"), 2),
        ("download.allow_private_addresses=true", ("download", "allow_private_addresses"), True),
    ],
)
def test_set_replaces_any_key(
    tmp_path: Path, override: str, path: tuple[str | int, ...], value: object
) -> None:
    found: Any = loaded(tmp_path, override).model_dump()
    for key in path:
        found = found[key]
    assert found == ("http://127.0.0.1:8000" if value is None else value)


def test_later_overrides_win_and_build_on_earlier_ones(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, "download.resize.size=64", "download.resize.mode=longer", "name=z")
    assert recipe.download.resize is not None
    assert (recipe.download.resize.size, recipe.download.resize.mode) == (64, "longer")
    assert loaded(tmp_path, "name=a", "name=b").name == "b"


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("part_size", "expected KEY=VALUE"),
        ("=5", "expected KEY=VALUE"),
        ("", "expected KEY=VALUE"),
        ("sources.2.limit=3", "2 is not an index of a list of 2"),
        ("sources.2=3", "2 is not an index of a list of 2"),
        ("sources.-1.limit=3", "-1 is not an index of a list of 2"),
        ("sources.first.limit=3", "first is not an index of a list of 2"),
        ("sources.²=3", "² is not an index of a list of 2"),
        ("name.x=3", "name is a value and has no keys"),
        ("sources.0.kind.x.y=3", "kind is a value and has no keys"),
        ("part_size=[", "not a YAML value: line 1, column 2: "),
        ("name=!!python/name:os.system", "not a YAML value"),
    ],
)
def test_a_wrong_set_is_quoted_and_explained(tmp_path: Path, override: str, says: str) -> None:
    message = refusal(tmp_path, MINIMAL, override)
    assert message.startswith(f"--set {override}: ")
    assert says in message


def test_a_set_that_misspells_a_key_names_the_nearest(tmp_path: Path) -> None:
    assert "download.retrys: unknown key; did you mean retries?" in refusal(
        tmp_path, MINIMAL, "download.retrys=3"
    )


def test_a_recipe_in_hand_can_be_overridden_and_is_checked_again() -> None:
    recipe = validate_recipe(raw(), "r.yaml")
    assert override_recipe(recipe, []) is recipe
    assert override_recipe(recipe, ["download.retries=9"]).download.retries == 9
    with pytest.raises(RecipeError, match=r"^--set: part_size: .* not 0$"):
        override_recipe(recipe, ["part_size=0"])


# Shipped recipes


def test_these_recipes_come_with_surd() -> None:
    assert set(SHIPPED) <= set(shipped_recipes())


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_is_found_by_its_stem_and_validates(name: str) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    assert recipe.description


@pytest.mark.parametrize("name", sorted(set(shipped_recipes()) - {"demo"}))
def test_only_the_demo_may_fetch_from_this_machine(name: str) -> None:
    assert load_recipe(find_recipe(name)).download.allow_private_addresses is False


def test_the_civitai_recipe_can_be_pointed_at_any_server_like_it() -> None:
    recipe = load_recipe(
        find_recipe("civitai"),
        [
            "sources.0.base_url=http://127.0.0.1:8000",
            "sources.0.endpoint=models",
            "download.allow_private_addresses=true",
        ],
    )
    (source,) = recipe.model_dump()["sources"]
    assert (source["base_url"], source["endpoint"]) == ("http://127.0.0.1:8000", "models")
    assert recipe.download.allow_private_addresses is True


def test_a_recipe_is_found_by_its_path(tmp_path: Path) -> None:
    path = file(tmp_path, MINIMAL)
    assert find_recipe(str(path)) == path


def test_a_file_named_like_a_shipped_recipe_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text(MINIMAL)
    assert find_recipe("demo") == Path("demo")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("civitay", "did you mean civitai?"),
        ("demmo", "did you mean demo?"),
        ("qqqq", "shipped recipes: civitai, demo, "),
        ("nowhere/r.yaml", "neither a recipe file"),
        ("", "neither a recipe file"),
        ("x" * 5000, "neither a recipe file"),
    ],
)
def test_a_recipe_that_is_nowhere_names_the_nearest(name: str, says: str) -> None:
    with pytest.raises(RecipeError, match=r"neither a recipe file nor a shipped recipe") as caught:
        find_recipe(name)
    assert says in str(caught.value)


def test_the_precision_no_may_be_written_without_quotes(tmp_path: Path) -> None:
    """To YAML it is false."""
    path = tmp_path / "r.yaml"
    path.write_text("name: r\ndescription: d\nsources: [{kind: folder, path: .}]\n")
    recipe = load_recipe(path, ["train_adapter.precision=no"])
    assert recipe.train_adapter.precision == "no"
