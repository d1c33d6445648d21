"""Which part of a file answers a Range field, and what the response becomes."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse

from djserve.handlers.ranges import answer_range

SIZE = 100
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


def respond(**fields: str) -> HttpResponse:
    response = HttpResponse()
    for name, value in fields.items():
        response[name.replace("_", "-")] = value
    return response


def scope_of(*fields: tuple[bytes, bytes], method: str = "GET") -> dict[str, Any]:
    headers = [(b"host", b"a"), *fields]
    extensions: dict[str, Any] = {"http.response.pathsend": {}}
    return {"method": method, "headers": headers, "extensions": extensions}


RANGE = (b"range", b"bytes=10-19")


def test_part_is_announced() -> None:
    response = respond(ETag='"a"', Content_Type="video/webm")

    assert answer_range(scope_of(RANGE), response, SIZE) == range(10, 20)
    assert response.status_code == 206
    assert dict(response.items()) == {
        "Accept-Ranges": "bytes",
        "Content-Length": "10",
        "Content-Range": "bytes 10-19/100",
        "Content-Type": "video/webm",
        "ETag": '"a"',
    }


def test_refusal_names_the_size_and_is_not_described_as_the_file() -> None:
    response = respond(
        ETag='"a"', Cache_Control="max-age=60", Content_Disposition="inline"
    )
    wanted = (b"range", b"bytes=100-")

    assert answer_range(scope_of(wanted), response, SIZE) == range(0)
    assert response.status_code == 416
    assert dict(response.items()) == {
        "Accept-Ranges": "bytes",
        "Content-Length": "0",
        "Content-Range": "bytes */100",
    }


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([], id="no range"),
        pytest.param([RANGE, RANGE], id="two fields"),
        pytest.param([(b"range", b"bytes=0-1,3-4")], id="several parts"),
    ],
)
def test_whole_file_is_sent(fields: list[tuple[bytes, bytes]]) -> None:
    response = respond()

    assert answer_range(scope_of(*fields), response, SIZE) is None
    assert (response.status_code, response["Accept-Ranges"]) == (200, "bytes")


def test_whole_file_looks_as_djangos_without_extensions() -> None:
    response = respond()
    before = dict(response.items())
    scope = {**scope_of(), "extensions": {}}

    assert answer_range(scope, response, SIZE) is None
    assert dict(response.items()) == before


def test_head_ignores_ranges() -> None:
    response = respond()

    assert answer_range(scope_of(RANGE, method="HEAD"), response, SIZE) is None
    assert (response.status_code, response["Accept-Ranges"]) == (200, "bytes")


@pytest.mark.parametrize(
    ("condition", "is_part"),
    [
        (b'"a"', True),
        (b'"b"', False),
        (b'W/"a"', False),
        (DATE.encode(), True),
        (b"Wed, 21 Oct 2015 07:28:01 GMT", False),
        (b"Wed, 21 Oct 2015 07:27:59 GMT", False),
        (b"nonsense", False),
        (b"", False),
    ],
)
def test_part_is_sent_if_the_client_has_the_same_file(
    condition: bytes, is_part: bool
) -> None:
    response = respond(ETag='"a"', Last_Modified=DATE)
    scope = scope_of(RANGE, (b"if-range", condition))

    assert (answer_range(scope, response, SIZE) is not None) is is_part


@pytest.mark.parametrize("condition", [b'"a"', DATE.encode(), b"nonsense"])
def test_without_a_validator_no_condition_holds(condition: bytes) -> None:
    scope = scope_of(RANGE, (b"if-range", condition))

    assert answer_range(scope, respond(), SIZE) is None


def test_weak_tag_is_no_validator_for_a_part() -> None:
    scope = scope_of(RANGE, (b"if-range", b'W/"a"'))

    assert answer_range(scope, respond(ETag='W/"a"'), SIZE) is None


def test_two_conditions_are_none_that_holds() -> None:
    condition = (b"if-range", b'"a"')
    scope = scope_of(RANGE, condition, condition)

    assert answer_range(scope, respond(ETag='"a"'), SIZE) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"Content_Encoding": "gzip"},
        {"Content_Range": "bytes 0-99/200"},
        {"Accept_Ranges": "none"},
    ],
)
def test_view_that_answers_ranges_itself_is_left_alone(fields: dict[str, str]) -> None:
    response = respond(**fields)
    before = dict(response.items())

    assert answer_range(scope_of(RANGE), response, SIZE) is None
    assert (response.status_code, dict(response.items())) == (200, before)


@pytest.mark.parametrize("status", [201, 206, 404, 416])
def test_other_statuses_are_left_alone(status: int) -> None:
    response = HttpResponse(status=status)

    assert answer_range(scope_of(RANGE), response, SIZE) is None
    assert "Accept-Ranges" not in response


def test_other_methods_have_no_ranges() -> None:
    response = respond()

    assert answer_range(scope_of(RANGE, method="POST"), response, SIZE) is None
    assert "Accept-Ranges" not in response
