"""The ids of all checks, and what holds for each message."""

from __future__ import annotations

import ast
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest
from django.core.checks import CheckMessage
from django.test import override_settings

from djserve.checks import channel_layers, packages, project
from tests.checks.messages import ids

ROOT = Path(__file__).parents[1]
MODULES = (project, channel_layers, packages)


def ids_in_source() -> list[str]:
    trees = [ast.parse(inspect.getsource(module)) for module in MODULES]
    return [
        keyword.value.value
        for tree in trees
        for keyword in ast.walk(tree)
        if isinstance(keyword, ast.keyword)
        and keyword.arg == "id"
        and isinstance(keyword.value, ast.Constant)
        and isinstance(keyword.value.value, str)
    ]


def run_all() -> list[CheckMessage]:
    """Return what all checks have to say of the settings."""
    checks = [check for module in MODULES for check in module.CHECKS]
    return [message for check in checks for message in check(None)]


def test_each_id_is_given_in_one_place() -> None:
    counted = Counter(ids_in_source())

    assert counted
    assert set(counted.values()) == {1}


@pytest.mark.parametrize(
    "page", ["djserve/checks/__init__.py", "docs/reference/checks.md"]
)
def test_tables_list_every_id(page: str) -> None:
    lines = (ROOT / page).read_text().splitlines()
    found = [re.match(r"(?:\| `)?(djserve\.[EWI]\d+)", line) for line in lines]

    assert [match[1] for match in found if match] == sorted(ids_in_source())


@override_settings(DEBUG=True, DJSERVE={"NOPE": 1})
def test_wrong_configuration_is_reported_once() -> None:
    messages = [
        message
        for module in MODULES
        for check in module.CHECKS
        for message in check(None)
    ]

    assert ids(messages) == ["djserve.E001"]


@override_settings(DJSERVE={"NOPE": 1}, DAPHNE_WEBSOCKET_MAX_FRAME_SIZE=5)
def test_every_message_has_a_hint() -> None:
    messages = [
        message
        for module in MODULES
        for check in module.CHECKS
        for message in check(None)
    ]

    assert len(messages) == 2
    assert all(message.hint for message in messages)
