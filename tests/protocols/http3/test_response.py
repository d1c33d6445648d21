"""Fields of responses: what the server adds, what has no place."""

from __future__ import annotations

import pytest

from djserve.errors import ApplicationError
from djserve.protocols.http3.response import (
    ServerFields,
    build_fields,
    build_interim,
    build_trailers,
)

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.fixture
def server() -> ServerFields:
    fields = ServerFields("djserve")
    fields.set_date(DATE)
    return fields


def test_server_adds_its_own(server: ServerFields) -> None:
    fields, length = build_fields(200, [(b"X-Own", b" a ")], 3, server)

    assert fields == [
        (b":status", b"200"),
        (b"x-own", b"a"),
        (b"date", DATE),
        (b"server", b"djserve"),
        (b"content-length", b"3"),
    ]
    assert length == -1


def test_fields_of_the_application_stay(server: ServerFields) -> None:
    own = [(b"date", b"d"), (b"server", b"s"), (b"content-length", b"5")]

    assert build_fields(200, own, 3, server) == ([(b":status", b"200"), *own], 5)


def test_fields_of_the_connection_are_left_out(server: ServerFields) -> None:
    own = [
        (b"connection", b"x-hop, close"),
        (b"x-hop", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"keep-alive", b"1"),
    ]

    assert len(build_fields(200, own, None, server)[0]) == 3


def test_no_length_where_there_is_no_content(server: ServerFields) -> None:
    fields, _ = build_fields(204, [(b"content-length", b"0")], None, server)

    assert b"content-length" not in dict(fields)


def test_interim_has_no_others() -> None:
    assert build_interim(103, [(b"link", b"</a>")]) == [
        (b":status", b"103"),
        (b"link", b"</a>"),
    ]


@pytest.mark.parametrize("pair", [(b"a b", b"x"), (b"a", b"x\n"), (b"a", "x")])
def test_what_cannot_be_sent(server: ServerFields, pair: tuple[bytes, bytes]) -> None:
    with pytest.raises(ApplicationError):
        build_fields(200, [pair], None, server)


def test_trailers_frame_nothing() -> None:
    assert build_trailers([(b"X-Sum", b"7")]) == [(b"x-sum", b"7")]
    with pytest.raises(ApplicationError):
        build_trailers([(b"content-length", b"7")])
