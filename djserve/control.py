"""``djserve-ctl``: look at a running supervisor, and tell it what to do.

Imports nothing of the project and reads none of its settings, so it works, and its exit
code is true, whatever state the code on disk is in. ``manage.py djserve`` is the same
with the socket of the settings.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import djserve
from djserve.conf.processes import OWN_NAME
from djserve.conf.suggestions import suggest_flags
from djserve.errors import ConfigError
from djserve.instrumentation.status_page import format_status
from djserve.net.control import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PROGRAM = "djserve-ctl"
VARIABLE = "DJSERVE_CONTROL_SOCKET"
TIMEOUT = 10.0
POLL_INTERVAL = 0.1

DESCRIPTION = (
    "Show the workers of a running server; reload, drain or scale it. "
    "Nothing of the project is imported. The servers are started by "
    "`manage.py runasgi` and the command `djserve`."
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 only if all of it was done."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=DESCRIPTION, allow_abbrev=False
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROGRAM} {djserve.__version__}"
    )
    add_commands(parser, f"default: ${VARIABLE}")
    options = vars(parser.parse_args(arguments))
    try:
        path = options["control_socket"] or os.environ.get(VARIABLE)
        if not path:
            raise ConfigError([f"Give --control-socket, or set {VARIABLE}"])
        Control(path, _print).run(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{PROGRAM}: error: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def add_commands(
    parser: argparse.ArgumentParser, default: str
) -> argparse._SubParsersAction[Any]:
    """Add the options and the commands; ``default`` is where the path comes from.

    Returns what further commands can be added to.
    """
    parser.add_argument(
        "--control-socket",
        metavar="PATH",
        help=f"The supervisor's control socket ({default}).",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    suggest_flags(parser)
    status = commands.add_parser("status", help="Show the workers.")
    status.add_argument("--json", action="store_true", help="As JSON.")
    status.add_argument(
        "--watch", action="store_true", help="Again every second, until Ctrl-C."
    )
    status.add_argument(
        "--stacks", action="store_true", help="With each request's stack."
    )
    reload = commands.add_parser("reload", help="Replace the workers by new code.")
    reload.add_argument(
        "--no-wait", action="store_true", help="Do not wait for the outcome."
    )
    commands.add_parser("drain", help="Finish all requests and stop.")
    scale = commands.add_parser(
        "scale", help="Change the number of workers, or of a process of PROCESSES."
    )
    scale.add_argument(
        "process",
        nargs="?",
        default=OWN_NAME,
        metavar="NAME",
        help="A key of PROCESSES; the workers by default.",
    )
    scale.add_argument("workers", type=int, metavar="N")
    return commands


class Control:
    """Ask the supervisor at a control socket; ``write`` gets what is to be shown.

    Raises ConfigError if the supervisor does not answer, refuses, or fails to do it.
    """

    def __init__(self, path: str, write: Callable[[str], object]) -> None:
        self._path = path
        self._write = write

    def run(self, options: Mapping[str, Any]) -> None:
        """Run the command that ``add_commands`` has parsed."""
        getattr(self, f"_{options['command']}")(options)

    def _status(self, options: Mapping[str, Any]) -> None:
        while True:
            status = self._ask({"command": "status"})
            if options["json"]:
                self._write(json.dumps(status, indent=2))
            else:
                page = format_status(status, stacks=options["stacks"])
                # Home and clear, as the terminal knows it.
                clear = "\x1b[H\x1b[2J" if options["watch"] else ""
                self._write(clear + page)
            if not options["watch"]:
                return
            time.sleep(1)

    def _reload(self, options: Mapping[str, Any]) -> None:
        before = self._ask({"command": "status"})["generation"]
        attempt = self._ask({"command": "reload"}).get("attempt")
        if options["no_wait"]:
            return
        while True:
            status = self._ask({"command": "status"})
            if status["is_stopping"]:
                raise ConfigError(["The server stops; the new code was not loaded"])
            outcome = _find_outcome(status, before, attempt)
            if outcome is not None:
                break
            time.sleep(POLL_INTERVAL)
        if outcome["state"] == "failed":
            problems = "\n".join(outcome["problems"])
            raise ConfigError([f"The old workers stay: {problems}"])
        self._write(f"Reloaded: generation {status['generation']}")

    def _drain(self, options: Mapping[str, Any]) -> None:
        self._ask({"command": "drain"})

    def _scale(self, options: Mapping[str, Any]) -> None:
        name, count = options["process"], options["workers"]
        if name == OWN_NAME and count < 1:
            problem = "At least one worker is needed; drain stops the server"
            raise ConfigError([problem])
        if count < 0:
            raise ConfigError([f"The number of {name} is at least 0, got {count}"])
        request: dict[str, Any] = {"command": "scale", "workers": count}
        if name != OWN_NAME:
            request["process"] = name
        self._ask(request)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        answer = ask(self._path, request, TIMEOUT)
        if "error" in answer:
            raise ConfigError([f"The supervisor refused: {answer['error']}"])
        return answer


def _find_outcome(
    status: dict[str, Any], before: int, attempt: int | None
) -> dict[str, Any] | None:
    """Return how the reload that was asked for has ended, None while it has not.

    Another may have been under way, and another may follow. A supervisor of a version
    that does not number them is asked by the generation.
    """
    outcome: dict[str, Any] = status["reload"]
    if attempt is None:
        is_over = outcome["state"] == "failed" or (
            outcome["state"] == "done" and status["generation"] > before
        )
        return outcome if is_over else None
    for known in (outcome, outcome.get("previous") or {}):
        if known.get("attempt") == attempt and known["state"] in ("done", "failed"):
            return known
    if outcome["attempt"] > attempt + 1:
        raise ConfigError(["Others have reloaded since; see status"])
    return None


def _print(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
