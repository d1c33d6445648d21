from __future__ import annotations

import pytest

from djserve.instrumentation.view_times import (
    OTHERS,
    ROWS,
    Numbers,
    ViewTimes,
    table_size,
)

BUCKETS = 3
START = 10


@pytest.fixture
def numbers() -> Numbers:
    """A board's numbers, with others in front of the table and behind it."""
    return memoryview(bytearray((START + table_size(BUCKETS) + 5) * 8)).cast("Q")


@pytest.fixture
def times(numbers: Numbers) -> ViewTimes:
    return ViewTimes(numbers, START, BUCKETS)


def test_requests_are_counted_by_view_and_bucket(times: ViewTimes) -> None:
    times.add("index", 0, 5)
    times.add("cart", 2, 7)
    times.add("index", 0, 6)
    times.add("index", 1, 10)

    assert times.read() == {"index": [2, 1, 0, 21], "cart": [0, 0, 1, 7]}


def test_another_process_reads_what_is_in_memory(
    times: ViewTimes, numbers: Numbers
) -> None:
    times.add("index", 1, 5)

    assert ViewTimes(numbers, START, BUCKETS).read() == {"index": [0, 1, 0, 5]}


def test_views_beyond_the_table_share_one_row(
    times: ViewTimes, numbers: Numbers
) -> None:
    for number in range(ROWS + 10):
        times.add(f"view{number}", number % BUCKETS, 1)
    found = times.read()

    assert len(found) == ROWS + 1
    assert found[f"view{ROWS - 1}"][-1] == 1
    assert found[OTHERS][-1] == sum(found[OTHERS][:-1]) == 10
    assert not any(numbers[:START])
    assert not any(numbers[-5:])


def test_view_that_is_called_like_the_shared_row_is_in_it(times: ViewTimes) -> None:
    times.add(OTHERS, 0, 1)
    times.add("index", 0, 1)
    times.add(OTHERS, 0, 1)

    assert times.read() == {"index": [1, 0, 0, 1], OTHERS: [2, 0, 0, 2]}


def test_long_names_are_cut_and_counted_together(times: ViewTimes) -> None:
    times.add("shop." + "x" * 200, 0, 1)
    times.add("shop." + "x" * 300, 1, 1)
    times.add("bücher", 2, 1)

    assert times.read() == {
        "shop." + "x" * 123: [1, 1, 0, 2],
        "bücher": [0, 0, 1, 1],
    }


def test_tables_are_added_by_the_names_of_their_views(times: ViewTimes) -> None:
    times.add("index", 0, 5)
    times.add_all({"cart": [1, 0, 0, 3], "index": [0, 2, 0, 4], OTHERS: [0, 0, 1, 9]})
    times.add_all({"cart": [1, 0, 0, 3]})

    assert times.read() == {
        "index": [1, 2, 0, 9],
        "cart": [2, 0, 0, 6],
        OTHERS: [0, 0, 1, 9],
    }
