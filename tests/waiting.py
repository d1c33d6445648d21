"""The names of ``tests.support.waiting``, for imports that are older than it."""

from __future__ import annotations

from tests.support.waiting import PATIENCE as PATIENCE
from tests.support.waiting import settle as settle
from tests.support.waiting import settle_with_data as settle_with_data
from tests.support.waiting import wait_until as wait_until
