from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.instrumentation import access_line
from djserve.instrumentation.access_line import Texts, format_date, format_entry
from djserve.instrumentation.events import RequestRecord
from tests.instrumentation.records import record

DATE = "10/Oct/2000:13:55:36 -0700"


def test_entry_has_the_combined_format_and_the_duration() -> None:
    headers = [
        (b"host", b"example.com"),
        (b"user-agent", b"curl/8.0"),
        (b"referer", b"http://example.com/start"),
    ]
    entry = format_entry(record(b"/a", b"b=1", headers), "GET", DATE)

    assert entry == (
        f'192.0.2.1 - - [{DATE}] "GET /a?b=1 HTTP/1.1" 200 5 '
        '"http://example.com/start" "curl/8.0" 0.012500\n'
    )


def test_trace_comes_last() -> None:
    request = record()
    request.trace_id = "0af7"

    assert format_entry(request, "GET", DATE).endswith(" 0.012500 trace=0af7\n")


def test_missing_values_are_dashes() -> None:
    entry = format_entry(record(client=None, status=0, size=0, duration=0), "GET", DATE)

    assert entry == f'- - - [{DATE}] "GET / HTTP/1.1" - - "-" "-" 0.000000\n'


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("1.0", "HTTP/1.0"),
        ("2", "HTTP/2.0"),
        ("3", "HTTP/3.0"),
        ('3"', 'HTTP/3\\"'),
    ],
)
def test_entry_names_the_protocol(version: str, name: str) -> None:
    request = record()
    request.head.http_version = version

    assert f'"GET / {name}"' in format_entry(request, "GET", DATE)


STORES = (
    *("AGENTS", "DURATIONS", "HOSTS", "METHODS", "PATHS", "SIZES", "STATUSES"),
    "VERSIONS",
)


def empty_stores(patch: pytest.MonkeyPatch, limit: int) -> list[Texts[Any]]:
    """Let texts be kept anew, up to a limit; return the stores."""
    patch.setattr(access_line, "KNOWN_LIMIT", limit)
    patch.setattr(access_line, "_known_fields", {})
    stores = [Texts[Any](getattr(access_line, name)._make) for name in STORES]
    for name, store in zip(STORES, stores, strict=True):
        patch.setattr(access_line, name, store)
    return stores


def format_plainly(request: RequestRecord) -> str:
    """Format with empty stores, which nothing is put into."""
    with pytest.MonkeyPatch.context() as patch:
        stores = empty_stores(patch, 0)
        line = format_entry(request, "GET", DATE)
        assert not any(stores)
    return line


@given(
    st.binary(),
    st.binary(),
    st.binary(max_size=400),
    st.text(max_size=9),
    st.integers(0, 999),
    st.integers(0),
    st.floats(0, 1e6),
)
def test_remembered_fields_are_those_that_are_escaped_anew(
    path: bytes,
    query: bytes,
    agent: bytes,
    host: str,
    status: int,
    size: int,
    duration: float,
) -> None:
    request = record(
        path,
        query,
        [(b"user-agent", agent)],
        client=(host, 1),
        status=status,
        size=size,
        duration=duration,
    )

    assert [format_entry(request, "GET", DATE) for _ in range(2)] == [
        format_plainly(request)
    ] * 2


@given(st.integers(0, 10**9))
def test_whole_microseconds_are_shown_as_they_are(count: int) -> None:
    entry = format_entry(record(duration=count / 1e6), "GET", DATE)

    assert entry.endswith(f' "-" {count / 1e6:.6f}\n')


@given(st.binary(min_size=1, max_size=1200), st.binary(max_size=600), st.booleans())
def test_fields_of_repeated_lines_are_those_of_the_first_time(
    lines: bytes, agent: bytes, has_referer: bool
) -> None:
    headers = [(b"accept", b"*/*"), (b"user-agent", agent)]
    headers += [(b"referer", b"/start")] if has_referer else []
    request, repeated = record(headers=headers), record(headers=headers)
    # The lines decide the headers, so that their bytes may stand for them.
    repeated.head.field_lines = repr((lines, headers)).encode()

    expected = format_entry(request, "GET", DATE)
    assert [format_entry(repeated, "GET", DATE) for _ in range(2)] == [expected] * 2


def test_stores_of_texts_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = empty_stores(monkeypatch, 10)
    for number in range(30):
        agent = [(b"user-agent", b"%d" % number)]
        request = record(
            b"/%d" % number,
            b"",
            agent,
            client=(str(number), 1),
            status=number,
            size=number,
            duration=number,
        )
        request.head.http_version = str(number)
        format_entry(request, "GET", DATE)

    methods = STORES.index("METHODS")
    assert [len(store) for store in stores if store is not stores[methods]] == [10] * 7


def test_long_texts_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    stores = empty_stores(monkeypatch, 10)
    agent = [(b"user-agent", b"x" * 300)]
    request = record(b"/" * 300, b"", agent, client=("x" * 300, 1))
    request.head.http_version = "x" * 300
    format_entry(request, "GET", DATE)

    kept = dict(zip(STORES, stores, strict=True))
    assert [name for name, store in kept.items() if store] == [
        "DURATIONS",
        "SIZES",
        "STATUSES",
    ]


def test_store_of_repeated_lines_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    known: dict[bytes, str] = {}
    monkeypatch.setattr(access_line, "_known_fields", known)
    monkeypatch.setattr(access_line, "KNOWN_LIMIT", 10)
    request = record()
    for number in range(25):
        request.head.field_lines = b"x-number: %d\r\n\r\n" % number
        format_entry(request, "GET", DATE)
    request.head.field_lines = b"cookie: %1100d\r\n\r\n" % 1
    format_entry(request, "GET", DATE)

    assert len(known) == 5


@pytest.mark.parametrize(
    ("zone", "date"),
    [
        ("UTC0", "01/Jan/2000:00:00:05 +0000"),
        ("EST5", "31/Dec/1999:19:00:05 -0500"),
        ("IST-5:30", "01/Jan/2000:05:30:05 +0530"),
    ],
)
def test_date_is_local_with_its_offset(
    zone: str, date: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert format_date(946684805) == date
    finally:
        monkeypatch.undo()
        time.tzset()
