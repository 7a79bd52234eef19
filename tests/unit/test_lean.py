"""What commands leave unloaded."""

import os
import subprocess
import sys

import pytest

_COMMAND = """
import sys
from surd.cli.lean import start_lean
start_lean()
import pyarrow as pa
pa.array([1, None])
print("pandas" in sys.modules)
import pandas
print(pa.table({"n": [1]}).to_pandas()["n"].tolist())
"""


def test_commands_do_without_pandas_which_can_still_be_used() -> None:
    pytest.importorskip("pandas")
    ran = subprocess.run(
        [sys.executable, "-c", _COMMAND], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == ["False", "[1]"]


def test_a_build_that_needs_neither_loads_no_opencv_and_no_ftfy() -> None:
    code = "import sys, surd.build.run; print({'cv2', 'ftfy', 'torch'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout == "set()\n", ran.stderr


def test_a_command_looks_seldom_for_cycles_from_its_imports_on_and_not_at_its_end() -> None:
    code = """
import gc, sys
from surd.cli.app import main
import surd.cli.printing
sys.argv = ["surd", "--version"]
try:
    main()
finally:
    print(gc.get_threshold()[0], gc.get_freeze_count() > 10_000)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "20000 True", ran.stderr


@pytest.mark.parametrize(("before", "then"), [({}, "4"), ({"OPENBLAS_THREAD_TIMEOUT": "9"}, "9")])
def test_threads_of_blas_sleep_at_once_unless_told_otherwise(
    before: dict[str, str], then: str
) -> None:
    code = """
import os, sys
from surd.cli.app import main
print("numpy" in sys.modules)  # which reads it once
sys.argv = ["surd", "--version"]
try:
    main()
finally:
    print(os.environ["OPENBLAS_THREAD_TIMEOUT"])
"""
    env = {k: v for k, v in os.environ.items() if k != "OPENBLAS_THREAD_TIMEOUT"} | before
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    said = ran.stdout.splitlines()
    assert (said[0], said[-1]) == ("False", then), ran.stderr
