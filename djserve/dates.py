"""Dates as HTTP writes them, without the email package, which is long to import."""

from __future__ import annotations

import time

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun"),
    *("Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def http_date(seconds: float) -> bytes:
    """Return a time since the epoch as an IMF-fixdate (RFC 9110 section 5.6.7).

    A fraction of a second is cut off. The names are English, whatever the locale is.
    """
    year, month, day, hour, minute, second, weekday, *_ = time.gmtime(seconds // 1)
    text = (
        f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} "
        f"{hour:02}:{minute:02}:{second:02} GMT"
    )
    return text.encode("ascii")
