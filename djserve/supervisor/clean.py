"""A supervisor's program, in a process that has lost the project (``handover``)."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

from djserve.conf.loader import configure_without_project
from djserve.errors import ConfigError
from djserve.server.lifecycle import ExitCode
from djserve.supervisor import processes
from djserve.supervisor.arbiter import Arbiter
from djserve.supervisor.handover import Handover, apply_logging
from djserve.supervisor.inheritance import Inheritance
from djserve.supervisor.systemd import adopt_activation


def main() -> int:
    """Supervise until a signal ends it; return the exit code."""
    handover = Handover.take()
    processes.given_command = handover.command
    if handover.timezone is not None:
        os.environ["TZ"] = handover.timezone
        time.tzset()
    # Filters of Django's in LOGGING ask for DEBUG.
    configure_without_project(debug=handover.debug)
    try:
        inheritance = Inheritance.take()
        config = handover.config
        bind = adopt_activation(config.bind, config.redirect)
        arbiter = Arbiter(replace(config, bind=bind), inheritance)
        return arbiter.run(lambda: apply_logging(handover))
    except ConfigError as error:
        for problem in error.problems:
            print(f"djserve: error: {problem}", file=sys.stderr)
        return ExitCode.CONFIG_WRONG
