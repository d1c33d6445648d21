"""What the tests of the checks look at."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.checks import CheckMessage


def ids(messages: Sequence[CheckMessage]) -> list[str | None]:
    """Return the ids of messages, in their order."""
    return [message.id for message in messages]
