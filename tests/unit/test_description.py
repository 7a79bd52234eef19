"""What a stranger's ``surd-dataset.json`` may say, and what becomes of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support_publish import make_workspace, samples

from surd.dataset.description import described
from surd.dataset.publish.card import card
from surd.dataset.publish.croissant import croissant
from surd.dataset.publish.provenance import how_made
from surd.dataset.publish.run import publish
from surd.recipe.publish import PublishParams
from surd.report.write import report
from surd.store.workspace import Workspace

SMALL = PublishParams(validation=0.2, test=0.2, row_group_rows=4)
ODD = (None, "x", "\udc80", -1, 1.5, 10**400, True, [], {}, [1], {"a": 1})


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """With a dataset."""
    found = make_workspace(tmp_path_factory.mktemp("w"), [samples(8)])
    publish(found, SMALL)
    return found


def description_of(workspace: Workspace) -> Path:
    return Path(workspace.location, "dataset", "surd-dataset.json")


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The keys that lead to whatever is in a document."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    for key in keys:
        yield (*above, key)
        yield from places(value[key], (*above, key))


def changed(said: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """Another value there; `places` itself: nothing."""
    said = copy.deepcopy(said)
    node: Any = said
    for key in place[:-1]:
        node = node[key]
    if value is places:
        del node[place[-1]]
    else:
        node[place[-1]] = value
    return said


def test_whatever_a_description_says_is_refused_or_can_be_told(workspace: Workspace) -> None:
    said = json.loads(description_of(workspace).read_bytes())
    made, refused = how_made(workspace), set()
    for place in places(said):
        for odd in (places, *ODD):
            content = json.dumps(changed(said, place, odd)).encode()
            try:
                found = described(content)
            except ValueError:
                refused.add(".".join(map(str, place)))
                continue
            card(found, made, SMALL).encode()
            croissant(found, made, SMALL).encode()
    assert {"statistics", "statistics.kept", "files.0.sha256", "statistics.reasons"} <= refused


def test_splits_are_those_of_the_files(workspace: Workspace) -> None:
    said = json.loads(description_of(workspace).read_bytes())
    found = described(json.dumps(said | {"splits": {"../evil": {"rows": "many"}}}).encode())
    assert found["splits"] == said["splits"]


@pytest.mark.parametrize("odd", [{}, {"kept": "many"}, None])
def test_a_description_with_odd_numbers_is_no_dataset_to_report_and_publish(
    tmp_path: Path, odd: Any
) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    publish(workspace, SMALL)
    file = description_of(workspace)
    said = json.loads(file.read_bytes())
    file.write_text(json.dumps(said | {"statistics": odd}))
    report(str(tmp_path))
    assert publish(workspace, SMALL).state == "written"
    assert json.loads(file.read_bytes()) == said
