from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from djserve.conf.access_format import FIELDS, WITH_ARGUMENT
from djserve.instrumentation.access_format import compile_format, needs_notes
from djserve.instrumentation.notes import EXTENSION
from tests.instrumentation.records import record

DATE = "10/Oct/2026:13:55:36 +0000"
HOSTILE = b'x" 200\r\n1.1.1.1 - - [\x1b[2J\x00\xff\\'


def write(text: str, **values: Any) -> str:
    scope = values.pop("scope", None)
    request = record(**values)
    request.scope = scope
    return compile_format(text)(request, request.head.method, DATE)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
            f'192.0.2.1 - - [{DATE}] "GET /a?b=c HTTP/1.1" 200 5 "-" "curl"',
        ),
        (
            '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
            f'192.0.2.1 - - [{DATE}] "GET /a?b=c HTTP/1.1" 200 5 "-" "curl"',
        ),
        ("%m %U%q %H %B %T %D %{ms}T", "GET /a?b=c HTTP/1.1 5 0 12500 12"),
        ("%(q)s %(L)s %(M)s", "b=c 0.012500 12"),
        ("{scheme} {target} {request_id}", "http /a?b=c abc"),
        ("%p %v 5%% {{x}}", "- - 5% {x}"),
        ("{tls_version}{tls_cipher}{tls_client}{view}{user_id}", "-----"),
    ],
)
def test_line_is_what_the_format_says(text: str, line: str) -> None:
    headers = [(b"user-agent", b"curl"), (b"x-request-id", b"abc")]

    assert write(text, path=b"/a", query=b"b=c", headers=headers) == line + "\n"


def test_every_field_can_be_written() -> None:
    names = sorted(FIELDS)
    atoms = [f"{{{n}:HOME}}" if n in WITH_ARGUMENT else f"{{{n}}}" for n in names]
    line = write("\t".join(atoms))

    assert len(line.split("\t")) == len(names)
    assert "" not in [
        text
        for name, text in zip(names, line[:-1].split("\t"), strict=True)
        if name not in ("query", "search")
    ]


def test_process_and_environment_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD", 'a"b')

    assert write("%P %(p)s %{POD}e") == f'{os.getpid()} <{os.getpid()}> a\\"b\n'


def test_times_are_written() -> None:
    stamp, day = write("{time} %{%d/%m}t").split()

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert re.fullmatch(r"\d\d/\d\d", day)


def test_tls_and_server_are_the_scopes() -> None:
    tls = {"tls_version": 0x0304, "cipher_suite": 0x1302, "client_cert_name": "CN=a\n"}
    scope = {"server": ("192.0.2.2", 443), "extensions": {"tls": tls}}
    text = "{server_port} {tls_version} {tls_cipher} {tls_client}"

    assert write(text, scope=scope) == (
        "443 TLSv1.3 TLS_AES_256_GCM_SHA384 CN=a\\x0a\n"
    )


def test_fields_of_the_response_are_those_noted() -> None:
    noted = {"response": [(b"X-A", b"1"), (b"x-a", b'2"'), (b"x-b", b"3")]}

    line = write("%{x-a}o %({x-c}o)s", scope={"extensions": {EXTENSION: noted}})
    assert line == '1, 2\\" -\n'


@given(
    path=st.binary() | st.just(HOSTILE),
    query=st.binary(),
    value=st.binary() | st.just(HOSTILE),
    method=st.text(max_size=9),
    host=st.text(max_size=9),
)
def test_peer_can_end_no_line(
    path: bytes, query: bytes, value: bytes, method: str, host: str
) -> None:
    headers = [(b"referer", value), (b"host", value), (b"x-request-id", value)]
    noted = {"response": [(b"x-a", value)]}
    line = write(
        '"%h" "%r" "%U" "%q" "%{referer}i" "%v" "{request_id}" "%{x-a}o"',
        path=path,
        query=query,
        headers=headers,
        client=(host, 1),
        scope={"extensions": {EXTENSION: noted}},
        method="GET",
    )

    assert line.isascii()
    assert line[:-1].isprintable()
    # Each field is in its quotes: those of a peer's text are escaped.
    assert len(re.findall(r'"(?:[^"\\]|\\.)*"', line)) == 8


def test_only_some_fields_need_notes() -> None:
    assert not needs_notes("%h %{referer}i {tls_version}")
    assert needs_notes("%u")
    assert needs_notes("{view}")
    assert needs_notes("%{content-type}o")


def test_formats_own_text_stays_one_ascii_line() -> None:
    assert write("%m\té") == "GET\t\\xe9\n"
