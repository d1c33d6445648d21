"""Responses as messages: field lines, content in chunks, refusals."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpResponse

from djserve.errors import ClientDisconnected
from djserve.handlers.sending import (
    GuardedSend,
    encode_headers,
    send_content,
    send_refusal,
    start_message,
)


class Sent(list[dict[str, Any]]):
    async def __call__(self, message: Any) -> None:
        self.append(message)


def test_field_lines_keep_their_case_and_cookies_come_last() -> None:
    response = HttpResponse(headers={"X-Name": "caf\u00e9"})
    response.set_cookie("a", "b")
    headers = encode_headers(response)

    assert (b"X-Name", b"caf\xe9") in headers
    assert headers[-1] == (b"Set-Cookie", b"a=b; Path=/")


def test_start_message_has_status_and_headers() -> None:
    message = start_message(HttpResponse(status=204))

    assert (message["type"], message["status"]) == ("http.response.start", 204)


@pytest.mark.parametrize(
    ("content", "sizes"),
    [(b"", [0]), (b"abcd", [4]), (b"abcde", [4, 1]), (b"abcdefgh", [4, 4])],
)
def test_content_is_sent_in_chunks(content: bytes, sizes: list[int]) -> None:
    sent = Sent()
    asyncio.run(send_content(sent, content, 4))

    assert [len(message["body"]) for message in sent] == sizes
    more = [message.get("more_body", False) for message in sent]
    assert more == [True] * (len(sent) - 1) + [False]


def test_refusal_is_a_complete_response() -> None:
    sent = Sent()
    asyncio.run(send_refusal(sent, 503, "Full", (b"retry-after", b"1")))

    assert sent[0]["status"] == 503
    assert sent[0]["headers"][-1] == (b"retry-after", b"1")
    assert sent[1]["body"] == b"Full"


def test_error_of_send_is_a_lost_client() -> None:
    async def send(message: Any) -> None:
        raise BrokenPipeError

    with pytest.raises(ClientDisconnected):
        asyncio.run(GuardedSend(send)({"type": "http.response.body"}))
