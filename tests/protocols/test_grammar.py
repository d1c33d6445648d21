"""What a request may say: the same verdict over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from djserve.conf.schema import HTTPConfig
from djserve.errors import ProtocolError
from djserve.interfaces import RequestHead
from djserve.protocols.grammar import (
    check_authority,
    check_method,
    check_scheme,
    check_value,
    content_too_large,
    parse_length,
    split_target,
)
from djserve.protocols.http1.request import HeadParser, HeadReader
from djserve.protocols.http2.request import parse_request

UTF_8 = "é".encode()

# RFC 9110 section 9.3, RFC 5789, RFC 10008, and the others that IANA has on its list
# of HTTP methods but for CONNECT and PRI.
METHODS = (
    b"ACL BASELINE-CONTROL BIND CHECKIN CHECKOUT COPY DELETE GET HEAD LABEL LINK LOCK "
    b"MERGE MKACTIVITY MKCALENDAR MKCOL MKREDIRECTREF MKWORKSPACE MOVE OPTIONS "
    b"ORDERPATCH PATCH POST PROPFIND PROPPATCH PUT QUERY REBIND REPORT SEARCH TRACE "
    b"UNBIND UNCHECKOUT UNLINK UNLOCK UPDATE UPDATEREDIRECTREF VERSION-CONTROL"
).split()


def judge_http1(
    method: bytes, target: bytes, host: bytes, fields: list[tuple[bytes, bytes]]
) -> int | RequestHead:
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + host]
    lines += [name + b": " + value for name, value in fields]
    try:
        head = HeadParser(HTTPConfig(), HeadReader()).parse(
            b"\r\n".join(lines) + b"\r\n\r\n"
        )
    except ProtocolError as error:
        return error.status
    return head


def judge_http2(
    method: bytes, target: bytes, host: bytes, fields: list[tuple[bytes, bytes]]
) -> int | RequestHead:
    pseudo = [
        (b":method", method),
        (b":scheme", b"https"),
        (b":authority", host),
        (b":path", target),
    ]
    request = parse_request([*pseudo, *fields], HTTPConfig())
    if request.refusal is not None:
        return request.refusal.status
    return request.build_head(True)


def verdicts(
    method: bytes = b"GET",
    target: bytes = b"/",
    host: bytes = b"a",
    fields: list[tuple[bytes, bytes]] | None = None,
) -> list[int | tuple[str, bytes, bytes, list[tuple[bytes, bytes]]]]:
    """Return what each protocol says: a status, or what the application is told."""
    return [
        verdict
        if isinstance(verdict, int)
        else (verdict.method, verdict.raw_path, verdict.query, verdict.headers)
        for verdict in (
            judge_http1(method, target, host, fields or []),
            judge_http2(method, target, host, fields or []),
        )
    ]


@pytest.mark.parametrize("method", [*METHODS, b"FOO", b"M-SEARCH", b"PLAY", b"PURGE"])
def test_method_of_the_registry_or_the_application_is_passed_on(method: bytes) -> None:
    one, two = verdicts(method, b"/a?b")

    assert one == two == (method.decode(), b"/a", b"b", [(b"host", b"a")])


@pytest.mark.parametrize("method", [b"get", b"Get", b"GeT", b"foo", b"CONNECT", b"PRI"])
@pytest.mark.parametrize("target", [b"/", b"/x", b"/" + UTF_8])
def test_method_that_is_not_served(method: bytes, target: bytes) -> None:
    assert verdicts(method, target) == [501, 501]


@pytest.mark.parametrize("method", [b"G(T", b"G\xe9T", b"{}", b'"GET"'])
def test_method_that_is_no_token(method: bytes) -> None:
    assert verdicts(method) == [400, 400]


@pytest.mark.parametrize(
    "target",
    [
        b"a",
        b"*",
        b"/#f",
        b"/a?b#f",
        b"/\xe9",
        b"/?\xe9",
        b"/\xc3%A9",
        b"/\xed\xa0\x80",
        b"/a\x7f",
    ],
)
def test_target_that_is_refused(target: bytes) -> None:
    assert verdicts(target=target) == [400, 400]


@pytest.mark.parametrize(
    "host", [b"", b":80", b"u@a", b"a b", b"[::1", b"a:x", b"\xe9", b"a/b"]
)
def test_authority_that_is_refused(host: bytes) -> None:
    assert verdicts(host=host) == [400, 400]


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\x01b"),
        (b"x", b"a\x1bb"),
        (b"x", b"a\x7fb"),
        (b"x", b"a\0b"),
        (b"x", b"a\rb"),
        (b"x(", b"a"),
        (b"x y", b"a"),
        (b"content-length", b"+1"),
        (b"content-length", b"1, 1"),
        (b"content-length", b"99999999999999999999"),
    ],
)
def test_field_that_is_refused(field: tuple[bytes, bytes]) -> None:
    assert verdicts(fields=[field]) == [400, 400]


def test_unknown_expectation_fails() -> None:
    assert verdicts(fields=[(b"expect", b"x")]) == [417, 417]


def test_length_is_the_same_number() -> None:
    for value, length in ((b"0", 0), (b"007", 7), (b"0" * 40 + b"1", 1)):
        fields = [(b"content-length", value)]
        one = judge_http1(b"POST", b"/", b"a", fields)
        two = judge_http2(b"POST", b"/", b"a", fields)
        assert isinstance(one, RequestHead)
        assert isinstance(two, RequestHead)
        assert one.content_length == two.content_length == length


def test_limit_of_the_request_line_is_the_same() -> None:
    limit = HTTPConfig().request_line_limit
    longest = b"/" * (limit - len(b"GET  HTTP/1.1"))

    def status(target: bytes) -> int:
        verdict = judge_http2(b"GET", target, b"a", [])
        return verdict if isinstance(verdict, int) else 200

    # Over HTTP/1.1 the connection looks before the head is parsed (test_connection).
    assert (status(longest), status(longest + b"/")) == (200, 414)


bytes_of_targets = st.binary(max_size=6).filter(lambda data: not {32, 13, 10} & {*data})


@pytest.mark.parametrize("method", [b"GET", b"FOO", b"M-SEARCH", b"QUERY"])
@pytest.mark.parametrize("target", [b"/\0", b"/a\x17", b"/?\x1b", b"/\x7f", b"/\t"])
def test_control_byte_in_a_target_is_refused_for_any_method(
    method: bytes, target: bytes
) -> None:
    assert verdicts(method, target) == [400, 400]


@given(st.sampled_from([b"GET", b"FOO", b"MKCOL"]), bytes_of_targets)
@example(b"FOO", b"\x17")
def test_each_target_of_each_method_has_one_verdict(
    method: bytes, target: bytes
) -> None:
    one, two = verdicts(method, b"/" + target)

    assert one == two


@given(bytes_of_targets)
@example(UTF_8)
@example(b"%C3%A9")
@example(b"\\")
@example(b"?\xc2\x9b")
def test_each_target_has_one_verdict(target: bytes) -> None:
    one, two = verdicts(target=b"/" + target)

    assert one == two


tokens_and_others = st.one_of(
    st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,5}", fullmatch=True),
    st.binary(min_size=1, max_size=4).filter(lambda data: not {32, 13, 10} & {*data}),
)


@given(tokens_and_others)
@example(b"SOURCE")
@example(b"DESCRIBE")
@example(b"\x16\x03")
def test_each_method_has_one_verdict(method: bytes) -> None:
    one, two = verdicts(method)

    assert one == two


@given(st.binary(max_size=5))
@example(b"a\tb")
@example(b"\x80\xff")
def test_each_value_has_one_verdict(value: bytes) -> None:
    if b"\n" in value or b"\r" in value or value != value.strip(b" \t"):
        # A line's end, and blanks that only HTTP/1.1 allows for.
        return
    one, two = verdicts(fields=[(b"x", value)])

    assert one == two


@given(st.binary(max_size=6).filter(lambda data: data == data.strip(b" \t\r\n")))
@example(b"[::1]:80")
def test_each_authority_has_one_verdict(host: bytes) -> None:
    if b"\n" in host or b"\r" in host:
        return
    one, two = verdicts(host=host)

    assert one == two


def test_asterisk_is_for_options() -> None:
    assert split_target("OPTIONS", b"*") == (b"*", b"")
    with pytest.raises(ProtocolError):
        split_target("GET", b"*")


@pytest.mark.parametrize("scheme", [b"http", b"https", b"HTTPS"])
def test_scheme_that_is_served(scheme: bytes) -> None:
    check_scheme(scheme)


@pytest.mark.parametrize("scheme", [b"", b"ftp", b"http://evil/?", b"ws", b"http\0"])
def test_other_scheme_is_refused(scheme: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        check_scheme(scheme)
    assert caught.value.status == 400


def test_refusals_name_what_they_refuse() -> None:
    for check, value in (
        (check_method, b"G T"),
        (check_authority, b"a b"),
        (parse_length, b"x"),
    ):
        with pytest.raises(ProtocolError, match=repr(value)[2:-1]):
            check(value)
    with pytest.raises(ProtocolError, match="Control byte in the field b'x'"):
        check_value(b"x", b"\0")


def test_content_beyond_the_limit_names_the_setting() -> None:
    error = content_too_large()

    assert (error.status, error.setting) == (413, "BODY_SIZE_LIMIT")
