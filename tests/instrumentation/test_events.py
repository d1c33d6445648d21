from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.instrumentation.events import escape, format_client, request_target
from djserve.interfaces import RequestHead


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("", ""),
        ("Mozilla/5.0 (X11; Linux)", "Mozilla/5.0 (X11; Linux)"),
        ('say "hi"', 'say \\"hi\\"'),
        ("back\\slash", "back\\\\slash"),
        ("\\x0a", "\\\\x0a"),
        ("a\r\nb", "a\\x0d\\x0ab"),
        ("tab\there", "tab\\x09here"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("nul\x00del\x7f", "nul\\x00del\\x7f"),
        ("next line\x85", "next line\\x85"),
        ("caf\xe9", "caf\\xe9"),
        ("\u2028", "?"),
    ],
)
def test_text_is_escaped_for_one_quoted_field(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@given(st.text())
def test_escaped_text_is_one_line_of_printable_ascii(text: str) -> None:
    escaped = escape(text)

    assert escaped.isascii()
    assert escaped.isprintable()
    assert escaped.replace("\\\\", "").replace('\\"', "").count('"') == 0


@given(st.lists(st.integers(0, 255)).map(bytes))
def test_escaping_loses_no_byte(data: bytes) -> None:
    escaped = escape(data.decode("latin-1"))

    assert escaped.encode().decode("unicode_escape").encode("latin-1") == data


@pytest.mark.parametrize(
    ("path", "query", "target"),
    [(b"/", b"", "/"), (b"/a", b"b=1", "/a?b=1"), (b"/\xff", b'"', '/\\xff?\\"')],
)
def test_request_target_is_path_and_query(
    path: bytes, query: bytes, target: str
) -> None:
    assert request_target(RequestHead("GET", path, query, [], "1.1")) == target


@pytest.mark.parametrize(
    ("client", "text"),
    [(("127.0.0.1", 54321), "127.0.0.1:54321"), (("::1", 80), "[::1]:80"), (None, "-")],
)
def test_client_is_host_and_port(client: tuple[str, int] | None, text: str) -> None:
    assert format_client(client) == text
