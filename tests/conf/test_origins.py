"""Where each setting in force comes from."""

from __future__ import annotations

import pytest
from django.test import override_settings

from djserve.conf.origins import list_origins


@override_settings(DJSERVE={"BACKLOG": 7, "KEEP_ALIVE_TIMEOUT": 7})
def test_each_setting_names_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJSERVE_KEEP_ALIVE_TIMEOUT", "9s")
    monkeypatch.setenv("PORT", "5005")
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    found = {origin.key: (origin.value, origin.source) for origin in list_origins()}

    assert found["BACKLOG"] == (7, "settings")
    assert found["KEEP_ALIVE_TIMEOUT"] == (9.0, "environment")
    assert found["BIND"] == (("0.0.0.0:5005",), "environment (PORT)")
    assert found["WORKERS"] == (1, "default")
