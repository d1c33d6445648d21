"""The benchmark of static files: its servers, and its table."""

from __future__ import annotations

import urllib.request
from pathlib import Path

import pytest

from benchmarks import static_files


@pytest.mark.e2e
def test_files_of_each_size_are_served(tmp_path: Path) -> None:
    folder = tmp_path / "static"
    folder.mkdir()
    static_files.make_files(folder)

    with static_files.started(static_files.djserve, folder, 0) as server:
        for name, size in static_files.SIZES.items():
            url = f"{server.url}/static/{static_files.file_name(name)}"
            with urllib.request.urlopen(url, timeout=60) as response:
                assert len(response.read()) == size


def test_table_compares_each_server_with_djserve() -> None:
    figures = {("djserve", "1 KiB"): 2000.0, ("nginx", "1 KiB"): 3000.0}
    lines = static_files.render(figures).splitlines()

    assert lines[2] == "| djserve | 2,000 /s | failed | failed |"
    assert lines[3] == "| nginx | 3,000 /s (1.50) | failed | failed |"
