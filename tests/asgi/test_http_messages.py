"""HTTP messages: what each field may be."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest

from djserve.asgi.http_messages import (
    add_length,
    error_response,
    take_body,
    take_file_path,
    take_links,
    take_push_path,
    take_refusal,
    take_status,
)
from djserve.errors import ApplicationError, ProtocolError


@pytest.mark.parametrize("status", [200, 299, 404, 999, HTTPStatus.CREATED])
def test_status_is_an_int_of_a_final_response(status: int) -> None:
    assert take_status({"status": status}) == status


@pytest.mark.parametrize("status", [None, True, "200", b"200", 200.0, 101, 1000])
def test_other_statuses_are_refused(status: object) -> None:
    with pytest.raises(ApplicationError, match="must be an int from 200 to 999, got"):
        take_status({"status": status})


def test_status_is_required() -> None:
    with pytest.raises(ApplicationError, match="got None"):
        take_status({})


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
def test_body_becomes_bytes(make: Any) -> None:
    body, more = take_body({"body": make(b"abc"), "more_body": True})

    assert (type(body), body, more) == (bytes, b"abc", True)


def test_body_and_more_body_may_be_left_out() -> None:
    assert take_body({}) == (b"", False)


@pytest.mark.parametrize("body", [None, "abc", 3, [b"abc"], True])
def test_other_bodies_are_refused(body: object) -> None:
    with pytest.raises(ApplicationError, match="Response body must be bytes, got"):
        take_body({"body": body})


def test_file_path_is_text() -> None:
    assert take_file_path({"path": "/a"}) == "/a"


@pytest.mark.parametrize("message", [{}, {"path": None}, {"path": b"/a"}, {"path": 1}])
def test_other_file_paths_are_refused(message: dict[str, object]) -> None:
    with pytest.raises(ApplicationError, match="pathsend takes a path in str, got"):
        take_file_path(message)


def test_links_become_fields() -> None:
    assert take_links({"links": (b"<a>", b"<b>")}) == [
        (b"link", b"<a>"),
        (b"link", b"<b>"),
    ]
    assert take_links({}) == []


@pytest.mark.parametrize("links", [None, b"<a>", "<a>"])
def test_other_links_are_refused(links: object) -> None:
    with pytest.raises(ApplicationError, match="links must be a list of bytes"):
        take_links({"links": links})


def test_push_path_is_absolute() -> None:
    assert take_push_path({"path": "/a"}) == "/a"


@pytest.mark.parametrize("message", [{}, {"path": b"/a"}, {"path": "a"}, {"path": ""}])
def test_other_push_paths_are_refused(message: dict[str, object]) -> None:
    with pytest.raises(ApplicationError, match="A push takes an absolute path, got"):
        take_push_path(message)


def test_length_is_added_where_there_is_none() -> None:
    assert add_length([(b"a", b"b")], 3) == [(b"a", b"b"), (b"content-length", b"3")]
    assert add_length([(b"Content-Length", b"9")], 3) == [(b"Content-Length", b"9")]


def test_given_headers_stay_as_they_are() -> None:
    headers = [(b"a", b"b")]
    add_length(headers, 3)

    assert headers == [(b"a", b"b")]


def test_refusal_is_taken_once() -> None:
    refusal = ProtocolError("The content is too slow", 408)

    assert take_refusal(refusal) == 408
    assert refusal.is_recorded


@pytest.mark.parametrize("exc", [None, ConnectionResetError()])
def test_lost_client_is_no_refusal(exc: Exception | None) -> None:
    assert take_refusal(exc) == 0


def test_own_answer_names_the_status() -> None:
    headers, content = error_response(503)

    assert headers == [(b"content-type", b"text/plain; charset=utf-8")]
    assert content == b"Service Unavailable"
