"""Dates as HTTP writes them."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from djserve.dates import http_date


@pytest.mark.parametrize(
    "seconds",
    [
        *(0, 0.999, 784111777, 951782400, 1709164799.5, 1767225600, 4102444799),
        # Before the epoch, as files may say of themselves: cut down, not towards it.
        *(-1, -86401),
    ],
)
def test_date_is_that_of_the_email_package(seconds: float) -> None:
    assert http_date(seconds) == formatdate(seconds, usegmt=True).encode()


def test_example_of_the_specification() -> None:
    assert http_date(784111777) == b"Sun, 06 Nov 1994 08:49:37 GMT"


def test_each_month_and_day_has_its_name() -> None:
    days = range(0, 366 * 86400, 86400)

    assert [http_date(day).decode() for day in days] == [
        formatdate(day, usegmt=True) for day in days
    ]
