"""Code for applications of tests: every kind of exception, by its name."""

from __future__ import annotations

FAIL = '''
import asyncio
import builtins


class OwnBase(BaseException):
    """One that derives from BaseException alone."""


def recurse():
    recurse()


def fail(name):
    """Raise the exception of a name, "group" for an interrupt in a group."""
    if name == "RecursionError":
        recurse()
    if name in ("group", "BaseExceptionGroup"):
        raise BaseExceptionGroup("group", [KeyboardInterrupt("planned")])
    kinds = {"CancelledError": asyncio.CancelledError, "OwnBase": OwnBase}
    raise (kinds.get(name) or getattr(builtins, name))("planned")


'''
