"""Temporary files for request content, and how much of the disk all of them take."""

from __future__ import annotations

import io
import logging
import tempfile
import time

from djserve.instrumentation import spooled

logger = logging.getLogger("djserve")

_LOG_INTERVAL = 60.0

_next_log = 0.0


def note_full_disk() -> None:
    """Log that requests are refused, once in a while."""
    global _next_log
    now = time.monotonic()
    if now >= _next_log:
        _next_log = now + _LOG_INTERVAL
        logger.warning(
            "Uploads are refused with 503: %d bytes of content are in temporary files "
            "(UPLOAD_DISK_LIMIT)",
            spooled.spooled_size(),
        )


class SpooledFile(io.BufferedRandom):
    """A file without a name; its space counts until it is closed."""

    def __init__(self) -> None:
        super().__init__(tempfile.TemporaryFile(mode="w+b", buffering=0))  # noqa: SIM115
        self._claimed = 0

    def claim(self, size: int, limit: int | None) -> bool:
        """Ask for space before it is written to; False if all files have too much."""
        if not spooled.claim(size, limit):
            return False
        self._claimed += size
        return True

    def close(self) -> None:
        """Give the space back."""
        claimed, self._claimed = self._claimed, 0
        spooled.release(claimed)
        super().close()
