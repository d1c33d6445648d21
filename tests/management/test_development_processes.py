from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps
from django.test import override_settings

from djserve.conf.processes import ProcessConfig
from djserve.management import development_processes
from djserve.management.development_processes import (
    VARIABLE,
    await_processes,
    choose_processes,
    create_keeper,
    follow_parent,
    watch_code,
)

PROCESSES = (
    ProcessConfig(name="tasks", command=("db_worker",)),
    ProcessConfig(name="clock", command=("clock",), runserver=False),
)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [(None, ["tasks"]), (True, ["tasks", "clock"]), (False, [])],
)
def test_command_line_chooses_all_or_none(
    wanted: bool | None, names: list[str]
) -> None:
    chosen = choose_processes(PROCESSES, wanted)
    assert [process.name for process in chosen] == names


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe; what a test has not closed of it is closed after it."""
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


def test_processes_see_nothing_of_the_reloader(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUN_MAIN", "true")
    monkeypatch.setenv(VARIABLE, f"{os.getppid()} {pipe[1]}")
    keeper = create_keeper(PROCESSES)
    assert {"RUN_MAIN", VARIABLE}.isdisjoint(keeper._environment)
    assert keeper._environment["PATH"] == os.environ["PATH"]
    assert keeper._descriptors == [pipe[1]]


def test_pipe_of_another_process_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "1000000000 7")
    assert create_keeper(PROCESSES)._descriptors == []
    follow_parent()


def test_block_is_left_once_its_pipe_has_ended() -> None:
    left = threading.Event()
    copies: list[int] = []

    def end() -> None:
        left.set()
        os.close(copies[0])

    timer = threading.Timer(0.2, end)
    with await_processes():
        pid, descriptor = os.environ[VARIABLE].split()
        assert pid == str(os.getpid())
        assert os.get_inheritable(int(descriptor))
        # As a process has that was started in it.
        copies.append(os.dup(int(descriptor)))
        timer.start()
    assert left.is_set()
    assert VARIABLE not in os.environ
    timer.join()


def test_pipe_is_not_inherited_by_other_programs(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    signals: list[int] = []
    monkeypatch.setattr(
        "djserve.supervisor.parent_death.request_signal", signals.append
    )
    os.set_inheritable(pipe[1], True)
    monkeypatch.setenv(VARIABLE, f"{os.getppid()} {pipe[1]}")
    follow_parent()
    assert not os.get_inheritable(pipe[1])
    assert len(signals) == 1


def watched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, str]]:
    configs = [
        SimpleNamespace(path="/srv/site/shop"),
        SimpleNamespace(path="/usr/lib/python3/dist-packages/channels"),
        SimpleNamespace(path="/srv/venv/lib/python3.13/site-packages/django"),
    ]
    monkeypatch.setattr(apps, "get_app_configs", lambda: configs)
    folders: list[tuple[Path, str]] = []
    reloader: Any = SimpleNamespace(
        watch_dir=lambda path, glob: folders.append((path, glob))
    )
    watch_code(reloader)
    return folders


@override_settings(DJSERVE={"PROCESSES": {"a": {"command": ["b"]}}})
def test_code_of_the_project_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch) == [(Path("/srv/site/shop"), "**/*.py")]


@pytest.mark.parametrize("given", [{}, {"PROCESSES": 3}], ids=["none", "wrong"])
def test_without_processes_nothing_more_is_watched(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with override_settings(DJSERVE=given):
        assert watched(monkeypatch) == []


def test_wait_is_longer_than_a_keeper_may_take() -> None:
    from djserve.supervisor.keeper import KEEPER_TIMEOUT, STOP_TIMEOUT

    assert development_processes.WAIT_LIMIT > KEEPER_TIMEOUT + STOP_TIMEOUT
