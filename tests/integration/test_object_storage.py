"""Workspaces on object storage: an S3 on loopback, without renames, without locks."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import jpeg
from support_processes import name_of_one_that_ended
from support_s3 import KEY, SECRET, environment, line_to, objects

from surd.engine.plan import plan
from surd.engine.select import LocalEngine
from surd.engine.stages import run_stage
from surd.errors import WorkspaceError
from surd.recipe.pipeline import stage_named
from surd.stages.collect import _Filler
from surd.stages.prompts import PromptsParams
from surd.store import lease
from surd.store.lease import LostLeaseError
from surd.store.processes import own_name
from surd.store.storage import Storage
from surd.store.workspace import Workspace

pytest.importorskip("s3fs", reason="s3fs is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed")

Surd = Callable[..., Any]
BUCKET = "bucket"

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host.replace('0.0.0.0', '127.0.0.1')}:{port}"
    server.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of the server; surd uses it too, for what the environment says."""
    import boto3
    import s3fs

    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(lease, "SETTLES_S", 0.05)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    yield client
    for key in objects(client, BUCKET, ""):
        client.delete_object(Bucket=BUCKET, Key=key)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:03}.jpg").write_bytes(jpeg(number))
        (folder / f"{number:03}.txt").write_text(f"masterpiece, thing {number}, (red:1.2)")
    return folder


def command(images: Path, folder: str) -> list[str]:
    settings = [f"sources.0.path={images}", "part_size=10", "until=prompts"]
    overrides = [argument for value in settings for argument in ("--set", value)]
    return ["build", "folder", "-o", folder, "-q", *overrides]


