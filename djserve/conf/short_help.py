"""A command's help cut to the options that most people want; ``--help-all`` has all.

Works on any argparse parser, and knows nothing of what the options do.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from djserve.conf.catalogue import settings_by_key

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMON_SETTINGS = (
    "BIND",
    "WORKERS",
    "THREADS",
    "RELOAD",
    "CERTFILE",
    "KEYFILE",
    "PROXY_HEADERS",
    "TRUSTED_PROXIES",
    "ACCESS_LOG",
    "LOG_JSON",
    "METRICS_BIND",
    "CONTROL_SOCKET",
    "SHUTDOWN_TIMEOUT",
)


def shorten_help(parser: argparse.ArgumentParser, *others: str) -> None:
    """Hide from ``--help`` all but the common settings, and add ``--help-all``.

    ``others`` are flags that stay in addition to the settings'. Called when the parser
    has all its options. Arguments without a flag always stay.
    """
    shown = {"--help", "--version", "--port", *others}
    for key in COMMON_SETTINGS:
        shown |= {*settings_by_key()[key].flags}
    hidden = {
        action: action.help
        for action in parser._actions
        if action.option_strings and shown.isdisjoint(action.option_strings)
    }
    for action in hidden:
        action.help = argparse.SUPPRESS
    parser.add_argument(
        "--help-all",
        action=_HelpAll,
        hidden=hidden,
        help=f"Show all options, {len(hidden)} more, and exit.",
    )


class _HelpAll(argparse.Action):
    """Print the help with what the short one hides."""

    def __init__(
        self,
        option_strings: Sequence[str],
        dest: str,
        *,
        hidden: dict[argparse.Action, str | None],
        help: str,
    ) -> None:
        super().__init__(
            option_strings, argparse.SUPPRESS, 0, default=argparse.SUPPRESS, help=help
        )
        self._hidden = hidden

    def __call__(
        self, parser: argparse.ArgumentParser, *args: object, **kwargs: object
    ) -> None:
        for action, text in self._hidden.items():
            action.help = text
        parser.print_help()
        parser.exit()
