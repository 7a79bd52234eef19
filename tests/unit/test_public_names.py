"""What ``import surd`` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import surd


def test_importing_surd_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, surd; dir(surd); print({'torch', 'pandas'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr


@pytest.mark.parametrize("name", surd.__all__)
def test_every_public_name_is_there_and_says_what_it_raises(name: str) -> None:
    thing = getattr(surd, name)
    assert name in dir(surd)
    assert thing.__doc__
    assert isinstance(thing, type) or "Raises" in thing.__doc__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'frames'"):
        surd.frames  # noqa: B018
