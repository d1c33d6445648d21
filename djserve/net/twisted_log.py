"""Twisted's log, handed to where logging is set up."""

from __future__ import annotations

from twisted import logger

from djserve.instrumentation.logging import redirect_twisted


def redirect() -> None:
    """Route Twisted's log to the logger "djserve.twisted"; may be called again."""
    redirect_twisted(logger)
