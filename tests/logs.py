"""The names of ``tests.support.logs``, for imports that are older than it."""

from __future__ import annotations

from tests.support.logs import own_messages as own_messages
from tests.support.logs import own_records as own_records
