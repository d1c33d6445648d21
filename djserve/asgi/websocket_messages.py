"""What an application's WebSocket messages say; errors name expected and got."""

from __future__ import annotations

from typing import TYPE_CHECKING

from djserve.asgi.http_messages import malformed, take_status
from djserve.errors import ApplicationError
from djserve.interfaces import CLOSE_NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.asgi.types import Message


def take_type(message: Message) -> str:
    """Return a message's type."""
    try:
        message_type = message["type"]
    except (TypeError, KeyError, IndexError):
        message_type = None
    if not isinstance(message_type, str):
        raise malformed(message)
    return message_type


def take_subprotocol(message: Message) -> str | None:
    """Return the subprotocol of ``websocket.accept``."""
    subprotocol = message.get("subprotocol")
    if subprotocol is None or isinstance(subprotocol, str):
        return subprotocol
    raise wrong_type(message, "subprotocol", "str", subprotocol)


def take_data(message: Message) -> str | bytes:
    """Return what ``websocket.send`` sends: exactly one of text and bytes."""
    text, data = message.get("text"), message.get("bytes")
    if (text is None) is (data is None):
        raise ApplicationError(
            "websocket.send: expected either text or bytes, got "
            + ("neither" if text is None else "both")
        )
    if text is not None:
        if isinstance(text, str):
            return text
        raise wrong_type(message, "text", "str", text)
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return bytes(data)
    raise wrong_type(message, "bytes", "bytes", data)


def take_close(message: Message) -> tuple[int, str]:
    """Return code and reason of ``websocket.close``."""
    code, reason = message.get("code"), message.get("reason")
    if code is not None and type(code) is not int:
        raise wrong_type(message, "code", "int", code)
    if reason is not None and not isinstance(reason, str):
        raise wrong_type(message, "reason", "str", reason)
    return CLOSE_NORMAL if code is None else code, reason or ""


def take_denial(message: Message) -> tuple[int, Iterable[tuple[bytes, bytes]]]:
    """Return status and fields of ``websocket.http.response.start``."""
    return take_status(message), message.get("headers") or ()


def wrong_type(
    message: Message, key: str, expected: str, value: object
) -> ApplicationError:
    """Return the error of a message's key with what it has to be, and what it is."""
    return ApplicationError(
        f"{message['type']}: {key} must be {expected}, got {value!r:.100}"
    )
