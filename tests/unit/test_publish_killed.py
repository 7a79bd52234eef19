"""Publishing that is stopped at any moment: the next run makes what an undisturbed one makes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support_publish import dropped, files, make_workspace, remote_files, samples, write_group

from surd.dataset.atomic_folder import new_folder
from surd.dataset.publish.run import publish
from surd.errors import WorkspaceError
from surd.recipe.publish import PublishParams
from surd.store.storage import Storage
from surd.store.workspace import Workspace

SMALL = PublishParams(validation=0.2, test=0.2, row_group_rows=4)

KILLED = """
import sys
from pathlib import Path
import surd.store.storage, surd.dataset.atomic_folder
from surd.recipe.publish import PublishParams
from surd.dataset.publish.run import publish
from surd.store.workspace import Workspace

left = int(sys.argv[2])

def dying(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            import os
            os._exit(9)
        return function(*arguments, **named)
    return call

surd.store.storage.fsync = surd.dataset.atomic_folder.fsync = dying(surd.store.storage.fsync)
Path.rename, Path.replace = dying(Path.rename), dying(Path.replace)
params = PublishParams(validation=0.2, test=0.2, row_group_rows=4)
publish(Workspace(sys.argv[1]), params)
print(left)
"""


def publish_and_die(folder: Path, after: int) -> int:
    """Publish in a process that dies at a write to the disk; its exit code."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", KILLED, str(folder), str(after)]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return -int(done.stdout)
    return done.returncode


def subprocess_steps(workspace: Path, copy: Path) -> int:
    """How many writes to the disk there are to die at."""
    shutil.copytree(workspace, copy)
    return 10_000 + publish_and_die(copy, 10_000)


def is_complete(folder: Path) -> bool:
    said = json.loads((folder / "surd-dataset.json").read_bytes())
    names = {path.name for path in folder.glob("*.parquet")}
    return names == {file["name"] for file in said["files"]} and all(
        hashlib.sha256((folder / file["name"]).read_bytes()).hexdigest() == file["sha256"]
        for file in said["files"]
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("again", [False, True], ids=["first", "over an older one"])
def test_killed_at_any_moment_and_run_again_is_as_if_nothing_had_happened(
    tmp_path: Path, again: bool
) -> None:
    rows = [samples(12), samples(12, 12)]
    publish(make_workspace(tmp_path / "calm", rows), SMALL)
    expected = files(tmp_path / "calm" / "dataset")
    workspace = make_workspace(tmp_path / "w", [[*samples(11), dropped(11, "x")], rows[1]])
    if again:
        publish(workspace, SMALL)
        older = files(tmp_path / "w" / "dataset")
    write_group(workspace, "verdicts", 0, rows[0])
    steps = subprocess_steps(tmp_path / "w", tmp_path / "counted")
    for after in [*range(0, steps - 8, 20), *range(steps - 8, steps)]:  # dense at the renames
        folder = tmp_path / "killed"
        shutil.copytree(tmp_path / "w", folder)
        assert publish_and_die(folder, after) == 9
        dataset = folder / "dataset"
        if dataset.exists():
            assert is_complete(dataset)
            assert files(dataset) in ([expected, older] if again else [expected])
        publish(Workspace(folder), SMALL)
        assert files(dataset) == expected
        assert not [p.name for p in folder.iterdir() if p.name.startswith("dataset.")]
        shutil.rmtree(folder)


def test_a_description_of_files_elsewhere_moves_none(tmp_path: Path) -> None:
    folder, mine = tmp_path / "w", tmp_path / "mine.parquet"
    workspace = make_workspace(folder, [samples(8)])
    mine.write_bytes(b"mine")
    publish(workspace, SMALL)
    said = json.loads((folder / "dataset/surd-dataset.json").read_bytes())
    left = folder / new_folder(said["fingerprint"])
    shutil.copytree(folder / "dataset", left)
    older = said | {"fingerprint": "0" * 32}
    (folder / "dataset/surd-dataset.json").write_text(json.dumps(older))
    said["files"][0] |= {"written_as": "evil.parquet", "name": "../../mine.parquet"}
    (left / "surd-dataset.json").write_text(json.dumps(said))
    (left / "evil.parquet").write_bytes(b"evil")
    assert publish(workspace, SMALL).state == "written"
    assert mine.read_bytes() == b"mine" and is_complete(folder / "dataset")


class Killed(BaseException):
    """As Ctrl-C: nothing catches it."""


def test_stopped_between_the_renames_the_next_run_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, [samples(8)])
    publish(workspace, SMALL)
    write_group(workspace, "verdicts", 0, [*samples(7), dropped(7, "small")])
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if path.name.startswith("dataset.tmp-"):
            raise Killed
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", failing)
        with pytest.raises(Killed):
            publish(workspace, SMALL)
    assert not (tmp_path / "dataset").exists()
    assert publish(workspace, SMALL).state == "fresh"
    assert sum(publish(workspace, SMALL).splits.values()) == 7
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("dataset")] == ["dataset"]


def test_stopped_while_writing_the_older_dataset_stays(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(8), samples(8, 8)])
    publish(workspace, SMALL)
    before = files(tmp_path / "dataset")
    write_group(workspace, "verdicts", 0, [*samples(7), dropped(7, "small")])

    def stop(counts: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        publish(workspace, SMALL, stop)
    assert files(tmp_path / "dataset") == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("dataset")) == ["dataset"]


# remote ------------------------------------------------------------------------------------------


def test_a_remote_dataset_stopped_while_it_moves_is_finished_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [samples(12), samples(12, 12)]
    publish(make_workspace(tmp_path, rows), SMALL)
    expected = files(tmp_path / "dataset")
    for moves in range(1, 20, 3):
        workspace = make_workspace(
            f"memory://{tmp_path}/{moves}", [[*samples(11), dropped(11, "x")], rows[1]]
        )
        publish(workspace, SMALL)
        write_group(workspace, "verdicts", 0, rows[0])
        _stop_after(monkeypatch, moves, workspace)
        said = json.loads(remote_files(workspace)["surd-dataset.json"])
        assert said["complete"] is (remote_files(workspace) == expected)
        publish(workspace, SMALL)
        assert remote_files(workspace) == expected
        assert not [name for name in workspace.storage.names("") if name.startswith("dataset.")]


def _stop_after(monkeypatch: pytest.MonkeyPatch, moves: int, workspace: Workspace) -> None:
    rename, left = Storage.rename, [moves]

    def failing(storage: Storage, name: str, new_name: str) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        rename(storage, name, new_name)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "rename", failing)
        try:
            publish(workspace, SMALL)
        except Killed:
            return


def test_a_disk_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = make_workspace(tmp_path, [samples(4)])

    def failing(path: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(WorkspaceError, match="No space left on device") as error:
        publish(workspace, SMALL)
    assert "\n" not in str(error.value)
