"""What commands leave unloaded."""

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
