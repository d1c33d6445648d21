"""The documentation as a site: every link and anchor leads somewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir"]
    result = subprocess.run(
        [*command, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]

    missing = [
        page for page in pages if not (site / page).with_suffix(".html").exists()
    ]
    assert missing == []


def test_files_outside_of_the_pages_are_shown(site: Path) -> None:
    text = (site / "source" / "deploy" / "nginx.conf.html").read_text("utf-8")

    assert "proxy_pass" in text


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    page = (site / "index.html").read_text("utf-8")
    loaded = [line for line in page.splitlines() if "<script src=" in line]

    assert [line for line in loaded if "//" in line.partition("src=")[2][:12]] == []
    assert '<link rel="stylesheet" href="http' not in page
    assert "fonts.g" not in page
