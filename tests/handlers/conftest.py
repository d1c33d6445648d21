from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings


@pytest.fixture(autouse=True)
def _no_channel_layer() -> Iterator[None]:
    """The demo project's opens sockets; the consumers of these tests need none."""
    with override_settings(CHANNEL_LAYERS={}):
        yield
