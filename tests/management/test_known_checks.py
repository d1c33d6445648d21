"""The check of the migration commands is left out only if it is sure to pass."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import pytest
from django.core import management
from django.core.checks import commands, run_checks
from django.core.checks.registry import registry

from djserve.management.known_checks import known_left_out

CHECK: Any = commands.migrate_and_makemigrations_autodetector
NAMES = ("makemigrations", "migrate")


@pytest.fixture(autouse=True)
def not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        module = f"django.core.management.commands.{name}"
        monkeypatch.delitem(sys.modules, module, raising=False)


def test_check_does_not_run_in_the_block_alone() -> None:
    with known_left_out():
        assert CHECK not in registry.registered_checks

    assert CHECK in registry.registered_checks


def test_commands_are_not_imported() -> None:
    with known_left_out():
        run_checks(tags=["commands"])

    imported = {name.rpartition(".")[2] for name in sys.modules if ".commands." in name}
    assert imported.isdisjoint(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_check_runs_if_an_app_has_such_a_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = dict.fromkeys(NAMES, "django.core") | {name: "shop"}
    monkeypatch.setattr(management, "get_commands", lambda: known)

    with known_left_out():
        assert CHECK in registry.registered_checks


@pytest.mark.parametrize("name", NAMES)
def test_check_runs_if_something_may_have_changed_a_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module(f"django.core.management.commands.{name}")
    monkeypatch.setattr(module.Command, "autodetector", object)

    with known_left_out():
        found = run_checks(tags=["commands"])

    assert [message.id for message in found] == ["commands.E001"]


def test_check_runs_if_commands_are_loaded_in_another_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(app: str, name: str) -> Any:
        command: Any = original(app, name)
        if name == "migrate":
            command.autodetector = object
        return command

    original = management.load_command_class
    monkeypatch.setattr(management, "load_command_class", load)

    with known_left_out():
        found = run_checks(tags=["commands"])

    assert [message.id for message in found] == ["commands.E001"]


def test_check_that_a_project_has_taken_out_stays_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = registry.registered_checks - {CHECK}
    monkeypatch.setattr(registry, "registered_checks", left)

    with known_left_out():
        pass

    assert CHECK not in registry.registered_checks
