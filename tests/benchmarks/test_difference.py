"""The picture of the README shows what is published."""

from __future__ import annotations

from benchmarks.difference import PAGE, PICTURE, ROWS, read_ratios, render


def test_every_row_is_published() -> None:
    assert list(read_ratios(PAGE.read_text("utf-8"))) == list(ROWS)


def test_picture_is_of_the_published_results() -> None:
    ratios = read_ratios(PAGE.read_text("utf-8"))

    assert PICTURE.read_text("utf-8") == render(ratios)
    assert all(f">{ratio:.1f} x<" in PICTURE.read_text() for ratio in ratios.values())
