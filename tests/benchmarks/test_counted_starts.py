"""What the count of a start is a count of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import counted_starts
from benchmarks.processes import BenchmarkError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.e2e


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in counted_starts.FILES.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("kind", counted_starts.COMMANDS)
def test_start_ends_with_the_first_answer(kind: str, folder: Path) -> None:
    command = counted_starts.COMMANDS[kind]

    errors = counted_starts.start_once((), command, folder)

    assert "Listening on" in errors
    assert counted_starts.count_modules(errors) > 100
    # The next one compiles nothing.
    assert [*(folder / "compiled").rglob("main_loop.*.pyc")]


def test_start_that_fails_is_told(folder: Path) -> None:
    (folder / "start_raw.py").write_text("raise OSError('not now')")

    with pytest.raises(BenchmarkError, match="not now"):
        counted_starts.start_once((), counted_starts.COMMANDS["start"], folder)
