"""The pages of docs/guides that are made from the rules."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from djserve.doctor.reference import FOLDER, main
from djserve.doctor.translate import SERVERS


def test_pages_are_what_the_rules_say() -> None:
    assert main(["--check"]) == 0


def test_page_that_differs_is_named_and_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for server in SERVERS.values():
        shutil.copy(FOLDER / server.guide, tmp_path)
    page = tmp_path / "from-daphne.md"
    page.write_text(page.read_text().replace("| `--root-path`", "| `--other`"))
    check = ["--check", "--folder", str(tmp_path)]

    assert main(check) == 1
    assert "from-daphne.md" in capsys.readouterr().err
    assert main(["--write", "--folder", str(tmp_path)]) == 0
    assert main(check) == 0


def test_every_flag_has_a_row() -> None:
    for server in SERVERS.values():
        text = (FOLDER / server.guide).read_text()
        flags = {flag for rule in server.rules for flag in rule.flags}

        assert [flag for flag in flags if f"`{flag}`" not in text] == []
