"""Django responses to ASGI messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.http import HttpResponseBase
from django.http.response import ResponseHeaders

from djserve.asgi.http import HTTPExchange
from djserve.errors import ClientDisconnected
from djserve.instrumentation.unavailable import note_unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.asgi.types import Message, Scope, Send
    from djserve.interfaces import Headers


RETRY_AFTER = b"1"
"""Seconds that a client is asked to wait when too many requests wait for a thread."""


def encode_headers(response: HttpResponseBase) -> Headers:
    """Return the response's field lines, cookies last, names in Django's own case."""
    headers: Headers = [
        (name.encode("ascii"), value.encode("latin1"))
        for name, value in _field_lines(response)
    ]
    if response.cookies:
        for cookie in response.cookies.values():
            line = cookie.output(header="").strip()
            headers.append((b"Set-Cookie", line.encode("ascii")))
    return headers


def _field_lines(response: HttpResponseBase) -> Iterable[tuple[str, str]]:
    # An eighth of the time of response.items(), which looks each name up in what it has
    # found it in (benchmark: django_sync).
    if type(response).items is HttpResponseBase.items:
        store: Any = response.headers
        if type(store) is ResponseHeaders:
            return store._store.values()
    return response.items()


def start_message(response: HttpResponseBase) -> Message:
    """Return the message that starts a response."""
    return {
        "type": "http.response.start",
        "status": response.status_code,
        "headers": encode_headers(response),
    }


async def send_content(send: Send, content: bytes, chunk_size: int) -> None:
    """Send all content, in messages of at most ``chunk_size`` bytes."""
    if len(content) <= chunk_size:
        await send({"type": "http.response.body", "body": content})
        return
    for position in range(0, len(content), chunk_size):
        end = position + chunk_size
        await send(
            {
                "type": "http.response.body",
                "body": content[position:end],
                "more_body": end < len(content),
            }
        )


async def send_refusal(
    send: Send, status: int, text: str, *fields: tuple[bytes, bytes]
) -> None:
    """Answer a request that Django is not asked about."""
    content = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
        *fields,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def send_busy(scope: Scope, send: Send, setting: str) -> None:
    """Answer a request that there is no thread for; ``setting`` bounds the waiting."""
    note_unavailable(setting, "it waited for a thread, or would have to", scope)
    await send_refusal(
        send, 503, "503 Service Unavailable", (b"retry-after", RETRY_AFTER)
    )


def guard(send: Send) -> Send:
    """Return ``send``, or what takes its place: see ``GuardedSend``.

    djserve's own says so by itself, and two calls for each request are spared.
    """
    if getattr(send, "__func__", None) is HTTPExchange.send:
        return send
    return GuardedSend(send)


class GuardedSend:
    """``send`` that tells the server's errors about a lost client from all others.

    ASGI 2.4 lets ``send`` raise any OSError after a disconnect; the application's own
    OSErrors must not be taken for it.
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    async def __call__(self, message: Message) -> None:
        """Send; raises ClientDisconnected where the server says so by an OSError."""
        try:
            await self._send(message)
        except OSError as error:
            raise ClientDisconnected from error
