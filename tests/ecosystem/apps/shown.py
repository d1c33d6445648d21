"""What the applications of other frameworks show, in the form of the Django project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from tests.ecosystem.users import DEFAULT_LANGUAGE, DEFAULT_ZONE

PARTS = 3
PAUSE = 0.02

who: ContextVar[str] = ContextVar("who", default="")


class Failure(Exception):
    """A fault of a view; its text is the user's name."""


def surroundings(headers: Mapping[str, str]) -> dict[str, Any]:
    """Note whose request this is, and return what was noted before."""
    before = who.get()
    who.set(headers["x-who"])
    return {
        "before": before,
        "language": headers.get("accept-language") or DEFAULT_LANGUAGE,
        "zone": headers.get("x-zone") or DEFAULT_ZONE,
        "seen": {},
    }


def page(found: dict[str, Any]) -> str:
    """Return what was found, with whose request it is by now, in a page."""
    return f"<pre>{json.dumps({**found, 'who': who.get()})}</pre>"


def line(found: dict[str, Any], name: str) -> str:
    return json.dumps({**found, "who": name}) + "\n"


def message(headers: Mapping[str, str]) -> dict[str, Any]:
    """Return what a socket shows; its language and time zone are the defaults."""
    found = surroundings(headers)
    usual = {"language": DEFAULT_LANGUAGE, "zone": DEFAULT_ZONE}
    return {**found, **usual, "who": who.get()}
