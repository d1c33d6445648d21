"""What djserve's commands do before the project's apps are loaded.

``manage.py`` calls every ``AppConfig.ready()`` before it looks for a command. A process
that is to be a supervisor, or that only talks to one, needs none of that: it is told
apart here, while Django reads INSTALLED_APPS and comes to djserve's.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from djserve.collector import collect_seldom
from djserve.conf.process import become_worker
from djserve.errors import ConfigError
from djserve.server.first_signals import hold

if TYPE_CHECKING:
    from types import FrameType


def act_early() -> None:
    """Do what the command line of Django that is being executed asks of djserve.

    Returns in a process that continues to load the project.
    """
    arguments = _find_command_line()
    command = arguments[1] if len(arguments) > 1 else ""
    # The doctor looks at the whole project.
    if command == "djserve" and "doctor" not in arguments:
        _control(arguments)
    elif command == "runasgi":
        _serve(arguments)
    elif command == "runserver":
        from django.utils.autoreload import DJANGO_AUTORELOAD_ENV

        is_reloaded = os.environ.get(DJANGO_AUTORELOAD_ENV) == "true"
        if is_reloaded or "--noreload" in arguments:
            collect_seldom()
            become_worker()


def _find_command_line() -> list[str]:
    """Return the arguments of the command line under way, [] if there is none."""
    if "django.core.management" not in sys.modules:
        return []
    from django.core.management import ManagementUtility

    code = ManagementUtility.execute.__code__
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code is code:
            arguments: list[str] = frame.f_locals["self"].argv
            return arguments
        frame = frame.f_back
    return []


def _control(arguments: list[str]) -> None:
    from djserve.management.commands.djserve import Command

    Command().run_from_argv(arguments)
    sys.exit()


def _serve(arguments: list[str]) -> None:
    """Become the supervisor, if one is needed."""
    hold()
    collect_seldom()
    # Django's own modules, which stay: ``keep_loaded`` need not look at them again.
    gc.freeze()
    try:
        from djserve.management.commands.runasgi import Command
    except ConfigError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    from djserve.supervisor.inheritance import is_child, keep_environment

    if is_child():
        keep_environment()
        return

    Command().become_role(arguments)
