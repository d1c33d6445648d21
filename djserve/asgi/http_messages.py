"""What an application's HTTP messages say; errors name expected and got."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from djserve.errors import ApplicationError, ProtocolError

if TYPE_CHECKING:
    from djserve.asgi.types import Message
    from djserve.interfaces import Headers


def error_response(status: int) -> tuple[Headers, bytes]:
    """Return header and content of the server's own answer."""
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    return headers, HTTPStatus(status).phrase.encode("ascii")


def malformed(message: object) -> ApplicationError:
    """Return the error of a value that is not a message at all."""
    return ApplicationError(
        f"An ASGI message is a dict with a type, got {message!r:.100}"
    )


def take_status(message: Message) -> int:
    """Return the status of ``http.response.start``."""
    status = message.get("status")
    if type(status) is int and 200 <= status <= 999:
        return status
    # HTTPStatus is an int too; True is one by Python's history only.
    if (
        not isinstance(status, int)
        or isinstance(status, bool)
        or not 200 <= status <= 999
    ):
        raise ApplicationError(
            f"Response status must be an int from 200 to 999, got {status!r:.100}"
        )
    return status


def take_body(message: Message) -> tuple[bytes, bool]:
    """Return the content of ``http.response.body``, and whether more follows."""
    body = message.get("body", b"")
    if type(body) is not bytes:
        if not isinstance(body, bytes | bytearray | memoryview):
            raise ApplicationError(f"Response body must be bytes, got {body!r:.100}")
        body = bytes(body)
    return body, bool(message.get("more_body", False))


def take_file_path(message: Message) -> str:
    """Return the path of ``http.response.pathsend``."""
    path = message.get("path")
    if not isinstance(path, str):
        raise ApplicationError(f"pathsend takes a path in str, got {path!r:.100}")
    return path


def take_links(message: Message) -> Headers:
    """Return the Link fields of ``http.response.early_hint``."""
    links = message.get("links", ())
    if isinstance(links, str | bytes | None):
        raise ApplicationError(f"links must be a list of bytes, got {links!r:.100}")
    return [(b"link", link) for link in links]


def take_push_path(message: Message) -> str:
    """Return the path of ``http.response.push``."""
    path = message.get("path")
    if not isinstance(path, str) or not path.startswith("/"):
        raise ApplicationError(f"A push takes an absolute path, got {path!r:.100}")
    return path


def take_refusal(exc: Exception | None) -> int:
    """Return the status of the server's own answer that ended an exchange, else 0.

    The exchange reports it to the request log then, and it is not reported again.
    """
    if not isinstance(exc, ProtocolError):
        return 0
    exc.is_recorded = True
    return exc.status


def add_length(headers: Headers, length: int) -> Headers:
    """Return ``headers`` with a Content-Length, if they have none."""
    fields = list(headers)
    if not any(name.lower() == b"content-length" for name, _ in fields):
        fields.append((b"content-length", b"%d" % length))
    return fields


def is_empty_end(message: Message) -> bool:
    """Return whether a message ends a response and carries nothing."""
    return (
        message["type"] == "http.response.body"
        and not message.get("body")
        and not message.get("more_body")
    )
