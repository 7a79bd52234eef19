"""The image is built from what the wheel needs, and of the versions that it asks for."""

from __future__ import annotations

import re
import tomllib

from support_docs import ROOT

LINES = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COPIED = {
    source
    for line in LINES
    if line.startswith("COPY ")
    for source in line.removeprefix("COPY ").split()[:-1]
}


def test_all_that_the_wheel_holds_is_copied() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {"pyproject.toml", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]}
    needed |= {name.partition("/")[0] for name in (*wheel["packages"], *wheel["force-include"])}
    assert needed == COPIED
    for line in LINES:
        if found := re.fullmatch(r"COPY (\w+) /src/(\S+)", line):
            assert found[1] == found[2], line


def test_what_is_copied_is_sent_to_the_builder_and_nothing_else() -> None:
    everything, *lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert everything == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == COPIED
    assert all((ROOT / name).exists() for name in COPIED)


def test_torch_is_installed_in_the_versions_that_the_project_asks_for() -> None:
    (line,) = [line for line in LINES if "TORCH_INDEX" in line and line.startswith("RUN")]
    asked = re.findall(r'"((?:torch|torchvision)>=[\d.]+)"', line)
    wanted = [
        one for one in PROJECT["project"]["dependencies"] if re.match(r"torch(vision)?>", one)
    ]
    assert asked == wanted


def test_the_extras_are_the_projects() -> None:
    (line,) = [line for line in LINES if '"/src[' in line]
    extras = re.search(r"/src\[(.+)\]", line)
    assert extras is not None
    assert set(extras[1].split(",")) < set(PROJECT["project"]["optional-dependencies"])
