from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from djserve.conf.catalogue import groups, settings_by_key
from djserve.conf.reference import PAGE, main, render

ROOT = Path(__file__).parents[2]


def test_page_in_the_docs_is_up_to_date() -> None:
    assert (ROOT / PAGE).read_text(encoding="utf-8") == render()


def test_every_setting_has_one_row_with_all_its_flags() -> None:
    lines = render().splitlines()
    settings = settings_by_key()
    rows = {
        key: [line for line in lines if line.startswith(f"| `{key}` ")]
        for key in settings
    }

    assert len(settings) > 100
    assert {key: len(found) for key, found in rows.items() if len(found) != 1} == {}
    for key, (row,) in rows.items():
        assert row.count(" | ") == 4
        assert [flag for flag in settings[key].flags if f"`{flag}`" not in row] == []


def test_every_group_has_a_heading() -> None:
    headings = [line for line in render().splitlines() if line.startswith("## ")]

    titles = [group.title for group in groups()]
    assert headings == [f"## {title}" for title in [*titles, "Daphne's command line"]]


def test_page_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == render()


def test_page_is_written_and_passes_the_check(tmp_path: Path) -> None:
    page = str(tmp_path / "settings.md")

    assert main(["--write", "--page", page]) == 0
    assert main(["--check", "--page", page]) == 0


@pytest.mark.parametrize("content", ["", None])
def test_check_fails_for_an_old_or_missing_page(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "settings.md"
    if content is not None:
        page.write_text(content)

    assert main(["--check", "--page", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err


@pytest.mark.e2e
def test_module_runs_as_a_command() -> None:
    command = [sys.executable, "-m", "djserve.conf.reference", "--check"]

    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 0
