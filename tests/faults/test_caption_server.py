"""Captions from a server that fails, and from one whose client is killed."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import digests, jpeg
from support_chat import FAULTS, ChatServer, digest, words
from support_faults import surd_command

from surd.models.captions import QUESTIONS
from surd.store import journal
from surd.store.storage import Storage

Surd = Callable[..., Any]

pytestmark = pytest.mark.timeout(300)
PICTURES, PART = 120, 50


@pytest.fixture(scope="module")
def downloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose pictures have no captions yet."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "pictures").mkdir()
    for number in range(PICTURES):
        (folder / "pictures" / f"{number:03}.jpg").write_bytes(jpeg(number))
        (folder / "pictures" / f"{number:03}.txt").write_text(f"masterpiece, thing {number}")
    sets = [f"sources.0.path={folder / 'pictures'}", f"part_size={PART}"]
    arguments = [a for one in sets for a in ("--set", one)]
    run = surd_command(
        "build", "folder", "-o", folder / "w", "-q", "--until", "download", *arguments
    )
    subprocess.run(run, check=True)
    return folder / "w"


@pytest.fixture
def folder(downloaded: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", str(downloaded), str(tmp_path / "w")], check=True)
    return tmp_path / "w"


def caption(folder: Path, server: ChatServer, **settings: Any) -> list[str]:
    settings = {"model": server.name, "candidates": 2, "concurrency": 8, **settings}
    sets = [a for key, value in settings.items() for a in ("--set", f"caption.{key}={value}")]
    return ["caption", str(folder), "-q", *sets]


def statuses(folder: Path) -> Counter[str]:
    tables = [pq.read_table(path) for path in sorted((folder / "captions").glob("*.parquet"))]
    return Counter(status for table in tables for status in table["status"].to_pylist())


def captions_of(folder: Path) -> dict[str, str]:
    return {name: found for name, found in digests(folder).items() if "captions" in name}


@pytest.fixture(scope="module")
def wanted(downloaded: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what an undisturbed run makes."""
    folder = tmp_path_factory.mktemp("whole") / "w"
    subprocess.run(["cp", "-r", str(downloaded), str(folder)], check=True)
    with ChatServer() as server:
        subprocess.run(surd_command(*caption(folder, server)), check=True)
    assert statuses(folder) == {"ok": PICTURES}
    return captions_of(folder)


