"""How long requests took, by the name of their view: a table on a worker's board.

A row has the view's name, how many requests fell into each bucket, and the sum of
their times in nanoseconds. The worker alone adds rows; who reads the board finds the
names in it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TypeAlias

ROWS = 256
"""Views with a row; further ones share the last row, that of ``OTHERS``."""

OTHERS = "(other views)"

NAME = 16
"""Words of a name: longer ones are cut, to 128 bytes of UTF-8."""

Numbers: TypeAlias = "memoryview[int]"


def table_size(buckets: int) -> int:
    """Return the numbers that a table with so many buckets takes."""
    return (ROWS + 1) * (NAME + buckets + 1)


class ViewTimes:
    """The table that begins at ``start`` of a board's numbers."""

    def __init__(self, numbers: Numbers, start: int, buckets: int) -> None:
        self._numbers = numbers
        self._start = start
        self._sum = NAME + buckets
        self._width = self._sum + 1
        self._rows: dict[str, int] = {}

    def add(self, view: str, bucket: int, nanoseconds: int) -> None:
        """Count one request."""
        row = self._rows.get(view)
        if row is None:
            row = self._find_row(view)
        self._numbers[row + NAME + bucket] += 1
        self._numbers[row + self._sum] += nanoseconds

    def read(self) -> dict[str, list[int]]:
        """Return the requests in each bucket and the sum of their times, by view."""
        found: dict[str, list[int]] = {}
        for number in range(ROWS + 1):
            start = self._start + number * self._width
            row = self._numbers[start : start + self._width].tolist()
            if not row[0]:
                # Rows are used in their order, except for the last one.
                continue
            text = b"".join(word.to_bytes(8, sys.byteorder) for word in row[:NAME])
            name = text.rstrip(b"\0").decode(errors="replace")
            # Two long names may have been cut to the same one.
            known = found.get(name, [0] * (self._width - NAME))
            found[name] = [a + b for a, b in zip(known, row[NAME:], strict=True)]
        return found

    def add_all(self, others: Mapping[str, list[int]]) -> None:
        """Add what another table has read."""
        for view, figures in others.items():
            row = self._rows.get(view) or self._find_row(view)
            for offset, figure in enumerate(figures):
                self._numbers[row + NAME + offset] += figure

    def _find_row(self, view: str) -> int:
        """Return the place of a view that has none yet."""
        if len(self._rows) >= ROWS or view == OTHERS:
            # Not remembered: their names might be without end.
            row = self._start + ROWS * self._width
            self._write_name(row, OTHERS)
            return row
        row = self._start + len(self._rows) * self._width
        self._write_name(row, view)
        self._rows[view] = row
        return row

    def _write_name(self, row: int, name: str) -> None:
        text = name.encode(errors="replace")[: NAME * 8].ljust(NAME * 8, b"\0")
        words = memoryview(text).cast("Q")
        # The first word last: with it, the row is in use.
        for offset in range(NAME - 1, -1, -1):
            self._numbers[row + offset] = words[offset]
