"""Sentry as its guide starts it, but what it would send is dropped in the process."""

from __future__ import annotations

from typing import Any

import sentry_sdk
from sentry_sdk.transport import Transport


class Drop(Transport):
    """Sends nothing."""

    def capture_envelope(self, envelope: Any) -> None:
        """Drop it."""


def start() -> None:
    """Begin to trace a tenth of all requests; before the application is made."""
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1", traces_sample_rate=0.1, transport=Drop
    )
