"""What a process is told by the supervisor that has started it."""

from __future__ import annotations

import os
import signal

import pytest

from djserve.cpus import count_cpus, measure_cpus
from djserve.supervisor.inheritance import (
    ChildEnvironment,
    Inheritance,
    count_workers,
    explain_workers,
    is_child,
)


def test_child_environment_survives_the_variable() -> None:
    reader, writer = os.pipe()
    given = ChildEnvironment(reader, (writer,))
    for number in (reader, writer):
        os.set_inheritable(number, True)
    environ = {"DJSERVE_LOADER": given.to_text()}
    assert is_child(environ)
    assert ChildEnvironment.take(environ) == given
    assert environ == {}

    assert not os.get_inheritable(reader)
    assert not os.get_inheritable(writer)
    os.close(reader)
    os.close(writer)


def test_sockets_that_redirect_are_known_to_children_and_successors() -> None:
    child = ChildEnvironment(9, (4, 5, 6), is_checked=True, redirecting=(6,))
    inheritance = Inheritance(os.getppid(), (), (), (6,))

    assert ChildEnvironment.parse(child.to_text()) == child
    assert Inheritance.take(inheritance.to_environment()) == inheritance


def test_other_processes_are_no_children() -> None:
    assert not is_child({})
    assert ChildEnvironment.take({}) is None


def test_number_of_workers_is_that_of_the_usable_cpus() -> None:
    assert count_workers(3) == 3
    assert count_workers(None) == count_cpus()
    assert explain_workers(3) == ""
    assert explain_workers(None) == f" (auto: {measure_cpus().source})"


def test_number_of_workers_for_cpus_has_a_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHON_CPU_COUNT", "100000")

    assert count_workers(None) == 1024


def test_inheritance_survives_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "set_inheritable", lambda number, flag: None)
    inheritance = Inheritance(12, (3, 4), (4,), folder="/tmp/folder")
    environ = inheritance.to_environment()

    assert Inheritance.take(environ) == inheritance
    assert environ == {}


def test_without_a_predecessor_there_is_none() -> None:
    assert Inheritance.take({}) is None


def test_predecessor_is_told_to_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
    Inheritance(os.getppid(), (), ()).end_predecessor()

    assert sent == [(os.getppid(), signal.SIGTERM)]


def test_number_of_a_dead_predecessor_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "kill", lambda *args: pytest.fail("signal sent"))
    Inheritance(os.getppid() + 1, (), ()).end_predecessor()
