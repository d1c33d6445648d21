"""PROCESSES under ``runserver``: which of them run, and that none outlives it.

They are started with the server, so that each reload restarts them with its code.
Under the reloader the server is killed by its parent at a Control-C; the parent then
waits until the processes have ended, for the shell's prompt tells that all has.
"""

from __future__ import annotations

import os
import select
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from django.apps import apps
from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

from djserve.conf.loader import load
from djserve.errors import ConfigError
from djserve.net.handover import VARIABLE as SOCKETS_VARIABLE
from djserve.system import CAN_FORK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from django.utils.autoreload import BaseReloader

    from djserve.conf.processes import ProcessConfig
    from djserve.supervisor.keeper import Keeper

VARIABLE = "DJSERVE_RELOADER_PROCESSES"

# What the processes must not take for theirs: a task worker may have its own reloader.
OWN_VARIABLES = frozenset({DJANGO_AUTORELOAD_ENV, SOCKETS_VARIABLE, VARIABLE})

INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Folders of apps that are not the project's."""

WAIT_LIMIT = 6.0
"""Seconds that the parent waits at most; longer than a keeper may take."""


def choose_processes(
    processes: Sequence[ProcessConfig], wanted: bool | None
) -> list[ProcessConfig]:
    """Return those that run under ``runserver``.

    ``wanted`` is what the command line says: all, none, or (None) what the settings do.
    """
    if wanted is None:
        return [process for process in processes if process.runserver]
    return [*processes] if wanted else []


def create_keeper(processes: Sequence[ProcessConfig]) -> Keeper:
    """Return what runs the processes."""
    # It needs what only systems with fork() have.
    from djserve.supervisor.keeper import Keeper

    environment = {
        name: value for name, value in os.environ.items() if name not in OWN_VARIABLES
    }
    return Keeper(processes, environment, _held_descriptors())


@contextmanager
def await_processes() -> Iterator[None]:
    """Leave the block once all processes have ended that servers started in it.

    Used by the reloader's parent. A server, and the keeper of its processes, inherit
    one end of a pipe, which is at its end when no process has that any more.
    """
    if not CAN_FORK:
        yield
        return
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    os.environ[VARIABLE] = f"{os.getpid()} {writer}"
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        os.close(writer)
        # It is short, and a second Control-C would only leave the rest behind.
        interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
        select.select([reader], [], [], WAIT_LIMIT)
        signal.signal(signal.SIGINT, interrupt)
        os.close(reader)


def watch_code(sender: BaseReloader, **kwargs: object) -> None:
    """Have the reloader watch all of the project's code, if PROCESSES has anything.

    It knows what the server has imported: neither the module of a management command,
    nor what that alone imports.
    """
    try:
        if not load().processes.processes:
            return
    except ConfigError:
        # The server reports it.
        return
    for config in apps.get_app_configs():
        path = Path(config.path)
        if INSTALLED.isdisjoint(path.parts):
            sender.watch_dir(path, "**/*.py")


def follow_parent() -> None:
    """End with the reloader's parent, whatever ends that; called in its child.

    Programs that the project starts do not keep the parent waiting.
    """
    held = _held_descriptors()
    for number in held:
        os.set_inheritable(number, False)
    # Without a parent of ours the variable of Django's reloader was set by hand.
    if held:
        from djserve.supervisor.parent_death import request_signal

        request_signal(signal.SIGTERM)


def _held_descriptors() -> list[int]:
    parent, _, descriptor = os.environ.get(VARIABLE, "").partition(" ")
    # A program that the project starts inherits the variable, and not the pipe.
    return [int(descriptor)] if parent == str(os.getppid()) else []
