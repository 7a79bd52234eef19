"""A reader of the documentation at a shell: types what stands there, and nothing else.

What this world lacks is in the environment alone: where the hub and Civitai are, and, where a test
says so, how often something is done.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from support_docs import ROOT, Block, Command, blocks, commands
from support_pages import looked_at

BLANK = "…"
"""Where a page leaves something for its reader to fill in."""
_SERVES = ("surd view",)


class Forked:
    """Runs surd in processes that need not import its libraries anew; to be used as a context."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = _clean() | environment

    def __enter__(self) -> Forked:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("forked.py"))], env=self._environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(
        self, arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory() as scratch:
            out, err = (Path(scratch, name) for name in ("out", "err"))
            asked = {
                "argv": list(arguments), "cwd": str(folder), "env": dict(environment),
                "stdin": os.devnull, "stdout": str(out), "stderr": str(err),
            }  # fmt: skip
            print(json.dumps(asked), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            return subprocess.CompletedProcess(
                arguments, code, out.read_text(encoding="utf-8"), err.read_text(encoding="utf-8")
            )


def _clean() -> dict[str, str]:
    """The environment without what whoever runs the tests told surd and the hub's libraries."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "SURD_", "CIVITAI_")) and not name.endswith("_ENDPOINT")
    }
    python = os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")]))
    return kept | {"PYTHONPATH": python}


class Shell:
    """A folder, an environment, and surd on the path, or in forks where it is given."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], forked: Forked | None = None
    ) -> None:
        self.folder, self._forked = folder, forked
        here = folder / ".bin"
        here.mkdir()
        program = here / "surd"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m surd "$@"\n')
        program.chmod(0o755)
        (here / "python").symlink_to(sys.executable)
        clean = _clean()
        self.environment = {
            **clean,
            "PATH": f"{here}{os.pathsep}{clean['PATH']}",
            "BROWSER": "true",  # takes an address and opens nothing
            **environment,
        }

    def types(self, page: Path, section: str) -> dict[str, str]:
        """Run a section's commands and Python blocks; what each printed. Fails where one fails."""
        printed = {}
        for block in section_of(page, section):
            where = f"{page.name}:{block.line}"
            if block.language == "python":
                printed[block.text] = self.runs(where, [sys.executable, "-c", block.text])
            elif block.language == "sh":
                for command in commands(block):
                    printed[command.text] = self._types(page, command)
        return printed

    def _types(self, page: Path, command: Command) -> str:
        where = f"{page.name}:{command.line}: {command.text}"
        if command.text.startswith("export "):
            name, _, value = command.text.removeprefix("export ").partition("=")
            filled = self.environment.get(name, "a-key") if value == BLANK else value
            self.environment[name] = filled
            return ""
        if command.text.startswith(_SERVES):
            how = {"cwd": self.folder, "env": self.environment}
            return looked_at(where, shlex.split(command.text), **how)
        return self.runs(where, shlex.split(command.text))

    def runs(self, where: str, command: list[str]) -> str:
        done = self.tries(command)
        assert done.returncode == 0, f"{where}\n{done.stderr}{done.stdout}"
        assert "Traceback" not in done.stderr, f"{where}\n{done.stderr}"
        return done.stdout

    def tries(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        if self._forked is not None and command[0] == "surd":
            return self._forked.run(command, self.folder, self.environment)
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=False, capture_output=True,
            text=True,
        )  # fmt: skip


def headings(page: Path) -> list[str]:
    return [line for line in page.read_text(encoding="utf-8").splitlines() if line[:3] == "## "]


def section_of(page: Path, heading: str) -> list[Block]:
    """The blocks between a heading and the next; all of a page for an empty one."""
    text = page.read_text(encoding="utf-8")
    lines = text.splitlines()
    if not heading:
        return blocks(page)
    first = lines.index(heading) + 1
    rest = [n for n, line in enumerate(lines, 1) if n > first and line.startswith("## ")]
    last = rest[0] if rest else len(lines) + 1
    found = [block for block in blocks(page) if first < block.line < last]
    assert found, f"{page.name} has no commands below {heading!r}"
    return found
