"""Runs what a page says, block by block, with stand-ins for what a test cannot have.

What a page names and a test has not (a model of 26 GB, a web site, your pictures) is replaced in
plain sight: `words` wherever they stand, then each whole command by `swaps`. A command that no swap
knows is a failure that names page and line: nobody has thought about how it is tested.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests
from support_docs import Block, Command, blocks, commands

AS_IT_STANDS = r"\g<0>"
NOT_RUN = ""
SERVED = "served: "
"""Before a command that serves until it is stopped: its page is asked for, then it is."""
Swaps = Mapping[str, str]
"""Regular expression of a whole command -> what is run, a template of :func:`re.sub`."""

DEMO_MODELS = (
    "--set caption.model=demo:captioner --set caption.candidates=2 --set score.clip=demo:clip"
    " --set score.nsfw=none --set filter.min_side=64 --set dedup.max_hamming_with_cosine=6"
)
"""BLIP and CLIP of a world of painted pictures, which are small."""
DRAWN = "--steps 2 --guidance 2"
"""Enough denoising to have a picture."""
TRAINED = (
    "--diffusion demo:diffusion --steps 2 --batch-size 2"
    " --set train_adapter.heads=2 --set train_adapter.feed_forward=32"
)
"""A training that ends at once, of the demo's diffusion model."""


def demo_site(pictures: int) -> str:
    """Options that put the demo's site on loopback in the place of Civitai."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return (
        f"--set demo_site.port={port} --set demo_site.pictures={pictures}"
        f" --set sources.0.base_url=http://127.0.0.1:{port} --set sources.0.requests_per_s=1000"
        " --set download.allow_private_addresses=[127.0.0.0/8]"
        " --set download.stall_timeout_s=1 --set download.total_timeout_s=3"
    )


def run_page(
    page: Path, surd: Callable[..., Any], *, words: Mapping[str, str], swaps: Swaps
) -> dict[str, str]:
    """Run a page's shell and Python blocks in order, in the current folder.

    Returns what each command of the page printed. Fails where one fails or is not known.
    """
    printed = {}
    for block in blocks(page):
        if block.language == "python":
            _run_python(page, block, words)
        elif block.language == "sh":
            for command in commands(block):
                printed[command.text] = _run_command(page, command, surd, words, swaps)
    return printed


def _run_command(
    page: Path, command: Command, surd: Callable[..., Any], words: Mapping[str, str], swaps: Swaps
) -> str:
    where = f"{page.name}:{command.line}: {command.text}"
    text = _replaced(command.text, words)
    known = [(re.fullmatch(pattern, text), template) for pattern, template in swaps.items()]
    found, template = next((one for one in known if one[0] is not None), (None, NOT_RUN))
    if found is None:
        pytest.fail(f"{where}\nno swap of the test knows this command: say there how it is run")
    text = found.expand(template)
    if template == NOT_RUN:
        return ""
    if text.startswith(SERVED):
        return _run_served(where, text.removeprefix(SERVED))
    program, *arguments = shlex.split(text)
    assert program == "surd", f"{where}\nis swapped for {text!r}, which is not surd's"
    ran = surd(*arguments)
    assert ran.code == 0, f"{where}\nrun as: {text}\n{ran.err}{ran.out}"
    return str(ran.out)


def _run_served(where: str, text: str) -> str:
    program, *arguments = shlex.split(text)
    assert program == "surd", where
    return looked_at(where, [sys.executable, "-m", "surd", *arguments])


def looked_at(where: str, command: Sequence[str], **how: Any) -> str:
    """Open the page that a command serves, and stop it; what it printed. `how` is Popen's."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how) as server:
        assert server.stdout is not None
        try:
            said: str = server.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:\d+/", said)
            assert found is not None, f"{where}\n{said}"
            assert requests.get(found[0], timeout=60).status_code == 200, where
        finally:
            server.send_signal(signal.SIGINT)
        said += server.stdout.read()
    assert server.returncode == 0, f"{where}\n{said}"
    return said


def _run_python(page: Path, block: Block, words: Mapping[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _replaced(block.text, words)],
        env=os.environ | {"HF_HOME": str(Path.cwd() / "hf-home")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{page.name}:{block.line}:\n{block.text}\n{done.stderr}"


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for word, stand_in in words.items():
        text = text.replace(word, stand_in)
    return text
