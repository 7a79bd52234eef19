"""A process is known to have ended only where it ran."""

from __future__ import annotations

import pytest
from support_processes import name_of_one_that_ended

from surd.store.processes import has_ended, own_name


def test_a_process_that_runs_has_not_ended_and_one_that_ended_has() -> None:
    assert not has_ended(own_name())
    assert has_ended(name_of_one_that_ended())


def test_of_another_machine_or_container_nothing_is_known() -> None:
    _, pid, began = name_of_one_that_ended().split(".")
    assert not has_ended(f"0123456789ab.{pid}.{began}")


def test_a_number_that_a_later_process_was_given_does_not_keep_the_first_alive() -> None:
    machine, pid, began = own_name().split(".")
    assert has_ended(f"{machine}.{pid}.{int(began) - 1}")


@pytest.mark.parametrize("name", ["", "123", "a.b.c", "{}.x.1", "{}..", "{}.-1.1"])
def test_what_is_no_name_is_of_no_process_that_ended(name: str) -> None:
    assert not has_ended(name.format(own_name().split(".")[0]))


def test_a_number_beyond_all_processes_is_of_none() -> None:
    machine = own_name().split(".")[0]
    assert has_ended(f"{machine}.{10**30}.1")
