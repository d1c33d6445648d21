"""What the server tells of itself: loggers, the access log, the development log."""

from __future__ import annotations
