"""A request to its line in the combined or the common log format.

What many requests have in common is kept as text, ready to be put together.
"""

from __future__ import annotations

import time
from functools import cache
from typing import TYPE_CHECKING, TypeVar

from djserve.instrumentation.events import escape, request_target
from djserve.instrumentation.json_lines import format_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from djserve.instrumentation.events import RequestRecord
    from djserve.interfaces import RequestHead

    LineFormat = Callable[[RequestRecord, str, str], str]

K = TypeVar("K")

# NCSA's names, whatever the locale says.
MONTHS = (
    "Jan",
    "Feb",
    "Mar",
    "Apr",
    "May",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Oct",
    "Nov",
    "Dec",
)

# Ever new texts fill a store once; then they are as slow as without it.
KNOWN_LIMIT = 1024
KNOWN_SIZE_LIMIT = 256
# A browser's field lines, which come with each of a connection's requests; or a line.
FIELDS_SIZE_LIMIT = 1024
# Microseconds: what a request takes that waits for nothing.
DURATIONS_LIMIT = 2000


class Texts(dict[K, str]):
    """Texts by what they are made of, made once; bounded in number and in size.

    Addresses, paths, statuses: each comes in many lines, and to look a text up costs a
    tenth of making it (benchmark: access_log_cost).
    """

    def __init__(self, make: Callable[[K], str]) -> None:
        self._make = make

    def __missing__(self, key: K) -> str:
        text = self._make(key)
        if len(self) < KNOWN_LIMIT and len(text) <= KNOWN_SIZE_LIMIT:
            self[key] = text
        return text


def encode(text: str) -> bytes:
    """Return a text as it is written."""
    return text.encode("ascii", "replace")


def format_entry(record: RequestRecord, method: str, date: str) -> str:
    """Return a record's line: the combined log format, then the seconds it took.

    If tracing is on, the trace comes last.
    """
    trace = f" trace={record.trace_id}" if record.trace_id else ""
    duration = DURATIONS[(record.duration * 1e6 + 0.5).__trunc__()]
    common = _format_record(record, method, date)
    return f"{common}{find_fields(record.head)}{duration}{trace}\n"


def format_common(record: RequestRecord, method: str, date: str) -> str:
    """Return a record's line in the common log format."""
    return _format_record(record, method, date) + "\n"


def _format_record(record: RequestRecord, method: str, date: str) -> str:
    host = record.client[0] if record.client is not None else None
    return describe(host, date, method, record.head, record.status, record.size)


def describe(
    host: str | None, date: str, method: str, head: RequestHead, status: int, size: int
) -> str:
    """Return what a line tells of a request in both formats."""
    target = request_target(head) if head.query else PATHS[head.raw_path]
    return (
        f'{HOSTS[host]} - - [{date}] "{method} {target}{VERSIONS[head.http_version]}'
        f"{STATUSES[status]}{SIZES[size]}"
    )


def find_fields(head: RequestHead) -> str:
    """Return the Referer and the User-Agent of a request, and keep them if they repeat.

    Found by the field lines, if these have come before (benchmark: access_log_cost).
    """
    known = _known_fields.get(head.field_lines)
    if known is not None:
        return known
    referer = agent = "-"
    for name, value in head.headers:
        if name == b"user-agent":
            agent = AGENTS[value]
        elif name == b"referer":
            referer = escape(value.decode("latin-1")) or "-"
    text = f' "{referer}" "{agent}" '
    if head.field_lines and len(head.field_lines) + len(text) <= FIELDS_SIZE_LIMIT:
        if len(_known_fields) >= KNOWN_LIMIT:
            _known_fields.clear()
        _known_fields[head.field_lines] = text
    return text


@cache
def list_durations() -> list[bytes]:
    """Return the ends of lines by the microseconds that their requests took.

    To look one up in a list costs a third of what a dictionary does, and a tenth of
    making it (benchmark: access_log_cost).
    """
    return [end_with_duration(count) for count in range(DURATIONS_LIMIT)]


def end_with_duration(microseconds: int) -> bytes:
    """Return the end of a line: the seconds that its request took."""
    return b"%d.%06d\n" % divmod(microseconds, 1_000_000)


def format_date(second: int) -> str:
    """Return a time as in ``10/Oct/2000:13:55:36 -0700``, in the local zone."""
    local = time.localtime(second)
    sign = "-" if local.tm_gmtoff < 0 else "+"
    hours, minutes = divmod(abs(local.tm_gmtoff) // 60, 60)
    month = MONTHS[local.tm_mon - 1]
    day = f"{local.tm_mday:02d}/{month}/{local.tm_year}"
    clock = f"{local.tm_hour:02d}:{local.tm_min:02d}:{local.tm_sec:02d}"
    return f"{day}:{clock} {sign}{hours:02d}{minutes:02d}"


def _escape_host(host: str | None) -> str:
    return "-" if host is None else escape(host)


def _escape_bytes(value: bytes) -> str:
    return escape(value.decode("latin-1"))


def _name_version(version: str) -> str:
    # Other servers write these versions with two digits; log readers want them.
    if version in ("2", "3"):
        return f' HTTP/{version}.0" '
    return f' HTTP/{escape(version)}" '


# With the spaces that stand between them: the fewer parts are joined, the better.
HOSTS: Texts[str | None] = Texts(_escape_host)
METHODS: Texts[str] = Texts(lambda method: escape(method) or "-")
PATHS: Texts[bytes] = Texts(_escape_bytes)
AGENTS: Texts[bytes] = Texts(lambda value: _escape_bytes(value) or "-")
VERSIONS: Texts[str] = Texts(_name_version)
STATUSES: Texts[int] = Texts(lambda status: f"{status or '-'} ")
SIZES: Texts[int] = Texts(lambda size: str(size or "-"))
# By whole microseconds.
DURATIONS: Texts[int] = Texts(
    lambda count: end_with_duration(count)[:-1].decode("ascii")
)
_known_fields: dict[bytes, str] = {}

FORMATS: dict[str, LineFormat] = {
    "common": format_common,
    "combined": format_entry,
    "json": format_json,
}
