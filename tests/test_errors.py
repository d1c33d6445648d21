"""The exception tree: what the layers above read off an error."""

from __future__ import annotations

import pytest

from djserve.errors import (
    ApplicationError,
    ClientDisconnected,
    ConfigError,
    DjserveError,
    ListenError,
    ProtocolError,
    UnexpectedMessage,
)


def test_config_error_shows_every_problem_on_a_line_of_its_own() -> None:
    error = ConfigError(("BIND is empty", "WORKERS is below 1"))

    assert error.problems == ["BIND is empty", "WORKERS is below 1"]
    assert str(error) == "BIND is empty\nWORKERS is below 1"


@pytest.mark.parametrize(
    ("hint", "message"),
    [
        ("", "Cannot listen on host:80: in use"),
        (
            "Stop the other server",
            "Cannot listen on host:80: in use. Stop the other server",
        ),
    ],
    ids=["without a hint", "with a hint"],
)
def test_listen_error_names_the_address_and_the_reason(hint: str, message: str) -> None:
    assert str(ListenError("host:80", "in use", hint)) == message


def test_protocol_error_is_a_bad_request_unless_told_otherwise() -> None:
    assert ProtocolError("bad line").status == 400
    assert ProtocolError("bad line").headers == []


def test_protocol_error_carries_the_answer_it_deserves() -> None:
    error = ProtocolError("no method", 405, [(b"allow", b"GET")])

    assert (error.status, error.headers) == (405, [(b"allow", b"GET")])
    assert str(error) == error.reason == "no method"


def test_unexpected_message_is_the_fault_of_the_application() -> None:
    error = UnexpectedMessage("http.response.body", "WAITING")

    assert isinstance(error, ApplicationError)
    assert "'http.response.body' in state WAITING" in str(error)


def test_disconnect_is_an_os_error_as_asgi_wants() -> None:
    error = ClientDisconnected()

    assert isinstance(error, OSError)
    assert isinstance(error, DjserveError)
    assert str(error) == "The client has disconnected"
