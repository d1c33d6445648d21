"""``djserve module:attribute``: serve any ASGI application.

Takes Daphne's command line. Django is imported only by an application that uses it;
then ``settings.DJSERVE`` applies, and the command line overrides it.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import djserve
from djserve.conf.catalogue import DJANGO_SETTINGS
from djserve.conf.env_file import load_env_file
from djserve.conf.loader import load_for_production, merge_for_production
from djserve.conf.options import add_arguments, mapping_from_namespace
from djserve.conf.parser import parse
from djserve.conf.short_help import shorten_help
from djserve.conf.suggestions import suggest_flags
from djserve.errors import ConfigError
from djserve.files import open_table
from djserve.files.folders import describe_files
from djserve.responses import describe_compression
from djserve.server.banner import describe_webtransport
from djserve.server.launch import THREADS_TIMEOUT, exit_within, uses_django
from djserve.server.lifecycle import ExitCode
from djserve.server.loading import load_application
from djserve.server.redirect import describe_redirect
from djserve.supervisor import Loaded, Program, run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from djserve.conf.schema import ServerConfig

PROGRAM = "djserve"

EPILOG = """\
exit codes:
  0  stopped by SIGTERM or SIGINT
  1  an address cannot be listened on
  2  the command line, the settings or the application's name are wrong
  3  the application's start-up failed (ASGI lifespan)

To control a running server with workers (status, reload, scale, drain), use
"djserve-ctl", or "manage.py djserve" in a Django project.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    ``arguments`` default to those of the process. A wrong command line raises
    SystemExit, as argparse does.
    """
    options = build_parser().parse_args(arguments)
    # As with Daphne: the application is usually in the directory one stands in.
    sys.path.insert(0, os.path.abspath(options.app_dir))
    try:
        for path in options.env_file:
            load_env_file(path, os.environ)
        return _serve(options)
    except ConfigError as error:
        for problem in error.problems:
            print(f"{PROGRAM}: error: {problem}", file=sys.stderr)
        return ExitCode.CONFIG_WRONG


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} [options] module:attribute",
        description="Serve an ASGI application over HTTP and WebSocket.",
        epilog=EPILOG,
        formatter_class=partial(_Formatter, columns=80),
        allow_abbrev=False,
    )
    parser.add_argument(
        "application",
        metavar="module:attribute",
        help='The application, as in "mysite.asgi:application".',
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROGRAM} {djserve.__version__}"
    )
    parser.add_argument(
        "--app-dir",
        default=".",
        metavar="PATH",
        help="Directory to import the application from (default: the current one).",
    )
    parser.add_argument(
        "--env-file",
        action="append",
        default=[],
        metavar="PATH",
        help="File with environment variables, one NAME=value per line; variables "
        "that are set already are kept. May be given several times.",
    )
    parser.add_argument(
        "--factory",
        action="store_true",
        help="Treat the name as a factory, and call it for the application.",
    )
    add_arguments(parser, exclude=DJANGO_SETTINGS)
    shorten_help(parser, "--app-dir", "--env-file", "--factory")
    suggest_flags(parser)
    # Only what is printed depends on the terminal.
    parser.formatter_class = _Formatter
    return parser


def _serve(options: argparse.Namespace) -> int:
    mapping = mapping_from_namespace(options)
    # Wrong flags are told before the application, which may be slow, is imported.
    config = _read_config(mapping)

    def load_program() -> Loaded:
        application = load_application(options.application, is_factory=options.factory)
        late = load_for_production(mapping) if uses_django() else None
        used = late or config
        files = open_table(used.files)
        notes = describe_files(files, used.files)
        notes += describe_compression(used.compression)
        notes += describe_redirect(used.redirect)
        notes += describe_webtransport(used.http3)
        return Loaded(application, notes, late, files)

    code = run(config, Program(load=load_program))
    exit_within(THREADS_TIMEOUT, code)
    return code


def _read_config(mapping: Mapping[str, Any]) -> ServerConfig:
    """Return what is known before the application is imported.

    If the environment names Django's settings, they can be read already. Whether
    they are the application's at all is not known yet, so they may be missing.
    """
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        return parse(merge_for_production({}, mapping))
    try:
        return load_for_production(mapping)
    except ImportError:
        return parse(merge_for_production({}, mapping))


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help in 80 columns, flags on the left and a sentence on the right."""

    def __init__(self, prog: str, columns: int | None = None) -> None:
        if columns is None:
            import shutil

            columns = min(80, shutil.get_terminal_size().columns)
        super().__init__(prog, max_help_position=30, width=columns)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Return an option's flags, then its value once."""
        if not action.option_strings:
            return super()._format_action_invocation(action)
        # A second spelling, with underscores as Daphne has it, is not shown.
        flags = ", ".join(
            flag
            for flag in action.option_strings
            if "_" not in flag or flag.replace("_", "-") not in action.option_strings
        )
        if action.nargs == 0:
            return flags
        return f"{flags} {self._format_args(action, '')}"
