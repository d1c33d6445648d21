"""What a process is: a server alone, a supervisor, or a supervisor's child."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

from djserve.conf.loader import read_host_settings, read_logging
from djserve.conf.process import become_worker
from djserve.errors import ConfigError
from djserve.server.launch import launch, prepare_loop, uses_django
from djserve.supervisor.inheritance import (
    ChildEnvironment,
    Inheritance,
    count_workers,
    explain_workers,
    is_successor,
)
from djserve.supervisor.signals import hold_signals
from djserve.supervisor.systemd import adopt_activation, is_awaited
from djserve.system import CAN_FORK, SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.conf.schema import ProcessesConfig, ServerConfig, WorkersConfig
    from djserve.server.lifecycle import ExitCode
    from djserve.supervisor.program import Program


logger = logging.getLogger("djserve")


def run(config: ServerConfig, program: Program) -> ExitCode:
    """Serve until a signal ends it, and return how the process ends.

    Raises ConfigError if the configuration or the application is wrong.
    """
    require_processes(config.workers, config.processes)
    environment = ChildEnvironment.take()
    if environment is not None:
        from djserve.supervisor.loader import run_child

        return run_child(environment, config, program)
    needed = needs_supervisor(config.workers, config.processes)
    is_supervised = needed or is_successor()
    if is_supervised and uses_django():
        become_supervisor(config)
    activated = adopt_activation(config.bind, config.redirect)
    is_activated = activated is not config.bind
    config = replace(config, bind=activated)
    inheritance = Inheritance.take()
    if needed or inheritance is not None:
        hold_signals()
        # A server alone needs nothing of it.
        from djserve.supervisor.arbiter import Arbiter

        return Arbiter(config, inheritance).run()
    become_worker()
    runner = prepare_loop()
    loaded = program.load()
    if loaded.config is not None:
        used = config if is_activated else loaded.config
        config = replace(loaded.config, bind=used.bind, redirect=used.redirect)
        if needs_supervisor(config.workers, config.processes):
            logger.warning(
                "One process runs: give --workers on the command line, or "
                "DJANGO_SETTINGS_MODULE, since the settings were known too late"
            )
    why = explain_workers(config.workers.workers)
    notes = [*loaded.notes, f"One process serves{why}"] if why else loaded.notes
    stats = program.thread_stats
    return launch(loaded.application, config, runner, notes, stats, loaded.files)


def become_supervisor(config: ServerConfig) -> NoReturn:
    """Go on as a supervisor, without the project that this process has loaded."""
    require_processes(config.workers, config.processes)
    from djserve.supervisor.handover import Handover, find_logging

    found, problem = find_logging(read_logging())
    hosts = read_host_settings()
    debug = hosts is not None and hosts.debug
    # Django has put TIME_ZONE there: the log's times are those of the workers' lines.
    timezone = os.environ.get("TZ")
    Handover(config, found, problem, debug, timezone).become()


def require_processes(workers: WorkersConfig, processes: ProcessesConfig) -> None:
    """Raise ConfigError for settings that ask for what there is not."""
    if CAN_FORK:
        problems = list(find_commands_without_settings(processes))
    else:
        problems = list(find_unsupported(workers, processes))
    if problems:
        raise ConfigError(problems)


def find_unsupported(
    workers: WorkersConfig, processes: ProcessesConfig
) -> Iterator[str]:
    """Yield what is wrong on a system without fork()."""
    for key in find_supervised(workers, processes):
        yield (
            f"{key} needs a supervisor and its worker processes, which {SYSTEM} cannot "
            "have (no fork): one process serves there, without this setting"
        )


def find_commands_without_settings(processes: ProcessesConfig) -> Iterator[str]:
    """Yield what is wrong with PROCESSES: Django cannot be found without settings."""
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        return
    for process in processes.processes:
        if process.command:
            yield (
                f"PROCESSES: {process.name} runs the management command "
                f"{process.words!r}, but DJANGO_SETTINGS_MODULE is not set; set it, or "
                "give the words of a program under the key 'program'"
            )


def needs_supervisor(workers: WorkersConfig, processes: ProcessesConfig) -> bool:
    """Return whether a setting asks for more than one process gives.

    Or systemd, with Type=notify: it is the supervisor that tells it what happens. A
    server that says nothing is taken for one that does not start.
    """
    is_asked_for = bool(find_supervised(workers, processes))
    return is_asked_for or (CAN_FORK and is_awaited())


def find_supervised(workers: WorkersConfig, processes: ProcessesConfig) -> list[str]:
    """Return the keys of the settings that need a supervisor as they are set."""
    found = {
        "WORKERS": count_workers(workers.workers) > 1,
        "PROCESSES": bool(processes.processes),
        "SUPERVISOR": workers.supervisor == "on",
        "RELOAD": workers.reload,
        "USER": workers.user is not None,
        "GROUP": workers.group is not None,
        "CONTROL_SOCKET": workers.control_socket is not None,
        "WORKER_MAX_REQUESTS": workers.worker_max_requests is not None,
        "WORKER_MAX_AGE": workers.worker_max_age is not None,
        "WORKER_MAX_MEMORY": workers.worker_max_memory is not None,
    }
    return [key for key, is_set in found.items() if is_set]