def test_an_upload_that_is_killed_leaves_nothing_and_the_next_run_goes_on(
    s3: Any, server: str, surd: Surd, images: Path, tmp_path: Path
) -> None:
    assert surd(*command(images, str(tmp_path / "local"))).code == 0
    with line_to(server) as line:
        line.begins = f"PUT /{BUCKET}/w/images/part-00001.parquet".encode()
        process = subprocess.Popen(
            [sys.executable, "-m", "surd", *command(images, f"s3://{BUCKET}/w")],
            env=os.environ | environment(line.url),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        held = line.held.wait(60)
        process.kill()
        _, err = process.communicate()
    assert held, err
    assert process.returncode == -signal.SIGKILL
    left = objects(s3, BUCKET, "w/")
    assert "images/part-00000.parquet" in left
    assert "images/part-00001.parquet" not in left
    assert not any("tmp" in name for name in left)

    ran = surd(*command(images, f"s3://{BUCKET}/w"), "--json")
    assert ran.code == 0, ran.err
    stages = {stage["stage"]: stage for stage in ran.json["stages"]}
    assert (stages["download"]["computed"], stages["download"]["fresh"]) == (3, 1)
    remote = objects(s3, BUCKET, "w/")
    for path in (tmp_path / "local").rglob("*.parquet"):
        assert remote[str(path.relative_to(tmp_path / "local"))] == path.read_bytes()
    assert ".surd.lock" not in remote


def test_what_a_killed_run_left_on_this_disk_is_removed(
    s3: Any, surd: Surd, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tempfile

    ended, elsewhere = name_of_one_that_ended(), "0123456789ab.1.1"
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = (ended, own_name(), elsewhere)
    left, ours, theirs = (tmp_path / f"surd-{name}-abc-part-00000.parquet" for name in names)
    for path in (left, ours, theirs):
        path.touch()
    assert surd(*command(images, f"s3://{BUCKET}/w")).code == 0
    assert not left.exists() and ours.exists(), "we still run"
    assert theirs.exists(), "whether a process of another machine runs cannot be seen from here"


def test_the_whole_demo_lives_on_s3(s3: Any, surd: Surd, tmp_path: Path, one_thread: None) -> None:
    folder = f"s3://{BUCKET}/demo"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        unused_port = probe.getsockname()[1]
    settings = {
        "demo_site.pictures": 60,
        "demo_site.port": unused_port,
        "sources.0.base_url": f"http://127.0.0.1:{unused_port}",
        "part_size": 30,
    }
    overrides = [a for key, value in settings.items() for a in ("--set", f"{key}={value}")]
    built = surd("build", "demo", "-o", folder, "--until", "publish", "--json", *overrides)
    assert built.code == 0, built.err
    published = built.json["stages"][-1]["rows"]
    assert published > 0

    groups = surd("status", folder, "--json").json["groups"]
    states = [group["states"] for name, group in groups.items() if name != "samples"]
    assert all(set(state) == {"fresh"} for state in states), states

    filtered = surd("filter", folder, "--min-side", 100_000, "--json")
    assert (filtered.code, filtered.json["kept"]) == (0, 0)
    assert surd("filter", folder, "--min-side", 1, "--json").json["kept"] == published
    again = surd("publish", folder, "--json")
    assert again.json["stages"][0]["rows"] == published
    names = set(objects(s3, BUCKET, "demo/dataset"))
    assert {"/README.md", "/croissant.json", "/surd-dataset.json"} <= names
    assert not any("tmp-" in name for name in names)

    found = surd("inspect", folder, "--limit", 1, "--json")
    assert found.code == 0, found.err
    exported = surd("export", folder, "csv", "-o", tmp_path / "csv", "--json")
    assert sum(exported.json["splits"].values()) == published


def test_secrets_are_in_no_object_and_in_no_output(s3: Any, surd: Surd, images: Path) -> None:
    ran = surd(*command(images, f"s3://{BUCKET}/w"))
    told = (ran.out + ran.err).encode()
    for content in [told, *objects(s3, BUCKET, "w/").values()]:
        assert SECRET.encode() not in content and KEY.encode() not in content


def test_a_workspace_sees_what_another_process_has_written(s3: Any) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    assert not workspace.has_manifest() and workspace.parts("samples") == []
    s3.put_object(Bucket=BUCKET, Key="w/surd.json", Body=b"{}")
    s3.put_object(Bucket=BUCKET, Key="w/samples/part-00003.parquet", Body=b"")
    assert workspace.has_manifest() and workspace.parts("samples") == [3]
    s3.delete_object(Bucket=BUCKET, Key="w/samples/part-00003.parquet")
    assert workspace.parts("samples") == []


def test_a_file_beyond_one_request_goes_in_several_and_appears_at_once(s3: Any) -> None:
    storage = Workspace(f"s3://{BUCKET}/w").storage
    content = os.urandom(2**20) * 101  # s3fs sends 50 MiB at a time, or all of twice as much
    storage.write_bytes("big", content)
    assert s3.head_object(Bucket=BUCKET, Key="w/big")["ETag"].endswith('-3"')
    assert storage.read_bytes("big") == content


# One writer at a time

HOLD = """
import sys, time
from surd.store.workspace import Workspace
with Workspace(sys.argv[1]).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_until_the_first_is_gone(
    s3: Any, surd: Surd, images: Path
) -> None:
    folder = f"s3://{BUCKET}/w"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE)
    assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
    refused = surd(*command(images, folder))
    holder.kill()
    holder.communicate()
    assert refused.code == 2
    assert f"another surd process is writing here (pid {holder.pid} on" in refused.err
    assert surd(*command(images, folder)).code == 0, "a killed holder on this machine is known dead"


def test_a_lease_of_another_machine_holds_until_it_runs_out(s3: Any) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    body = '{{"host": "elsewhere", "pid": 1, "token": "x", "until": {}}}'
    for left_s, holds in ((100, True), (-1, False)):
        text = body.format(time.time() + left_s)
        s3.put_object(Bucket=BUCKET, Key="w/.surd.lock", Body=text.encode())
        if holds:
            with pytest.raises(WorkspaceError, match="pid 1 on elsewhere"), workspace.locked():
                pass
            continue
        with workspace.locked():
            assert b"elsewhere" not in objects(s3, BUCKET, "w/")[".surd.lock"]


def test_of_two_that_begin_at_once_the_one_that_wrote_last_goes_on(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    theirs = f'{{"host": "elsewhere", "pid": 1, "token": "x", "until": {time.time() + 100}}}'

    def meanwhile(_: float) -> None:
        s3.put_object(Bucket=BUCKET, Key="w/.surd.lock", Body=theirs.encode())

    monkeypatch.setattr(lease.time, "sleep", meanwhile)
    with pytest.raises(WorkspaceError, match="elsewhere"), workspace.locked():
        pass
    assert objects(s3, BUCKET, "w/")[".surd.lock"] == theirs.encode()


def lease_of_another(**changes: Any) -> bytes:
    """What a process on another machine has written, this minute."""
    holder = {"host": "elsewhere", "pid": 1, "token": "x", "until": time.time() + 100}
    return json.dumps(holder | changes).encode()


LOCK = {"Bucket": BUCKET, "Key": "w/.surd.lock"}
TAKEN = r"s3://bucket/w: another surd process has taken over here \(by pid 1 on elsewhere\)"


def test_a_holder_that_lost_its_lease_while_asleep_changes_nothing_any_more(s3: Any) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    storage = workspace.storage
    with workspace.locked():
        storage.write_bytes("samples/a", b"ours")
        s3.put_object(**LOCK, Body=lease_of_another())
        before = objects(s3, BUCKET, "w/")
        for change in (
            lambda: storage.write_bytes("samples/a", b"overwritten"),
            lambda: storage.delete("samples/a"),
            lambda: storage.rename("samples/a", "samples/b"),
        ):
            with pytest.raises(LostLeaseError, match=TAKEN):
                change()
    assert objects(s3, BUCKET, "w/") == before, "and the other's lease is not given back"


def test_a_lease_that_another_took_and_gave_back_is_lost_too(s3: Any) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    with workspace.locked():
        s3.delete_object(**LOCK)
        with pytest.raises(LostLeaseError, match=r"taken over here \(which has ended since\)"):
            workspace.storage.write_bytes("a", b"late")
    assert objects(s3, BUCKET, "w/") == {}


def test_a_lease_that_ran_out_and_that_nobody_took_is_renewed(s3: Any) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    with workspace.locked():
        ours = json.loads(objects(s3, BUCKET, "w/")[".surd.lock"])
        s3.put_object(**LOCK, Body=json.dumps(ours | {"until": time.time() - 100}).encode())
        workspace.storage.write_bytes("a", b"after a long sleep")
        renewed = json.loads(objects(s3, BUCKET, "w/")[".surd.lock"])
    assert renewed["token"] == ours["token"] and renewed["until"] > time.time() + 200


@pytest.mark.parametrize("moment", ["version", "read_bytes", "write_over"])
def test_a_renewal_never_takes_the_lease_back_whenever_another_takes_it(
    s3: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    theirs = lease_of_another()
    real = getattr(Storage, moment)

    def taken_just_before(self: Storage, *arguments: Any) -> Any:
        s3.put_object(**LOCK, Body=theirs)
        return real(self, *arguments)

    with workspace.locked():
        ours = json.loads(objects(s3, BUCKET, "w/")[".surd.lock"])
        s3.put_object(**LOCK, Body=json.dumps(ours | {"until": time.time() + 50}).encode())
        monkeypatch.setattr(Storage, moment, taken_just_before)
        with pytest.raises(LostLeaseError, match=TAKEN):
            lease.keep(workspace.storage, ".surd.lock", ours["token"])
        monkeypatch.undo()
    assert objects(s3, BUCKET, "w/")[".surd.lock"] == theirs


def test_a_first_lease_does_not_overwrite_one_of_the_same_moment(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(f"s3://{BUCKET}/w")
    theirs = lease_of_another()
    real = Storage.write_over

    def just_after_them(self: Storage, *arguments: Any) -> None:
        s3.put_object(**LOCK, Body=theirs)
        real(self, *arguments)

    monkeypatch.setattr(Storage, "write_over", just_after_them)
    with pytest.raises(WorkspaceError, match="pid 1 on elsewhere"), workspace.locked():
        pass
    assert objects(s3, BUCKET, "w/")[".surd.lock"] == theirs


def test_a_store_without_conditional_writes_holds_a_lease_too(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.exceptions import ClientError
    from s3fs.errors import translate_boto_error

    workspace = Workspace(f"s3://{BUCKET}/w")
    pipe_file, refused = workspace.storage.fs.pipe_file, []

    def simple(path: str, value: bytes, **conditions: str) -> None:
        if conditions:
            refused.append(conditions)
            error = {"Error": {"Code": "NotImplemented", "Message": "no such header"}}
            raise translate_boto_error(ClientError(error, "PutObject"))
        pipe_file(path, value)

    monkeypatch.setattr(workspace.storage.fs, "pipe_file", simple)
    with workspace.locked():
        workspace.storage.write_bytes("a", b"ours")
        s3.put_object(**LOCK, Body=lease_of_another())
        with pytest.raises(LostLeaseError, match=TAKEN):
            workspace.storage.write_bytes("a", b"late")
    assert refused and objects(s3, BUCKET, "w/")["a"] == b"ours"


def test_of_two_collections_the_one_that_was_overtaken_leaves_the_next_part_alone(
    s3: Any, surd: Surd, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, write_part = "samples/part-00002.parquet", _Filler._write_part

    def held_up(self: Any) -> None:
        """Before the third part another collection takes over and writes that part."""
        if len(objects(s3, BUCKET, "w/samples/")) == 2:
            s3.put_object(**LOCK, Body=lease_of_another())
            s3.put_object(Bucket=BUCKET, Key=f"w/{part}", Body=b"theirs")
        write_part(self)

    monkeypatch.setattr(_Filler, "_write_part", held_up)
    ran = surd(*command(images, f"s3://{BUCKET}/w"))
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert re.match(f"surd: {TAKEN} while this one was held up, so this one stops", ran.err)
    found = objects(s3, BUCKET, "w/")
    assert found[part] == b"theirs"
    assert [name for name in found if name.startswith("samples/")] == [
        f"samples/part-{number:05d}.parquet" for number in range(3)
    ]


def test_the_worker_processes_of_one_that_was_overtaken_stop_too(
    s3: Any, surd: Surd, images: Path
) -> None:
    assert surd(*command(images, f"s3://{BUCKET}/w"), "--until", "download").code == 0
    workspace = Workspace(f"s3://{BUCKET}/w")
    stage, params = stage_named("prompts"), PromptsParams(language=False)
    with workspace.locked():
        s3.put_object(**LOCK, Body=lease_of_another())
        jobs = plan(workspace, stage, params)
        run = run_stage(
            LocalEngine(), workspace, stage, params, jobs, lambda counts: None, workers=2
        )
        with pytest.raises(LostLeaseError, match=TAKEN):
            list(run)
    assert workspace.parts("prompts") == []


# What cannot be reached


def test_a_bucket_that_is_not_there_is_one_line(s3: Any, surd: Surd, images: Path) -> None:
    ran = surd("status", "s3://no-such-bucket/w")
    assert ran.code == 2
    assert ran.err.startswith("surd: s3://no-such-bucket/w: not a surd workspace")


def test_a_server_that_does_not_answer_is_one_line(
    s3: Any, surd: Surd, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    ran = surd("status", "s3://elsewhere/w")
    assert ran.code == 2
    assert "cannot read surd.json" in ran.err and ran.err.count("\n") == 1


def test_without_s3fs_one_line_says_what_to_install(
    surd: Surd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    ran = surd("status", "s3://bucket/w")
    assert ran.code == 2
    assert 'pip install "surd[s3]"' in ran.err


def test_a_workspace_there_is_looked_at_and_decided_on(s3: Any) -> None:
    import requests
    from support_view import id_of, painted, viewing, workspace_with

    from surd.store import manual

    workspace = workspace_with(f"s3://{BUCKET}/looked-at")
    with viewing(workspace) as site:
        page = requests.get(site, timeout=30).text
        assert page.count('<li class="sample"') == 6
        assert requests.get(f"{site}/image/{id_of(1)}", timeout=30).content == painted(1)
        token = page.partition('name="surd-token" content="')[2].partition('"')[0]

        def post(path: str, **content: str) -> Any:
            headers = {"X-Surd-Token": token}
            return requests.post(site + path, json=content, headers=headers, timeout=60).json()

        for decision in ("keep", "undo", "drop"):
            said = post("/decide", id=id_of(1), decision=decision)
        assert said["label"] == "dropped by hand" and said["pending"] == 1
        assert post("/apply")["pending"] == 0
    assert manual.read(workspace) == {id_of(1): "drop"}
    assert not workspace.read("verdicts", 0, ["keep"])["keep"][1].as_py()
