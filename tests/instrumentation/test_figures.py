"""What the formats have in common; the figures themselves are in test_metrics."""

from __future__ import annotations

from djserve.instrumentation.board import BUCKETS, Board, Figure
from djserve.instrumentation.figures import Family, FigureKind, Histogram, read_figures


def find(families: list[Family], name: str) -> Family:
    (found,) = [family for family in families if family.name == name]
    return found


def test_families_have_different_names_and_whole_labels(board: Board) -> None:
    board.set_views({"index": (1, 2)})
    board.view_times.add("index", 3, 500_000_000)
    families = read_figures([("7", board)], processes=[("beat", 1, 0)])

    assert len({family.name for family in families}) == len(families) > 20
    for family in families:
        samples = family.histograms or family.values
        assert all(len(labels) == len(family.labels) for labels in samples)
        is_histogram = family.kind is FigureKind.HISTOGRAM
        assert is_histogram or not family.histograms


def test_histograms_have_a_count_for_each_bucket(board: Board) -> None:
    board.view_times.add("index", 3, 500_000_000)
    family = find(read_figures([("7", board)]), "view_duration_seconds")

    counts = [0] * (len(BUCKETS) + 1)
    counts[3] = 1
    assert family.histograms == {("index",): Histogram(tuple(counts), 0.5)}


def test_processes_are_told_where_there_are_any(board: Board) -> None:
    board.numbers[Figure.CALLS] = 3
    families = read_figures([("7", board)], processes=[("beat", 2, 5)])

    assert find(families, "processes").values == {("beat",): 2}
    assert find(families, "process_restarts").values == {("beat",): 5}
    assert find(families, "requests_in_flight").values == {(): 3}
    names = {family.name for family in read_figures([("7", board)])}
    assert "processes" not in names
