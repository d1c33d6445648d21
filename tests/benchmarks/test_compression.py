"""The benchmark of compression: its ways, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import compression


@pytest.mark.e2e
@pytest.mark.parametrize("name", compression.WAYS)
def test_each_way_compresses_or_does_not(name: str, tmp_path: Path) -> None:
    way = compression.WAYS[name]
    with compression.started(way, tmp_path, 0) as server:
        size = compression.sent_size(server, way, 50)

    is_compressed = bool(way.options) or way.middleware
    assert (size < 25 * 1024) is is_compressed


def test_table_has_a_row_for_each_way() -> None:
    figure = compression.Figure(1234.5, 0.8, 4321)
    keys = [(name, kib) for name in compression.WAYS for kib in compression.SIZES]
    lines = compression.render(dict.fromkeys(keys, figure)).splitlines()

    assert len(lines) == 2 + len(compression.WAYS)
    assert lines[2].startswith("| not compressed | 1,234 /s, 0.80 ms, 4,321 B |")
