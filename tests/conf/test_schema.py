from __future__ import annotations

import dataclasses

import pytest

from djserve.conf.schema import BindConfig, HTTPConfig, ServerConfig


def test_configuration_without_settings_is_complete() -> None:
    config = ServerConfig()

    assert config.bind.bind == ("127.0.0.1:8000",)
    assert config.workers.workers == 1
    assert config.tls.certfile is None


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerConfig().bind.backlog = 1  # type: ignore[misc]


def test_groups_take_keywords_only() -> None:
    with pytest.raises(TypeError):
        BindConfig(("127.0.0.1:1",))  # type: ignore[call-arg]
    assert HTTPConfig(server_name="x").server_name == "x"
