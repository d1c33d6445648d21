"""Leaves out of the system checks what a start knows the answer of."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.core import management
from django.core.checks import commands
from django.core.checks.registry import registry

if TYPE_CHECKING:
    from collections.abc import Iterator

# commands.E001: the two commands of migrations must have one autodetector.
_CHECK: Any = getattr(commands, "migrate_and_makemigrations_autodetector", None)

_COMMANDS = ("makemigrations", "migrate")

# This module is imported before the project's apps are.
_load_command_class = management.load_command_class


@contextmanager
def known_left_out() -> Iterator[None]:
    """Have Django's check of the migration commands not run if it is sure to pass.

    It imports both commands and with them most of ``django.db.migrations``, a
    fiftieth of a start's instructions, to compare an attribute of Django's own commands
    with itself.
    """
    checks: set[Any] = registry.registered_checks
    is_left_out = _CHECK in checks and _are_as_released()
    if is_left_out:
        checks.remove(_CHECK)
    try:
        yield
    finally:
        if is_left_out:
            checks.add(_CHECK)


def _are_as_released() -> bool:
    """Return whether both are Django's, and nothing has imported one to change it.

    An application may also have put functions of its own in place of those by which the
    check finds the two.
    """
    known = management.get_commands()
    return management.load_command_class is _load_command_class and all(
        known.get(name) == "django.core"
        and f"django.core.management.commands.{name}" not in sys.modules
        for name in _COMMANDS
    )
