"""The client of the mixed transfers, against djserve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.certificates import write_certificate
from benchmarks.http2_mixed import (
    DATA,
    END_STREAM,
    MIB,
    SMALL_COUNT,
    Figures,
    frame,
    transfer,
)


def test_frame_has_a_head_of_nine_bytes() -> None:
    assert frame(DATA, END_STREAM, 5, b"abc") == b"\0\0\3\0\1\0\0\0\5abc"


def test_figures_are_those_of_the_small_requests() -> None:
    delays = [0.001] * (SMALL_COUNT - 2) + [0.5, 0.5]
    figures = Figures(100 * MIB, 2.0, delays)

    assert figures.rate == 50
    assert figures.p50 == pytest.approx(1)
    assert figures.p99 == pytest.approx(500)


@pytest.mark.e2e
@pytest.mark.parametrize("direction", ["upload", "download"])
def test_transfer_ends_with_all_small_requests(
    tmp_path: Path, start_server: Callable[..., Any], free_port: int, direction: str
) -> None:
    certificate, key = write_certificate(tmp_path)
    words = ["-m", "djserve", "benchmarks.apps:transfer", "--bind"]
    words += [f"127.0.0.1:{free_port}", "--certfile", str(certificate)]
    start_server(
        *words,
        *("--keyfile", str(key)),
        port=free_port,
        env={"DJANGO_SETTINGS_MODULE": ""},
    )
    figures = transfer(free_port, **{direction: 4 * MIB})

    assert len(figures.delays) == SMALL_COUNT
    assert figures.size == 4 * MIB
