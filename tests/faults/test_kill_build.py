"""Kill -9 a build whose stages overlap, at moments spread over the time that it takes: it ends with
the bytes of an undisturbed one, and no model is given again what was written down before."""

from __future__ import annotations

import bisect
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import pictures
from support_counting import SETTINGS, counted
from support_faults import small_settings
from support_kill import Ended, Surd, contents, differing

from surd.demo.site import Site
from surd.store import journal
from surd.store.storage import Storage

pytestmark = [
    pytest.mark.long,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
SEED = int(os.environ.get("SURD_SEED", random.SystemRandom().randrange(10**6)))
BUILDS = 100
"""So many are killed, each once or more; a seed repeats the shares of the time they had had."""
PICTURES, PART_SIZE, BATCH = 400, 100, 64
"""Several parts of several batches, so that kills leave parts half computed."""
FAULTS = {"p5": "not_found", "p140": "truncated_file", "p250": "slow_ok"}
SHOWN = PICTURES - 2
GROUPS = {"caption": "captions"} | dict.fromkeys(("score", "aesthetic", "nsfw", "itm"), "clip")
"""Model -> where what it computes is kept."""


@dataclass
class Undisturbed:
    """A build that nothing disturbed, with stages in one process and in several."""

    surd: Surd
    command: list[object]
    workspace: Path
    given: Path
    after: dict[str, str] = field(default_factory=dict)
    times_s: dict[bool, list[float]] = field(default_factory=dict)
    """With stages in processes of their own or not: when files were touched."""
    hits: Counter[str] = field(default_factory=Counter)
    """Kills by the stage whose turn it was, and by the tenth of the time."""

    def run(self, *, at: int = 0, wait_s: float = 0, apart: bool) -> tuple[Ended, Counter[str]]:
        """Go on with the build; also how many rows each model was given."""
        self.given.unlink(missing_ok=True)
        ended = self.surd(
            self.command, self.workspace, at=at, wait_s=wait_s, apart=apart, given=self.given
        )
        return ended, counted(self.given)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    folder = tmp_path_factory.mktemp("builds")
    with Site(pictures(PICTURES, **FAULTS)) as site:
        sets = small_settings(
            site,
            part_size=str(PART_SIZE),
            sources__0__page_size="100",
            score__nsfw="opennsfw",
            score__itm=SETTINGS["score.itm"],
            score__aesthetic_head=SETTINGS["score.aesthetic_head"],
        )
        workspace = folder / "w"
        build = Undisturbed(
            Surd(folder, {"OMP_NUM_THREADS": "1"}),
            ["build", "civitai", "-o", workspace, "-q", *sets],
            workspace,
            folder / "given.txt",
        )
        for apart in (False, True):
            shutil.rmtree(workspace, ignore_errors=True)
            ended, given = build.run(apart=apart)
            assert ended.code == 0, ended.said
            assert given == dict.fromkeys(GROUPS, SHOWN)
            assert not differing(workspace, build.after or contents(workspace))
            build.after, build.times_s[apart] = contents(workspace), ended.times_s
        yield build
        print(
            f"\nSURD_SEED={SEED}, undisturbed", *(f"{t[-1]:.1f} s" for t in build.times_s.values())
        )
        for hit, kills in sorted(build.hits.items()):
            print(f"{kills:4d} {hit}")


def kept(workspace: Path) -> dict[str, int]:
    """Model -> rows of what it computed that a kill left in parts or in journals."""
    rows = {}
    for group in set(GROUPS.values()):
        parts = sorted((workspace / group).glob("part-*.parquet"))
        tables = [pq.read_table(path) for path in parts]
        numbers = range(-(-PICTURES // PART_SIZE))
        tables += journal.read(Storage(str(workspace)), group, numbers)
        pairs = [pair for one in tables for pair in zip(one["id"], one["status"], strict=True)]
        rows[group] = len({id_.as_py() for id_, status in pairs if status.as_py() == "ok"})
    return {model: rows[group] for model, group in GROUPS.items()}


def blow(build: Undisturbed, number: int) -> list[str]:
    """Kill a build, perhaps more than once, then let it end; what is not as it should be."""
    chance = random.Random(f"{SEED} {number}")
    apart = number % 2 == 1
    told = f"SURD_SEED={SEED}, build {number}{' in processes' if apart else ''}"
    shutil.rmtree(build.workspace, ignore_errors=True)
    times_s, have, wrong = build.times_s[apart], dict.fromkeys(GROUPS, 0), []
    for kill in range(chance.choice((1, 1, 2, 3))):
        at_s = chance.uniform(times_s[0], times_s[-1])
        at = bisect.bisect(times_s, at_s)
        wait_s = at_s - times_s[at - 1]
        if kill:  # there is less to do than at first
            at, wait_s = chance.randrange(1, len(times_s) // 3), chance.uniform(0, 0.1)
        ended, given = build.run(at=at, wait_s=wait_s, apart=apart)
        told += f"; at {at} + {wait_s:.2f} s: {' beside '.join(ended.hit) or ended.code}"
        if ended.code != -signal.SIGKILL:
            break
        build.hits[f"kills in {ended.hit[0]}"] += 1
        build.hits[f"kills with {len(ended.hit) - 1} other stages under way"] += 1
        if not kill:
            build.hits[
                f"first kills in tenth {1 + int(10 * at_s / times_s[-1]):2d} of the time"
            ] += 1
        build.hits["kills within a part, of which rows were kept"] += bool(
            list(build.workspace.rglob(".unfinished/*"))
        )
        before, have = have, kept(build.workspace)
        told += f" ({have['caption']} captions and {have['score']} scores kept)"
        wrong += [
            f"of {model}, {rows} rows were computed, and {have[model] - before[model]} kept"
            for model, rows in given.items()
            if not 0 <= rows - (have[model] - before[model]) <= BATCH
        ]
    print(told)
    if ended.code == -signal.SIGKILL:
        ended, given = build.run(apart=apart)
    missing = {model: SHOWN - rows for model, rows in have.items() if rows < SHOWN}
    if given != missing:
        wrong.append(f"{missing} rows were not kept, and models were given {dict(given)}")
    if ended.code != 0:
        wrong.append(ended.said)
    wrong += differing(build.workspace, build.after)
    return [told, *wrong] if wrong else []


@pytest.mark.parametrize("number", range(BUILDS))
def test_a_killed_build_ends_as_if_undisturbed_and_computes_nothing_twice(
    undisturbed: Undisturbed, number: int
) -> None:
    assert not blow(undisturbed, number)
