from __future__ import annotations

from typing import Any

import pytest

from djserve.asgi.websocket_messages import (
    take_close,
    take_data,
    take_denial,
    take_subprotocol,
    take_type,
)
from djserve.errors import ApplicationError


def message(kind: str = "send", **keys: Any) -> dict[str, Any]:
    return {"type": f"websocket.{kind}", **keys}


def test_type_is_taken() -> None:
    assert take_type(message()) == "websocket.send"


@pytest.mark.parametrize("wrong", [{}, {"type": None}, {"type": []}, "x", None, []])
def test_what_has_no_type_is_no_message(wrong: Any) -> None:
    with pytest.raises(ApplicationError, match="dict with a type, got"):
        take_type(wrong)


@pytest.mark.parametrize("keys", [{}, {"subprotocol": None}])
def test_subprotocol_may_be_left_out(keys: dict[str, Any]) -> None:
    assert take_subprotocol(message("accept", **keys)) is None


@pytest.mark.parametrize(
    ("keys", "data"),
    [
        ({"text": ""}, ""),
        ({"bytes": b""}, b""),
        ({"text": None, "bytes": b"a"}, b"a"),
        ({"bytes": memoryview(b"a")}, b"a"),
    ],
)
def test_data_is_what_is_not_none(keys: dict[str, Any], data: str | bytes) -> None:
    assert take_data(message(**keys)) == data


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, (1000, "")),
        ({"code": None, "reason": None}, (1000, "")),
        ({"code": 4000, "reason": "a"}, (4000, "a")),
    ],
)
def test_close_has_defaults(keys: dict[str, Any], expected: tuple[int, str]) -> None:
    assert take_close(message("close", **keys)) == expected


def test_denial_has_status_and_headers() -> None:
    assert take_denial(message(status=401)) == (401, ())
    assert take_denial(message(status=401, headers=[(b"a", b"b")])) == (
        401,
        [(b"a", b"b")],
    )


@pytest.mark.parametrize(
    ("take", "keys", "fault"),
    [
        (take_subprotocol, {"subprotocol": b"a"}, "subprotocol must be str, got b'a'"),
        (take_data, {}, "either text or bytes, got neither"),
        (take_data, {"text": "a", "bytes": b"b"}, "either text or bytes, got both"),
        (take_data, {"text": 1}, "text must be str, got 1"),
        (take_data, {"bytes": "a"}, "bytes must be bytes, got 'a'"),
        (take_close, {"code": "1"}, "code must be int, got '1'"),
        (take_close, {"code": True}, "code must be int, got True"),
        (take_close, {"reason": b"a"}, "reason must be str, got b'a'"),
        (take_denial, {}, "status must be an int from 200 to 999, got None"),
        (
            take_denial,
            {"status": 101},
            "an int from 200 to 999, got 101",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_error_names_expected_and_got(
    take: Any, keys: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ApplicationError, match=fault):
        take(message(**keys))
