"""What commands leave unloaded."""

import subprocess
import sys

import pytest

_COMMAND = """
import gc, sys
from surd.cli.lean import start_lean
start_lean()
import pyarrow as pa
pa.array([1, None])
print("pandas" in sys.modules, gc.get_threshold()[0] > 700)
import pandas
print(pa.table({"n": [1]}).to_pandas()["n"].tolist())
"""


def test_commands_do_without_pandas_which_can_still_be_used() -> None:
    pytest.importorskip("pandas")
    ran = subprocess.run(
        [sys.executable, "-c", _COMMAND], capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines() == ["False True", "[1]"]
