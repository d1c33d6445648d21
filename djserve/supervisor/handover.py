"""From a process that has loaded the project to a supervisor that has not.

``manage.py`` reads the settings and loads the apps before it comes to a command, and an
app may start threads then. The process that is to be the supervisor therefore becomes
another program (execve): the same process, with none of the project's code and threads.
What that program needs of the settings travels in a file in memory.
"""

# Why the supervisor becomes another program
#
# A supervisor should outlive every version of the project's code, so it must not have
# imported any. But ``manage.py`` has, before it comes to the command. It cannot be
# forked either, since apps may have started threads. So the process replaces its own
# program: the process id stays, which systemd, a container or a shell has noted, and
# nothing else does but what is passed on by intention.
#
# - The settings travel in a file in memory, by its number, since they contain
#   passwords: all users can read a command line, and every program that is started from
#   here inherits the environment.
# - The environment is the one that the process was started with. Variables that the
#   project has set, from a .env file for example, would otherwise be inherited by every
#   later generation of its code, and a changed file would never count.
# - Signals are held during the change. One that comes between the two programs would
#   have its default action, which is the end.
# - LOGGING is passed on if its classes come from Python or an installed package. The
#   project's own would be an import of its code; then the supervisor logs plainly, and
#   says so once.
# - What was still in the buffers of standard output is written before: the new program
#   has buffers of its own.

from __future__ import annotations

import importlib.util
import json
import logging.config
import os
import pickle
import sys
import sysconfig
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from djserve.conf.loader import configure_without_project
from djserve.errors import ConfigError
from djserve.instrumentation.board import create_memory
from djserve.server.lifecycle import ExitCode
from djserve.supervisor import processes
from djserve.supervisor.inheritance import Inheritance
from djserve.supervisor.processes import command_line
from djserve.supervisor.signals import hold_signals
from djserve.supervisor.systemd import adopt_activation, read_first_environment

if TYPE_CHECKING:
    from djserve.conf.schema import ServerConfig

logger = logging.getLogger("djserve")

VARIABLE = "DJSERVE_INHERITED_SETTINGS"
BOOTSTRAP = (
    "import sys; sys.path[:] = {path!r}; "
    "from djserve.supervisor.handover import main; sys.exit(main())"
)


@dataclass(frozen=True)
class Handover:
    """What a supervisor needs of the process that it was."""

    config: ServerConfig
    logging: dict[str, Any] | None
    logging_problem: str
    debug: bool
    timezone: str | None
    command: list[str] = field(default_factory=command_line)

    @classmethod
    def take(cls, environ: MutableMapping[str, str] = os.environ) -> Handover:
        """Return what was handed over to this process."""
        with open(int(environ.pop(VARIABLE)), "rb") as file:
            handover = pickle.load(file)
        assert isinstance(handover, cls)
        return handover

    def become(self) -> NoReturn:
        """Replace this program by the supervisor's; its process stays."""
        memory = create_memory("djserve-handover", 0)
        with open(memory, "wb", closefd=False) as file:
            pickle.dump(self, file)
        os.lseek(memory, 0, os.SEEK_SET)
        os.set_inheritable(memory, True)
        # What the project has set is not for the processes that load it again, or a
        # changed .env file would never count; and Twisted has removed LISTEN_FDS.
        environment = {**read_first_environment(), VARIABLE: str(memory)}
        hold_signals()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        code = BOOTSTRAP.format(path=sys.path)
        # The rest is for ps(1): the command as it was given.
        arguments = [sys.executable, *interpreter_options(), "-c", code]
        os.execve(sys.executable, [*arguments, *sys.argv], environment)


def interpreter_options() -> list[str]:
    """Return the options that this interpreter was started with, such as -X dev."""
    count = len(sys.orig_argv) - len(sys.argv)
    options = sys.orig_argv[1 : max(1, count)]
    # -m and -c stand before the name of the program, which is not among them.
    return options[:-1] if options and options[-1] in ("-m", "-c") else options


def find_logging(given: object) -> tuple[dict[str, Any] | None, str]:
    """Return LOGGING for a process without the project, or why that has none.

    Its classes must come with Python or with an installed package.
    """
    if not given:
        return None, ""
    try:
        copied: dict[str, Any] = json.loads(json.dumps(given, default=os.fspath))
    except (TypeError, ValueError) as error:
        return None, str(error)
    for name in _class_names(copied):
        if not _is_installed(name.partition(".")[0]):
            return None, f"{name} is the project's own"
    return copied, ""


def apply_logging(handover: Handover) -> None:
    """Set up logging as the project has it, as far as that needs no project."""
    problem = handover.logging_problem
    if handover.logging is not None:
        try:
            logging.config.dictConfig(handover.logging)
        except Exception as error:
            problem = f"{type(error).__name__}: {error.__cause__ or error}"
    if problem:
        logger.warning("The supervisor logs without LOGGING: %s", problem)


def _class_names(value: object) -> Iterator[str]:
    """Yield the dotted names of the classes and factories in a LOGGING dict."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("class", "()") and isinstance(item, str):
                yield item
            else:
                yield from _class_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _class_names(item)


def _is_installed(package: str) -> bool:
    """Return whether a package is Python's own or installed, without importing it."""
    if package in sys.stdlib_module_names or package in ("djserve", "django"):
        return True
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    origin = "" if spec is None else spec.origin or ""
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    return origin.startswith(tuple(f"{folder}{os.sep}" for folder in folders)) or (
        f"{os.sep}site-packages{os.sep}" in origin
    )


def main() -> int:
    """Supervise until a signal ends it; return the exit code."""
    # The process that hands over needs none of it.
    from djserve.supervisor.arbiter import Arbiter

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
