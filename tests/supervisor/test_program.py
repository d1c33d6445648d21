"""What is served, and what it says where a command has nothing to say."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from djserve.supervisor.program import Loaded, Program

if TYPE_CHECKING:
    from djserve.asgi.types import Receive, Scope, Send


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer nothing."""


def load() -> Loaded:
    return Loaded(application)


def test_loaded_application_needs_no_notes_and_no_configuration() -> None:
    assert load() == (application, (), None, None)


def test_program_that_only_loads_has_nothing_to_close_before_a_fork() -> None:
    program = Program(load=load)
    program.before_fork()

    assert program.load().application is application
    assert program.thread_stats is None


def test_without_a_description_a_view_has_no_name() -> None:
    assert Program(load=load).describe({"type": "http", "path": "/"}) == ""


def test_program_cannot_change_once_processes_share_it() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(Program(load=load), "load", load)  # noqa: B010
