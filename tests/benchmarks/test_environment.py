"""The benchmarks' own virtual environment."""

from __future__ import annotations

import venv
from pathlib import Path

import pytest

from benchmarks import environment


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return a list of what is made, nothing of which is."""
    made: list[Path] = []

    def create(target: Path, *, with_pip: bool) -> None:
        made.append(target)

    monkeypatch.setattr(venv, "create", create)
    monkeypatch.setattr(environment, "install", lambda python, requirements: None)
    return made


def put_programs(target: Path, *names: str) -> None:
    (target / "bin").mkdir()
    for name in names:
        (target / "bin" / name).touch()


def test_environment_is_made_once(made: list[Path], tmp_path: Path) -> None:
    environment.ensure(tmp_path, upgrade=False)
    put_programs(tmp_path, "python", "pip")
    environment.ensure(tmp_path, upgrade=False)

    assert made == [tmp_path]


def test_environment_that_was_left_without_pip_is_made_again(
    made: list[Path], tmp_path: Path
) -> None:
    # Interrupted in the seconds that pip takes: its Python is there by then.
    put_programs(tmp_path, "python")

    environment.ensure(tmp_path, upgrade=False)

    assert made == [tmp_path]
