"""What a person set in a workspace stays set, whatever recipe is given again."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Ran
from support import digests, jpeg, pictures
from support_faults import small_settings

from surd import progress
from surd.cli.recipes import own_or_given
from surd.demo.site import Site
from surd.recipe.load import Difference, differences, find_recipe, load_recipe, override_recipe

Surd = Callable[..., Ran]


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine too, stderr has no lines of progress."""
    monkeypatch.setattr(progress, "_LINE_EVERY_S", math.inf)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site(pictures(12)) as running:
        yield running


def saved(folder: Path) -> Any:
    """The recipe that a workspace has."""
    return json.loads((folder / "surd.json").read_text(encoding="utf-8"))["recipe"]


def recipe_file(path: Path, site: Site, **changes: Any) -> Path:
    """A recipe of a person's own, that collects and downloads."""
    content = {
        "name": "mine",
        "sources": [{"kind": "civitai", "base_url": site.url, "requests_per_s": 1000}],
        "download": {"allow_private_addresses": True, "retries": 0},
        "until": "prompts",
        **changes,
    }
    path.write_text(yaml.safe_dump(content))
    return path


# A recipe given again


def test_a_recipe_given_again_leaves_what_was_set_and_lists_the_differences(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    recipe, folder = recipe_file(tmp_path / "mine.yaml", site), tmp_path / "w"
    build = ("build", recipe, "-o", folder, "--set", "download.resize.size=24")
    assert surd(*build).err == ""
    surd("prompts", folder, "--set", "prompts.max_chars=7")
    before = digests(folder)
    again = surd(*build)
    assert again.code == 0
    assert saved(folder)["prompts"]["max_chars"] == 7
    assert digests(folder) == before, "and so nothing is computed again"
    told = again.err.splitlines()
    assert told[0] == f"surd: {folder} keeps its own settings where {recipe} differs:"
    assert told[1].startswith("  prompts.max_chars: 7, not ")
    assert told[2].startswith(
        "to use all of the recipe's: --replace; to use just one: --set prompts.max"
    )
    assert told[-1].endswith("as listed above; to use the recipe's, add --replace")


def test_the_same_command_again_differs_in_nothing(surd: Surd, tmp_path: Path, site: Site) -> None:
    build = ("build", "civitai", "-o", tmp_path, *small_settings(site, until="download"))
    surd(*build)
    assert surd(*build).err == ""


def test_an_edited_recipe_is_told_and_taken_with_replace(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    recipe, folder = recipe_file(tmp_path / "mine.yaml", site), tmp_path / "w"
    surd("build", recipe, "-o", folder)
    surd("prompts", folder, "--set", "prompts.max_chars=9")
    recipe_file(recipe, site, description="edited")
    for quietly in ([], ["--quiet"], ["--json"], ["--plan"], ["--plan", "--json"]):
        told = surd("build", recipe, "-o", folder, *quietly).err
        assert '  description: "", not "edited"\n' in told, quietly
        assert saved(folder)["description"] == ""
    taken = surd("build", recipe, "-o", folder, "--replace")
    assert taken.err == ""
    assert saved(folder)["description"] == "edited"
    assert saved(folder)["prompts"]["max_chars"] != 9


def test_the_key_that_is_told_to_set_is_taken_alone(surd: Surd, tmp_path: Path, site: Site) -> None:
    recipe, folder = recipe_file(tmp_path / "mine.yaml", site), tmp_path / "w"
    surd("build", recipe, "-o", folder)
    recipe_file(recipe, site, description="it's edited: null", name="yours, and longer than it")
    told = surd("build", recipe, "-o", folder).err
    (line,) = [line for line in told.splitlines() if line.startswith("to use all")]
    option = shlex.split(line.partition("just one: ")[2])
    assert surd("build", recipe, "-o", folder, *option).code == 0
    assert (saved(folder)["name"], saved(folder)["description"]) == ("mine", "it's edited: null")


def test_a_plan_speaks_of_the_recipe_that_a_build_would_take(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    recipe, folder = recipe_file(tmp_path / "mine.yaml", site), tmp_path / "w"
    surd("build", recipe, "-o", folder, "--set", "prompts.max_chars=9")
    plan = ("build", recipe, "-o", folder, "--plan", "--json")
    assert surd(*plan).json["recipe"] == saved(folder)
    assert surd(*plan, "--replace").json["recipe"]["prompts"]["max_chars"] != 9
    assert saved(folder)["prompts"]["max_chars"] == 9


def test_what_is_set_on_the_command_line_counts_and_stays(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    recipe, folder = recipe_file(tmp_path / "mine.yaml", site), tmp_path / "w"
    surd("build", recipe, "-o", folder, "--set", "sources.0.limit=5")
    assert surd("build", recipe, "-o", folder, "--set", "sources.0.limit=8").err == ""
    surd("build", recipe, "-o", folder)
    assert saved(folder)["sources"][0]["limit"] == 8
    assert surd("status", folder, "--json").json["groups"]["samples"]["rows"] == 8


def test_a_setting_that_only_the_other_recipe_could_have_names_the_way_to_take_it(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    folder = tmp_path / "w"
    surd("build", recipe_file(tmp_path / "mine.yaml", site), "-o", folder)
    ran = surd("build", "table", "-o", folder, "--set", "sources.0.path=pairs.csv")
    assert ran.code == 2
    assert "sources[0].path: unknown key" in ran.err
    assert ran.err.endswith("to use the other recipe: --replace\n")


# The README's sequence, up to what needs no other model


def test_filters_and_what_is_published_stay_as_they_were_set(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    folder = tmp_path / "w"
    build = ("build", "civitai", "-o", folder, *small_settings(site))
    licence = ("--set", "publish.licence=cc-by-4.0")
    for _ in range(2):
        assert surd(*build).code == 0
        assert surd("filter", folder, "--clip-threshold", "-0.5", "--min-side", "2").code == 0
        assert surd("publish", folder, *licence).code == 0
    before = digests(folder)
    assert saved(folder)["filter"]["clip_threshold"] == -0.5
    again = surd("build", "civitai", "-o", folder)
    assert again.code == 0
    assert "  filter.min_side: 2, not " in again.err
    assert '  caption.model: "demo:captioner", not "Salesforce/' in again.err
    assert saved(folder)["publish"]["licence"] == "cc-by-4.0"
    assert digests(folder) == before


# Without a recipe


def test_without_a_recipe_a_workspace_goes_on_with_its_own(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    folder = tmp_path / "w"
    surd("build", recipe_file(tmp_path / "mine.yaml", site), "-o", folder)
    before = saved(folder), digests(folder)
    (folder / "prompts" / "part-00000.parquet").unlink()
    ran = surd("build", "-o", folder)
    assert ran.code == 0
    assert f"no recipe given: {folder} uses its own, mine" in ran.out
    assert (saved(folder), digests(folder)) == before
    assert surd("build", "-o", folder, "--plan").out.startswith("no recipe given")


def test_without_a_recipe_the_demo_is_built_only_where_nothing_is_yet(
    surd: Surd, tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "w"
    surd("build", recipe_file(tmp_path / "mine.yaml", site), "-o", folder)
    (folder / "surd.json").unlink()
    before = digests(folder)
    ran = surd("build", "-o", folder)
    assert ran.code == 2
    assert ran.err.endswith(f"name the recipe they came from: surd build RECIPE -o {folder}\n")
    assert digests(folder) == before
    monkeypatch.chdir(tmp_path)
    assert "building the demo into surd-demo" in surd("build", "--plan").out


def test_replace_needs_to_know_by_what(surd: Surd, tmp_path: Path) -> None:
    ran = surd("build", "-o", tmp_path / "w", "--replace")
    assert (ran.code, len(ran.err.splitlines())) == (2, 1)
    assert f"surd build RECIPE -o {tmp_path / 'w'} --replace" in ran.err


# Sources that are added


@pytest.fixture
def pictures_of(tmp_path: Path) -> Callable[[str, int], Path]:
    def make(name: str, seed: int) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "one.jpg").write_bytes(jpeg(seed))
        (folder / "one.txt").write_text(f"a thing of {name}")
        return folder

    return make


def test_an_import_adds_its_source_and_leaves_what_was_set(
    surd: Surd, tmp_path: Path, pictures_of: Callable[[str, int], Path]
) -> None:
    folder, first, second = tmp_path / "w", pictures_of("first", 1), pictures_of("second", 2)
    limit = ("--set", "sources.0.limit=1", "--set", "prompts.max_chars=500")
    assert surd("import", "folder", first, "-o", folder, "--name", "mine", *limit).err == ""
    ran = surd("import", "folder", second, "-o", folder, "--set", "sources.0.licence=cc0")
    assert ran.code == 0, ran.err
    assert "  prompts.max_chars: 500, not " in ran.err
    recipe = saved(folder)
    assert (recipe["name"], recipe["prompts"]["max_chars"]) == ("mine", 500)
    kept = [(one["path"], one["limit"], one["licence"]) for one in recipe["sources"]]
    assert kept == [(str(first), 1, None), (str(second), None, "cc0")]
    assert surd("status", folder, "--json").json["groups"]["samples"]["rows"] == 2


def test_a_source_that_is_imported_again_is_not_added_again(
    surd: Surd, tmp_path: Path, pictures_of: Callable[[str, int], Path]
) -> None:
    folder, first, second = tmp_path / "w", pictures_of("first", 1), pictures_of("second", 2)
    surd("import", "folder", first, "-o", folder)
    surd("import", "folder", second, "-o", folder, "--set", "sources.0.limit=5")
    told = surd("import", "folder", second, "-o", folder).err
    assert "  sources.1.limit: 5, not null\n" in told
    surd("import", "folder", second, "-o", folder, "--set", "sources.0.limit=6", "--name", "new")
    recipe = saved(folder)
    assert [one["limit"] for one in recipe["sources"]] == [None, 6]
    assert recipe["name"] == "new"


def test_an_import_with_replace_takes_its_recipe_alone(
    surd: Surd, tmp_path: Path, pictures_of: Callable[[str, int], Path]
) -> None:
    folder, first, second = tmp_path / "w", pictures_of("first", 1), pictures_of("second", 2)
    surd("import", "folder", first, "-o", folder, "--set", "prompts.max_chars=500")
    assert surd("import", "folder", second, "-o", folder, "--replace").err == ""
    assert [one["path"] for one in saved(folder)["sources"]] == [str(second)]
    assert saved(folder)["prompts"]["max_chars"] != 500
    assert surd("status", folder, "--json").json["groups"]["samples"]["rows"] == 2


def test_collecting_by_another_recipe_adds_its_sources(
    surd: Surd, tmp_path: Path, site: Site, pictures_of: Callable[[str, int], Path]
) -> None:
    folder, other = tmp_path / "w", pictures_of("other", 77)
    surd("build", recipe_file(tmp_path / "mine.yaml", site), "-o", folder)
    path = ("--set", f"sources.0.path={other}")
    ran = surd("collect", folder, "--recipe", "folder", *path)
    assert ran.code == 0, ran.err
    assert f"to use all of the recipe's: surd build folder -o {folder} --replace" in ran.err
    assert [one["kind"] for one in saved(folder)["sources"]] == ["civitai", "folder"]
    assert saved(folder)["until"] == "prompts"
    assert surd("status", folder, "--json").json["groups"]["samples"]["rows"] == 13


# A first build that fails


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a file"])
def test_a_first_build_that_fails_leaves_what_was_there_before(
    surd: Surd, tmp_path: Path, before: str
) -> None:
    folder = tmp_path / "a" / "w"
    if before != "nothing":
        folder.mkdir(parents=True)
    if before == "a file":
        (folder / "notes.txt").write_text("mine")
    dead = ("--set", "sources.0.base_url=http://127.0.0.1:9", "--set", "sources.0.retries=0")
    assert surd("build", "civitai", "-o", folder, *dead).code == 2
    left = {path.name for path in tmp_path.rglob("*")} - {".surd.lock"}
    there = {"nothing": set(), "an empty folder": {"a", "w"}, "a file": {"a", "w", "notes.txt"}}
    assert left == there[before]
    assert before != "nothing" or not (tmp_path / "a").exists()


def test_what_a_failed_first_build_was_told_is_forgotten(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    wrong = recipe_file(tmp_path / "mine.yaml", site, sources=[{"kind": "folder", "path": "gone"}])
    assert surd("build", wrong, "-o", tmp_path / "w").code == 2
    right = surd("build", recipe_file(wrong, site), "-o", tmp_path / "w")
    assert (right.code, right.err) == (0, "")


def test_a_later_build_that_fails_leaves_the_workspace(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    folder = tmp_path / "w"
    surd("build", recipe_file(tmp_path / "mine.yaml", site), "-o", folder)
    before = digests(folder)
    gone = ("--until", "caption", "--set", "caption.model=./no-such-model")
    assert surd("build", "-o", folder, *gone).code == 2
    assert digests(folder) == before
    assert saved(folder)["name"] == "mine"


def test_a_manifest_that_a_kill_kept_from_its_name_is_removed(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    folder = tmp_path / "w"
    surd("build", recipe_file(tmp_path / "mine.yaml", site), "-o", folder)
    (folder / ".surd.json.0123abcd.tmp").write_text("{")
    surd("build", "-o", folder)
    assert not list(folder.glob("*.tmp"))


# Recipes side by side


def test_differences_are_named_as_set_names_them() -> None:
    ours = load_recipe(find_recipe("surd"))
    changed = ["sources.1.queries=[a]", "download.resize.size=64", "filter.max_nsfw=null"]
    theirs = override_recipe(ours, changed)
    found = {one.key: one for one in differences(ours, theirs)}
    assert found.keys() == {"sources.1.queries", "download.resize", "filter.max_nsfw"}
    assert found["filter.max_nsfw"] == Difference("filter.max_nsfw", 0.3, None)
    back = [f"{one.key}={json.dumps(one.ours)}" for one in found.values()]
    assert override_recipe(theirs, back) == ours
    assert differences(ours, ours) == []


def test_sources_of_another_kind_or_number_differ_as_a_whole() -> None:
    civitai, table, surd = (load_recipe(find_recipe(name)) for name in ("civitai", "table", "surd"))
    assert {"sources.0"} == {d.key for d in differences(civitai, table) if "sources" in d.key}
    assert {"sources"} == {d.key for d in differences(civitai, surd) if "sources" in d.key}


def test_a_recipe_that_this_version_refuses_is_replaced(surd: Surd, tmp_path: Path) -> None:
    raw = load_recipe(find_recipe("civitai")).model_dump(mode="json") | {"gone_since": 1}
    content = {"format_version": 1, "recipe": raw}
    (tmp_path / "surd.json").write_text(json.dumps(content))
    ran = surd("build", "civitai", "-o", tmp_path)
    assert ran.code == 2
    assert "gone_since: unknown key" in ran.err
    assert f"surd build RECIPE -o {tmp_path} --replace" in ran.err
    taken, differing = own_or_given(str(tmp_path), "civitai", [], replace=True)
    assert (taken.name, differing) == ("civitai", 0)


def test_a_setting_with_which_no_model_could_be_loaded_does_not_stay(
    surd: Surd, tmp_path: Path, site: Site
) -> None:
    folder = tmp_path / "w"
    assert surd("build", recipe_file(tmp_path / "mine.yaml", site), "-o", folder).code == 0
    surd("caption", folder, "--set", "caption.model=demo:captioner")
    before = saved(folder)
    ran = surd(
        "caption", folder, "--set", "caption.model=/no/such", "--set", "caption.candidates=2"
    )
    assert ran.code == 2 and "/no/such" in ran.err
    assert saved(folder) == before
    assert surd("caption", folder).code == 0


def test_a_mistyped_folder_does_not_become_a_demo(surd: Surd, tmp_path: Path) -> None:
    ran = surd("build", "-o", tmp_path / "my-dta")
    assert ran.code == 2 and "not a surd workspace; name a recipe to make one" in ran.err
    assert not (tmp_path / "my-dta").exists()
