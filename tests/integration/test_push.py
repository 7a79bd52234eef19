"""``surd push`` against a stand-in of the hub: what it sends, sends again, and refuses."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support_hub import TOKEN, Answer, Asked, Hub, taken_for_the_hub
from support_publish import files, make_workspace, publish_anew, samples

from surd.recipe.publish import PublishParams
from surd.store.workspace import Workspace

Surd = Callable[..., Any]
REPO = "someone/cups"
DATASET = f"datasets/{REPO}"
SHARDS = PublishParams(shard_mb=0.003, row_group_rows=1, validation=0, test=0)
CARD = "---\nlibrary_name: surd\ntags: [sur-adapter]\n---\n\n# An adapter\n"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this process takes for the real one."""
    with taken_for_the_hub(monkeypatch, tmp_path) as hub:
        yield hub


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A published dataset of several shards."""
    return make_dataset(tmp_path / "data", 15)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An adapter's folder with all that a training and an evaluation leave."""
    folder = tmp_path / "run"
    texts = {
        "adapter_config.json": '{"format": "surd-adapter-1", "training": {"diffusion": "a/b"}}',
        "adapter_model.safetensors": "weights" * 1000,
        "README.md": CARD,
        "loss.svg": "<svg/>",
        "evaluation.md": "| a |",
        "evaluation.json": "{}",
        "evaluation.parquet": "picture by picture",
        "settings.json": "{}",
        "log.jsonl": "{}",
        "checkpoint-000010/adapter_model.safetensors": "older",
        "checkpoint-000010/state/optimizer.bin": "state",
        "pictures/0.png": "PNG",
        "validation/0.png": "PNG",
        ".loss.svg.0a.tmp": "left over",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def make_dataset(folder: Path, count: int) -> Path:
    workspace = make_workspace(folder, [samples(count)])
    publish_anew(workspace, SHARDS)
    assert len(list((folder / "dataset").glob("*.parquet"))) > 3
    return folder


def digests(folder: Path) -> set[str]:
    return {hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.parquet")}


def refused(ran: Any, *words: str) -> str:
    """The one line of a refusal, which names each of the words."""
    assert ran.code == 2, ran.err
    assert ran.out == ""
    lines = ran.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("surd: "), ran.err
    for word in words:
        assert word in lines[0], lines[0]
    assert TOKEN not in ran.err
    return lines[0]


def no_puts_after(count: int, then: Answer) -> Callable[[Asked], Answer | None]:
    """The storage takes so many objects and then answers otherwise."""
    taken: list[str] = []

    def interfere(asked: Asked) -> Answer | None:
        if asked.method != "PUT":
            return None
        if len(taken) == count:
            return then
        taken.append(asked.path)
        return None

    return interfere


def test_the_hub_has_every_byte_of_a_pushed_dataset_in_one_commit(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    before = files(workspace)
    ran = surd("push", workspace, "--repo", REPO, "--quiet")
    assert ran.code == 0, ran.err
    assert hub.files(DATASET) == files(workspace / "dataset")
    assert hub.commits() == 1
    assert f"{hub.url}/{DATASET}" in ran.out
    assert files(workspace) == before


def test_a_second_push_sends_nothing_and_makes_no_commit(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    surd("push", workspace, "--repo", REPO, "--quiet")
    ran = surd("push", workspace, "--repo", REPO, "--json", "--quiet")
    assert ran.json["sent"] == [] and ran.json["bytes"] == 0
    assert sorted(ran.json["there"]) == sorted(files(workspace / "dataset"))
    assert sorted(hub.received()) == sorted(digests(workspace / "dataset"))
    assert hub.commits() == 1


def test_the_datasets_own_folder_is_pushed_as_its_workspace_is(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    surd("push", workspace, "--repo", REPO, "--quiet")
    ran = surd("push", workspace / "dataset", "--repo", REPO, "--quiet")
    assert "is up to date" in ran.out


def test_after_publishing_anew_only_the_new_goes_and_shards_of_before_are_removed(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    surd("push", workspace, "--repo", REPO, "--quiet")
    repo = hub.repos[DATASET]
    repo.commit("main", hub.files(DATASET) | {"LICENSE": b"added on the page"})
    publish_anew(Workspace(workspace), PublishParams(shard_mb=1, validation=0, test=0))
    ran = surd("push", workspace, "--repo", REPO, "--json", "--quiet")
    assert ran.code == 0, ran.err
    wanted = files(workspace / "dataset") | {"LICENSE": b"added on the page"}
    assert hub.files(DATASET) == wanted
    assert len(ran.json["removed"]) > 3
    assert "train-00000-of-00001.parquet" in ran.json["sent"]


def test_an_adapter_goes_as_a_model_and_its_checkpoints_pictures_and_logs_stay(
    surd: Surd, hub: Hub, run: Path
) -> None:
    before = files(run)
    ran = surd("push", run, "--repo", REPO, "--quiet")
    assert ran.code == 0, ran.err
    assert sorted(hub.files(REPO)) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "evaluation.json",
        "evaluation.md",
        "loss.svg",
    ]
    assert all(before[name] == content for name, content in hub.files(REPO).items())
    assert surd("push", run, "--repo", REPO, "--quiet").code == 0
    assert len(hub.received()) == 1
    assert files(run) == before


def test_the_names_of_an_adapters_files_are_those_that_training_writes() -> None:
    from surd.adapter import files as adapter_files
    from surd.dataset.hub import contents
    from surd.training.card import CURVES

    assert contents.ADAPTER_CONFIG == adapter_files.CONFIG_FILE
    assert contents.ADAPTER_WEIGHTS == adapter_files.WEIGHTS_FILE
    assert CURVES in contents._ADAPTER_MAY_HAVE


def test_paths_of_this_machine_in_an_adapters_files_are_pointed_out(
    surd: Surd, hub: Hub, run: Path
) -> None:
    config = {"format": "surd-adapter-1", "training": {"diffusion": "/somewhere/model"}}
    (run / "adapter_config.json").write_text(json.dumps(config))
    ran = surd("push", run, "--repo", REPO, "--dry-run")
    assert ran.code == 0
    assert "adapter_config.json names a path on this machine, '/somewhere/model'" in ran.err


@pytest.mark.parametrize("then", [Answer(500, {"error": "out of order"}), Answer(cut=True)])
def test_a_push_that_was_cut_off_goes_on_and_ends_as_if_undisturbed(
    surd: Surd, hub: Hub, workspace: Path, then: Answer
) -> None:
    hub.interfere = no_puts_after(2, then)
    told = refused(
        surd("push", workspace, "--repo", REPO, "--quiet"), "files already sent are not sent again"
    )
    assert hub.url in told
    assert hub.files(DATASET) == {}
    assert len(hub.objects) == 2
    finished = set(hub.objects)
    hub.asked.clear()
    hub.interfere = lambda asked: None
    assert surd("push", workspace, "--repo", REPO, "--quiet").code == 0
    assert hub.files(DATASET) == files(workspace / "dataset")
    assert sorted(hub.received()) == sorted(digests(workspace / "dataset") - finished)


def test_a_push_that_is_killed_goes_on_where_it_was(hub: Hub, workspace: Path) -> None:
    third, go_on = threading.Event(), threading.Event()
    stopping = no_puts_after(2, Answer(cut=True))

    def interfere(asked: Asked) -> Answer | None:
        given = stopping(asked)
        if given is not None:
            third.set()
            go_on.wait(60)
        return given

    hub.interfere = interfere
    process = subprocess.Popen(
        command(workspace),
        env=environment(hub.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert third.wait(100), process.communicate(timeout=1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    go_on.set()
    finished = set(hub.objects)
    assert len(finished) == 2 and hub.files(DATASET) == {}
    hub.asked.clear()
    hub.interfere = lambda asked: None
    ended = subprocess.run(
        command(workspace), env=environment(hub.url), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert hub.files(DATASET) == files(workspace / "dataset")
    assert sorted(hub.received()) == sorted(digests(workspace / "dataset") - finished)
    assert TOKEN not in ended.stdout + ended.stderr


def command(workspace: Path) -> list[str]:
    return [sys.executable, "-m", "surd", "push", str(workspace), "--repo", REPO]


def environment(url: str) -> dict[str, str]:
    return os.environ | {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN}


def test_two_who_push_at_once_do_not_mix_their_files(surd: Surd, hub: Hub, workspace: Path) -> None:
    def interfere(asked: Asked) -> Answer | None:
        if asked.method == "PUT":
            hub.repos[DATASET].commit("main", {"README.md": b"of another"})
        return None

    hub.interfere = interfere
    refused(surd("push", workspace, "--repo", REPO, "--quiet"), "changed in the meantime", "again")
    assert hub.files(DATASET) == {"README.md": b"of another"}


def test_a_branch_is_made_and_main_is_left_alone(surd: Surd, hub: Hub, workspace: Path) -> None:
    for _ in range(2):
        ran = surd("push", workspace, "--repo", REPO, "--revision", "next/one", "--quiet")
        assert ran.code == 0, ran.err
    assert hub.files(DATASET, "next/one") == files(workspace / "dataset")
    assert hub.files(DATASET) == {}


def test_a_private_repository_is_private(surd: Surd, hub: Hub, workspace: Path) -> None:
    assert surd("push", workspace, "--repo", REPO, "--private", "--quiet").code == 0
    assert hub.repos[DATASET].private
    assert surd("push", workspace, "--repo", REPO, "--quiet").code == 0
    assert hub.repos[DATASET].private


def test_a_private_push_to_what_is_public_sends_nothing(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    surd("push", workspace, "--repo", REPO, "--quiet")
    hub.asked.clear()
    (workspace / "dataset" / "README.md").write_text(CARD)
    ran = surd("push", workspace, "--repo", REPO, "--private", "--quiet")
    refused(ran, "already public", "settings")
    assert hub.commits() == 0 and hub.received() == []


def test_a_dry_run_lists_files_and_sizes_and_asks_nobody(
    surd: Surd, hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    ran = surd("push", run, "--repo", REPO, "--dry-run")
    assert ran.code == 0
    assert "    7.0 kB  adapter_model.safetensors\n" in ran.out
    assert "not sent: checkpoint-000010/, evaluation.parquet, log.jsonl, pictures/" in ran.out
    assert "nothing was sent" in ran.out
    told = surd("push", run, "--repo", REPO, "--dry-run", "--json").json
    assert {"name": "loss.svg", "bytes": 6} in told["files"]
    assert hub.asked == []


def test_the_token_goes_to_the_hub_alone_and_into_nothing_else(
    surd: Surd, hub: Hub, workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for options in ((), ("--json",), ("--quiet",)):
        ran = surd("push", workspace, "--repo", REPO, *options)
        assert TOKEN not in ran.out + ran.err
    assert not any("authorization" in one.headers for one in hub.asked if one.method == "PUT")
    assert not any(TOKEN in one.path or TOKEN.encode() in one.body for one in hub.asked)
    assert not any(TOKEN.encode() in content for content in files(workspace).values())
    assert TOKEN not in caplog.text


def test_a_hub_that_says_the_token_aloud_is_not_quoted(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    hub.interfere = lambda asked: Answer(400, {"error": f"what is\n {TOKEN} ?"})
    refused(surd("push", workspace, "--repo", REPO, "--quiet"), "what is *** ?")


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (401, "hf auth login"),
        (403, "choose a --repo of your own"),
        (404, "check --repo and the token"),
        (429, "wait, then rerun the same command"),
        (503, "rerun the same command"),
    ],
)
def test_what_the_hub_refuses_is_one_line_that_names_the_mend(
    surd: Surd, hub: Hub, workspace: Path, status: int, mend: str
) -> None:
    hub.interfere = lambda asked: Answer(status, {"error": "for a reason"})
    refused(surd("push", workspace, "--repo", REPO, "--quiet"), mend, "for a reason")


def test_a_refusal_at_the_commit_is_told_as_one_at_the_door(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    hub.interfere = lambda asked: Answer(403, {}) if "/commit/" in asked.path else None
    refused(surd("push", workspace, "--repo", REPO, "--quiet"), "write to someone/cups")


def test_a_card_that_the_hub_refuses_is_told_with_its_reason(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    answer = Answer(400, {"errors": [{"message": '"license" must be one of …'}]})
    hub.interfere = lambda asked: answer if "validate-yaml" in asked.path else None
    refused(surd("push", workspace, "--repo", REPO, "--quiet"), '"license" must be one of')


def test_what_answers_but_is_no_hub_is_told(surd: Surd, hub: Hub, workspace: Path) -> None:
    hub.interfere = lambda asked: Answer(200)
    refused(surd("push", workspace, "--repo", REPO, "--quiet"), "HF_ENDPOINT")


def test_without_a_token_nobody_is_asked(
    surd: Surd, hub: Hub, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    refused(surd("push", workspace, "--repo", REPO), "set HF_TOKEN", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", f"{TOKEN}\N{BULLET}")
    refused(
        surd("push", workspace, "--repo", REPO), "HF_TOKEN contains characters that no token has"
    )
    assert hub.asked == []


def test_without_a_network_the_endpoint_is_named_without_its_password(
    surd: Surd, hub: Hub, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://me:secret@127.0.0.1:{port}")
    ran = surd("push", workspace, "--repo", REPO, "--quiet")
    told = refused(ran, f"http://127.0.0.1:{port}", "check the network", "Connection refused")
    assert "secret" not in told


@pytest.mark.parametrize("name", ["cups", "a/b/c", "../etc", "someone/cups.git", "so me/cups", "/"])
def test_what_is_no_repositorys_name_is_refused_before_anything_is_asked(
    surd: Surd, hub: Hub, workspace: Path, name: str
) -> None:
    refused(surd("push", workspace, "--repo", name), "write it as user/name")
    assert hub.asked == []


def test_a_folder_that_is_neither_dataset_nor_adapter_is_refused(
    surd: Surd, hub: Hub, tmp_path: Path, run: Path, workspace: Path
) -> None:
    make_workspace(tmp_path / "unpublished", [samples(2)])
    refused(surd("push", tmp_path / "unpublished", "--repo", REPO), "first run: surd publish")
    refused(surd("push", tmp_path / "nowhere", "--repo", REPO), "no such folder")
    refused(surd("push", run / "checkpoint-000010", "--repo", REPO), "neither")
    (run / "dataset").mkdir()
    (run / "dataset" / "surd-dataset.json").write_text("{}")
    refused(surd("push", run, "--repo", REPO), "a dataset and an adapter")
    assert hub.asked == []


def test_a_run_that_has_not_ended_is_refused(surd: Surd, hub: Hub, run: Path) -> None:
    (run / "adapter_model.safetensors").unlink()
    refused(surd("push", run, "--repo", REPO), "adapter_model.safetensors: missing", "train")


@pytest.mark.parametrize(
    ("card", "why"),
    [
        ("# No front matter\n", "no front matter"),
        ("---\ntags: [a\n---\n", "line 3: broken front matter"),
        ("---\n- a\n---\n", "not a mapping"),
        ("---\ntags: !!python/object/apply:os.system [true]\n---\n", "line 2: broken"),
        ("---\ndate: 2024-99-99\n---\n", "broken front matter"),
        ("---\nlicense: mit\n", "no front matter"),
        ("---\nname: \udcff\n---\n", "UTF-8"),
    ],
)
def test_a_card_with_broken_front_matter_is_refused_before_anything_is_asked(
    surd: Surd, hub: Hub, workspace: Path, run: Path, card: str, why: str
) -> None:
    for folder, place in ((workspace, workspace / "dataset"), (run, run)):
        (place / "README.md").write_text(card, errors="surrogateescape")
        refused(surd("push", folder, "--repo", REPO), "README.md", why)
    assert hub.asked == []


@pytest.mark.parametrize(
    "name", ["README.md", "croissant.json", "surd-dataset.json", "train-00000-of-*.parquet"]
)
def test_links_out_of_the_folder_are_refused(
    surd: Surd, hub: Hub, workspace: Path, tmp_path: Path, name: str
) -> None:
    file = next((workspace / "dataset").glob(name))
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    refused(surd("push", workspace, "--repo", REPO), file.name, "symbolic link")
    assert hub.asked == []


def test_a_dataset_folder_that_is_a_link_is_refused_and_so_is_a_linked_adapter(
    surd: Surd, hub: Hub, workspace: Path, run: Path, tmp_path: Path
) -> None:
    (workspace / "dataset").rename(tmp_path / "elsewhere")
    (workspace / "dataset").symlink_to(tmp_path / "elsewhere")
    refused(surd("push", workspace, "--repo", REPO), "dataset: a symbolic link")
    (run / "loss.svg").unlink()
    (run / "loss.svg").symlink_to("/etc/hostname")
    refused(surd("push", run, "--repo", REPO), "loss.svg: a symbolic link")
    assert hub.asked == []


def test_a_description_that_names_other_files_is_refused(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    path = workspace / "dataset" / "surd-dataset.json"
    whole = path.read_text()
    said = json.loads(whole)
    for name in ("../../secret.parquet", "/etc/passwd", "README.md", 7, None):
        said["files"][0]["name"] = name
        path.write_text(json.dumps(said))
        refused(surd("push", workspace, "--repo", REPO), "surd-dataset.json", "files[0].name: ")
    for odd, why in (({"sha256": "x"}, "no SHA-256"), ({"name": "evil.parquet"}, "no name that")):
        said = json.loads(whole)
        said["files"][0] |= odd
        path.write_text(json.dumps(said))
        refused(surd("push", workspace, "--repo", REPO), why)
    for text in (whole.replace('"files": [', '"files": [1, '), whole[:100], "[]", "{}"):
        path.write_text(text)
        refused(surd("push", workspace, "--repo", REPO), "surd-dataset.json", "publish")
    assert hub.asked == []


def test_a_shard_that_was_cut_changed_or_lost_is_not_published(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    shard = next((workspace / "dataset").glob("*.parquet"))
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-1])
    refused(surd("push", workspace, "--repo", REPO), shard.name, "when published")
    shard.unlink()
    refused(surd("push", workspace, "--repo", REPO), shard.name, "missing")
    assert hub.asked == []
    shard.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ran = surd("push", workspace, "--repo", REPO, "--quiet")
    refused(ran, shard.name, "has changed since it was published")
    assert hub.files(DATASET) == {}


def test_a_folder_that_cannot_be_written_to_is_pushed(
    surd: Surd, hub: Hub, workspace: Path
) -> None:
    folders = [workspace, workspace / "dataset"]
    for folder in folders:
        folder.chmod(0o500)
    try:
        assert surd("push", workspace, "--repo", REPO, "--quiet").code == 0
    finally:
        for folder in folders:
            folder.chmod(0o700)
    assert hub.files(DATASET) == files(workspace / "dataset")


def test_publishing_says_how_to_push(surd: Surd, workspace: Path) -> None:
    assert surd("filter", workspace, "--clip-threshold", 0.1, "--min-side", 1).code == 0
    ran = surd("publish", workspace, "--quiet")
    assert f", or surd push {workspace} --repo user/name\n" in ran.out
