"""What is asked of whoever installed surd without the extra that a command needs."""

from __future__ import annotations

import pytest

from surd.errors import SurdError, need_extra
from surd.models.diffusion import load_pipeline
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.checks import check_tools


def test_a_missing_extra_is_one_line_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    need_extra("surd train-adapter", "train", "diffusers", "accelerate")
    monkeypatch.setattr("surd.errors.find_spec", lambda name: None)
    mend = r'^surd train-adapter needs diffusers, accelerate, tensorboardX; run: pip install "surd\[train\]"$'  # noqa: E501
    with pytest.raises(SurdError, match=mend):
        check_tools(TrainAdapterParams())
    with pytest.raises(
        SurdError, match=r'^drawing pictures needs diffusers; run: pip install "surd\[train\]"$'
    ):
        load_pipeline("demo:diffusion")
