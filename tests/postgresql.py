"""The names of ``tests.support.postgresql``, for imports that are older than it."""

from __future__ import annotations

from tests.support.postgresql import running_postgresql as running_postgresql
