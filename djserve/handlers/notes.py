"""Django's request, for those logs and metrics that ask for its view or its user.

Nothing of this is there before one of them is opened.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

from django.core.handlers.asgi import ASGIHandler

from djserve.instrumentation.notes import DJANGO_REQUEST, EXTENSION, REQUEST


def note_requests() -> None:
    """Let Django's ASGI handlers note the requests that they make. Called once."""
    create_request = ASGIHandler.create_request

    @wraps(create_request)
    def noting(self: ASGIHandler, scope: Any, body_file: Any) -> Any:
        made = create_request(self, scope, body_file)
        notes = scope.get("extensions", {}).get(EXTENSION)
        if notes is not None:
            notes[REQUEST] = made[0]
        return made

    ASGIHandler.create_request = noting  # type: ignore[method-assign]


def note_views() -> None:
    """Let Django's ASGI handlers leave their requests with the scope. Called once."""
    create_request = ASGIHandler.create_request

    @wraps(create_request)
    def noting(self: ASGIHandler, scope: Any, body_file: Any) -> Any:
        made = create_request(self, scope, body_file)
        extensions = scope.get("extensions")
        if extensions is not None:
            extensions[DJANGO_REQUEST] = made[0]
        return made

    ASGIHandler.create_request = noting  # type: ignore[method-assign]