def test_three_in_ten_failures_of_every_kind_change_no_row(
    surd: Surd, folder: Path, wanted: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.net.chat._MAX_PAUSE_S", 0.02)
    kinds = [kind for kind in FAULTS if kind != "refused"]
    happened = Counter[str]()

    def fault(body: dict[str, Any], before: int) -> str | None:
        dice = random.Random(f"{digest(body)}{before}")
        if dice.random() > 0.3:
            return None
        kind = dice.choice(kinds)
        happened[kind] += 1
        return kind

    with ChatServer(fault=fault) as server:
        ran = surd(*caption(folder, server, timeout_s=0.5, retries=12))
    assert ran.code == 0, ran.err
    assert set(happened) == set(kinds)
    assert max(Counter(server.answered).values()) == 1 and len(server.answered) == 2 * PICTURES
    assert captions_of(folder) == wanted


def journalled(folder: Path, group: str) -> set[str]:
    """What the server said of the pictures whose rows are in the journal of the second part."""
    tables = journal.read(Storage(str(folder)), group, [1])
    rows = [row for table in tables for row in table.to_pylist()]
    if group == "dense":
        return {row["dense_caption"] for row in rows}
    return {candidate["raw"] for row in rows for candidate in row["candidates"]}


@pytest.mark.parametrize(
    ("group", "styles", "questions", "answered"),
    [("captions", "[simple]", 2, 190), ("dense", "[simple,dense]", 3, 60)],
)
def test_after_a_kill_in_a_part_no_row_of_its_journal_is_asked_again(
    surd: Surd,
    folder: Path,
    wanted: dict[str, str],
    group: str,
    styles: str,
    questions: int,
    answered: int,
) -> None:
    """The server falls silent in the second part, once it gave `answered` answers for the group."""
    of_the_group = Counter[bool]()

    def silence(body: dict[str, Any], before: int) -> str | None:
        is_of_it = (QUESTIONS["dense"] in str(body["messages"])) == (group == "dense")
        of_the_group[is_of_it] += 1
        return "timeout" if is_of_it and of_the_group[True] > answered else None

    with ChatServer(fault=silence, width=8) as server:
        command = caption(folder, server, styles=styles)
        process = subprocess.Popen(surd_command(*command))
        while not journalled(folder, group) and process.poll() is None:
            time.sleep(0.02)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        kept = journalled(folder, group)
        assert kept and (folder / group / "part-00000.parquet").exists()
        server.fault = lambda body, before: None
        server.bodies.clear()
        assert surd(*command).code == 0
        again = {words(body) for body in server.bodies}
        times = Counter(server.answered)
    assert again and not again & kept
    assert len(times) == questions * PICTURES, "every question was answered"
    assert captions_of(folder) == wanted
    if group == "dense":
        rows = pq.read_table(folder / "dense", columns=["dense_caption"]).to_pylist()
        assert kept < {row["dense_caption"] for row in rows} and len(rows) == PICTURES
    assert not list(folder.glob("*/.unfinished/*"))


def test_pictures_without_an_answer_are_rows_and_retried_when_asked_to(
    surd: Surd, folder: Path, wanted: dict[str, str]
) -> None:
    def refuse(body: dict[str, Any], before: int) -> str | None:
        return "refused" if int(digest({"of": body["messages"]})[0], 16) < 4 else None

    with ChatServer(fault=refuse) as server:
        ran = surd(*caption(folder, server))
        assert ran.code == 0, ran.err
        found = statuses(folder)
        assert found["no_answer"] > 10 and found.total() == PICTURES
        details = pq.read_table(folder / "captions" / "part-00000.parquet")["detail"].to_pylist()
        assert set(details) == {None, "HTTP 400: no way"}
        server.fault = lambda body, before: None
        server.answered.clear()
        again = ("build", "-o", folder, "-q", "--until", "caption")
        assert surd(*again).code == 0 and not server.answered
        assert surd(*again, "--retry-failed").code == 0
    assert len(server.answered) == 2 * found["no_answer"]
    assert captions_of(folder) == wanted


def test_captions_are_not_replaced_by_none_and_too_few_are_told(surd: Surd, tmp_path: Path) -> None:
    """Fewer pictures than show by themselves that a server captions none."""
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        (tmp_path / "pictures" / f"{number}.jpg").write_bytes(jpeg(number))
        (tmp_path / "pictures" / f"{number}.txt").write_text(f"masterpiece, thing {number}")
    folder = tmp_path / "w"
    sets = ["--set", f"sources.0.path={tmp_path / 'pictures'}"]
    assert surd("build", "folder", "-o", folder, "-q", "--until", "download", *sets).code == 0
    with ChatServer(fault=lambda *_: "refused") as server:
        ran = surd(*caption(folder, server))
        assert ran.code == 2 and "none of 3 pictures got an answer (HTTP 400: no way)" in ran.err
        assert "--retry-failed" in ran.err
        again = ("build", "-o", folder, "-q", "--until", "caption", "--retry-failed")
        refused: list[Any] = []

        def refuse_one(body: dict[str, Any], before: int) -> str | None:
            if not refused:
                refused.append(body["messages"])
            return "refused" if body["messages"] in refused else None

        server.fault = refuse_one
        ran = surd(*again)
        assert ran.code == 0, ran.err
        assert "caption: without an answer, most often (1 times): HTTP 400: no way" in ran.err
        assert surd(*again[:-1], "--max-failure-rate", "0.2").code == 1
        assert surd(*again[:-1], "--max-failure-rate", "0.4").code == 0
        before = captions_of(folder)
        server.fault = lambda *_: "refused"
        ran = surd(*caption(folder, server, seed=1))
        assert ran.code == 2 and "none of 3 pictures of part 0 got an answer" in ran.err
    assert captions_of(folder) == before


def test_a_key_is_nowhere_in_the_workspace(
    surd: Surd, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    with ChatServer(key="sk-very-secret") as server:
        assert surd(*caption(folder, server, key_variable="MY_KEY")).code == 0
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files and not any(b"sk-very-secret" in path.read_bytes() for path in files)


def test_a_server_that_is_not_there_is_one_line(surd: Surd, folder: Path) -> None:
    with ChatServer() as server:
        pass
    ran = surd(*caption(folder, server))
    assert ran.code == 2 and ran.err.count("\n") == 1 and "start it first" in ran.err


def test_servers_of_later_stages_are_checked_before_the_first_request(
    surd: Surd, folder: Path
) -> None:
    with ChatServer() as gone:
        pass
    with ChatServer() as server:
        styles = {"styles": "[simple,dense]", "dense.model": gone.name}
        ran = surd(*caption(folder, server, **styles))
        assert ran.code == 2 and gone.url in ran.err and "start it first" in ran.err
        assert not server.bodies
        assert surd(*caption(folder, server, **{**styles, "dense.model": server.name})).code == 0
        server.bodies.clear()
        ran = surd(*caption(folder, server, **styles, seed=1))
        assert ran.code == 0, "dense captions that are there need no server"
