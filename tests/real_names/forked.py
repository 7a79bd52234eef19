"""Runs commands of surd, each in a process of its own that need not import the libraries anew.

Reads a line of JSON for each: arguments, folder, environment, and files for what it prints; answers
with its exit code. What the libraries read of the environment when they are imported, such as
HF_ENDPOINT, is this process's own.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

import diffusers
import open_clip
import torch
import transformers

import surd.cli.app

_USED = (
    diffusers.StableDiffusionPipeline,
    transformers.BlipForConditionalGeneration,
    transformers.AutoModelForVisualQuestionAnswering,
    transformers.LlamaModel,
    open_clip.create_model_and_transforms,
    torch.nn.Module,
)
"""Loaded here, once."""


def run(asked: dict[str, Any]) -> int:
    """One command, in a fork; its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(asked[name], flags, 0o600), number)
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["env"])
        sys.argv = asked["argv"]
        surd.cli.app.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        os.write(1, f"{run(json.loads(line))}\n".encode())
