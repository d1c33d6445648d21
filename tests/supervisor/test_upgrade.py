"""What one supervisor leaves to the next."""

from __future__ import annotations

import os
import signal

import pytest

from djserve.supervisor.upgrade import Inheritance


def test_inheritance_survives_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "set_inheritable", lambda number, flag: None)
    inheritance = Inheritance(12, (3, 4), (4,))
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
