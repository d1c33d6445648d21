"""The benchmark of static files: its servers, and its table."""

from __future__ import annotations

import ssl
import urllib.request
from pathlib import Path

import pytest

from benchmarks import static_files
from benchmarks.processes import BenchmarkError
from benchmarks.static_files import Figure


@pytest.mark.e2e
@pytest.mark.parametrize("http2", [False, True], ids=["http1", "http2"])
def test_files_of_each_size_are_served(tmp_path: Path, http2: bool) -> None:
    folder = tmp_path / "static"
    folder.mkdir()
    static_files.make_files(folder)
    launch = static_files.make_launch(tmp_path, http2=http2)
    trusting = ssl._create_unverified_context()

    with static_files.started(static_files.djserve, launch, folder, 0) as server:
        assert server.url.startswith("https://" if http2 else "http://")
        for name, size in static_files.SIZES.items():
            url = f"{server.url}/static/{static_files.file_name(name)}"
            with urllib.request.urlopen(url, timeout=60, context=trusting) as response:
                assert len(response.read()) == size


def test_server_without_http2_is_left_out(tmp_path: Path) -> None:
    launch = static_files.make_launch(tmp_path, http2=True)

    with pytest.raises(BenchmarkError, match="HTTP/2"):
        static_files.uvicorn(launch, tmp_path)
    for make in (static_files.djserve, static_files.granian, static_files.hypercorn):
        assert str(launch.certificate) in make(launch, tmp_path)


def test_table_compares_each_server_with_djserve() -> None:
    figures = {
        ("djserve", "1 KiB"): Figure(2000.0, 450.0),
        ("nginx", "1 KiB"): Figure(3000.0, 300.0),
    }
    lines = static_files.render(figures).splitlines()

    assert lines[0].startswith("| Server | 1 KiB | CPU | 64 KiB | CPU |")
    assert lines[2] == "| djserve | 2,000 /s | 450 µs | none |  | none |  |"
    assert lines[3] == "| nginx | 3,000 /s (1.50) | 300 µs | none |  | none |  |"
