"""What a process is: a server alone, a supervisor, or a supervisor's child."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from djserve.server.launch import launch, prepare_reactor
from djserve.supervisor.birth import Birth, count_workers
from djserve.supervisor.systemd import adopt_activation
from djserve.supervisor.upgrade import Inheritance

if TYPE_CHECKING:
    from djserve.conf.schema import ServerConfig
    from djserve.server.lifecycle import ExitCode
    from djserve.supervisor.program import Program


logger = logging.getLogger("djserve")


def run(config: ServerConfig, program: Program) -> ExitCode:
    """Serve until a signal ends it, and return how the process ends.

    Raises ConfigError where the configuration or the application is wrong.
    """
    birth = Birth.take()
    if birth is not None:
        from djserve.supervisor.child import run_child

        return run_child(birth, config, program)
    given = config
    config = adopt_activation(config)
    inheritance = Inheritance.take()
    if needs_supervisor(config) or inheritance is not None:
        # A server alone needs nothing of it.
        from djserve.supervisor.arbiter import Arbiter

        return Arbiter(config, inheritance).run()
    reactor = prepare_reactor()
    loaded = program.load()
    if loaded.config is not None:
        is_activated = config is not given
        bind = config.bind if is_activated else loaded.config.bind
        config = replace(loaded.config, bind=bind)
        if needs_supervisor(config):
            logger.warning(
                "One process runs: give --workers on the command line, or "
                "DJANGO_SETTINGS_MODULE, since the settings were known too late"
            )
    stats = program.thread_stats
    return launch(loaded.application, config, reactor, loaded.notes, stats)


def needs_supervisor(config: ServerConfig) -> bool:
    """Tell whether a setting asks for more than one process gives."""
    workers = config.workers
    return (
        count_workers(workers.workers) > 1
        or workers.supervisor == "on"
        or workers.reload
        or workers.user is not None
        or workers.group is not None
        or workers.control_socket is not None
        or workers.worker_max_requests is not None
        or workers.worker_max_age is not None
        or workers.worker_max_memory is not None
    )
