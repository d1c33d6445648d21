"""Scopes: what the application is told of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from djserve.asgi.forwarded import ProxyHeaders
from djserve.asgi.scope import ScopeBuilder
from djserve.conf.schema import ProxyConfig
from djserve.errors import ProtocolError
from djserve.interfaces import (
    ConnectionInfo,
    Headers,
    Repetition,
    RequestHead,
    Stream,
)
from tests.support.logs import own_messages

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djserve.asgi.types import Scope

INFO = ConnectionInfo(("192.0.2.1", 50000), ("192.0.2.2", 80))
UNIX = ConnectionInfo(None, ("/run/djserve.sock", None), is_unix=True)


class Extensions:
    """A stream that is asked for its extensions only."""

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        return {"http.response.trailers": {}}


STREAM = cast("Stream", Extensions())


def build(
    raw_path: bytes = b"/",
    *,
    query: bytes = b"",
    headers: Headers | None = None,
    info: ConnectionInfo = INFO,
    root_path: str = "",
    mode: str = "auto",
    state: dict[str, Any] | None = None,
    version: str = "1.1",
) -> Scope:
    head = RequestHead("GET", raw_path, query, headers or [], version)
    builder = ScopeBuilder(root_path, state, root_path_mode=mode)
    return builder.build_http(head, info, STREAM)


def test_http_scope_has_every_key() -> None:
    scope = build(b"/a", query=b"b=c", headers=[(b"host", b"d")])

    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a",
        "raw_path": b"/a",
        "query_string": b"b=c",
        "root_path": "",
        "headers": [(b"host", b"d")],
        "client": ("192.0.2.1", 50000),
        "server": ("192.0.2.2", 80),
        "extensions": {"http.response.trailers": {}},
    }


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/a%20b", "/a b"),
        (b"/%C3%A9", "/\xe9"),
        (b"/%2Fa%3F", "//a?"),
        (b"/%FF", "/\ufffd"),
        (b"/%", "/%"),
        (b"/%zz", "/%zz"),
        (b"/a+b", "/a+b"),
        (b"/\xc3\xa9", "/\xe9"),
        (b"/\xc3\xa9%C3%A9", "/\xe9\xe9"),
        (b"*", "*"),
    ],
)
def test_path_is_decoded_and_raw_path_kept(raw_path: bytes, path: str) -> None:
    scope = build(raw_path)

    assert (scope["path"], scope["raw_path"]) == (path, raw_path)


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/", "/app/"),
        (b"/a", "/app/a"),
        (b"/app", "/app/app"),
        (b"/app/a", "/app/app/a"),
        (b"/apple", "/app/apple"),
        (b"/%61pp/a", "/app/app/a"),
        (b"//app/a", "/app//app/a"),
        (b"*", "*"),
    ],
)
@pytest.mark.parametrize("root_path", ["/app", "/app/"])
@pytest.mark.parametrize("mode", ["auto", "strip"])
def test_no_path_is_taken_for_one_that_has_the_root_path(
    raw_path: bytes, path: str, root_path: str, mode: str
) -> None:
    scope = build(raw_path, root_path=root_path, mode=mode)

    assert (scope["root_path"], scope["path"]) == ("/app", path)


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/app", "/app"),
        (b"/app/", "/app/"),
        (b"/app/app/a", "/app/app/a"),
        (b"/%61pp/a", "/app/a"),
        (b"*", "*"),
    ],
)
def test_root_path_that_the_proxy_keeps_stays(raw_path: bytes, path: str) -> None:
    scope = build(raw_path, root_path="/app/", mode="keep")

    assert (scope["root_path"], scope["path"]) == ("/app", path)


@pytest.mark.parametrize("root_path", ["/a%20b/%C3%A9", "/a b/é", "/%61 b/%c3%a9/"])
@pytest.mark.parametrize(
    ("mode", "raw_path"),
    [("keep", b"/a%20b/%C3%A9/x"), ("strip", b"/x"), ("auto", b"/x")],
)
def test_root_path_may_be_encoded_or_not(
    root_path: str, mode: str, raw_path: bytes
) -> None:
    scope = build(raw_path, root_path=root_path, mode=mode)

    assert (scope["root_path"], scope["path"]) == ("/a b/é", "/a b/é/x")


@pytest.mark.parametrize("raw_path", [b"/", b"/a", b"/apple", b"/APP/a", b"//app/a"])
def test_other_path_behind_a_proxy_that_keeps_the_root_path_is_not_found(
    raw_path: bytes,
) -> None:
    with pytest.raises(ProtocolError) as caught:
        build(raw_path, root_path="/app", mode="keep")

    assert (caught.value.status, caught.value.setting) == (404, "ROOT_PATH_MODE")


@pytest.mark.parametrize(("mode", "count"), [("auto", 1), ("strip", 0), ("keep", 0)])
def test_root_path_that_may_have_been_kept_is_pointed_out_once(
    mode: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    builder = ScopeBuilder("/app", root_path_mode=mode)
    for _ in range(2):
        head = RequestHead("GET", b"/app/a", b"", [], "1.1")
        builder.build_http(head, INFO, STREAM)
        builder.build_websocket(head, INFO, [])

    assert len(own_messages(caplog)) == count
    assert all("ROOT_PATH_MODE to 'keep'" in text for text in own_messages(caplog))


def test_unix_socket_has_no_client() -> None:
    scope = build(info=UNIX)

    assert scope["client"] is None
    assert scope["server"] == ("/run/djserve.sock", None)


def test_tls_gives_scheme_and_extension() -> None:
    chain: list[str] = []
    tls = {"tls_version": 0x0304, "client_cert_chain": chain}
    scope = build(info=ConnectionInfo(None, None, tls))

    assert scope["scheme"] == "https"
    assert scope["extensions"]["tls"] == tls
    assert scope["extensions"]["tls"] is not tls
    assert scope["extensions"]["tls"]["client_cert_chain"] is not chain


def test_scopes_share_nothing_but_the_states_values() -> None:
    shared: list[int] = []
    builder = ScopeBuilder(state={"shared": shared})
    head = RequestHead("GET", b"/", b"", [], "1.1")
    first = builder.build_http(head, INFO, STREAM)
    second = builder.build_http(head, INFO, STREAM)
    first["state"]["own"] = 1
    first["asgi"]["own"] = 1
    first["extensions"]["own"] = 1

    assert second["state"] == {"shared": []}
    assert second["state"]["shared"] is shared
    assert "own" not in second["asgi"] | second["extensions"]


@pytest.mark.parametrize("tls", [None, {"tls_version": 0x0304}])
@pytest.mark.parametrize("forwards", [False, True])
@pytest.mark.parametrize("state", [None, {"shared": 1}])
def test_scopes_of_a_repeated_head_are_equal_and_share_nothing(
    state: dict[str, Any] | None, forwards: bool, tls: dict[str, Any] | None
) -> None:
    headers = [(b"host", b"a"), (b"x-forwarded-for", b"203.0.113.9")]
    info = ConnectionInfo(("127.0.0.1", 50000), ("192.0.2.2", 80), tls)
    builder = ScopeBuilder("/app", state, root_path_mode="strip")
    plain = RequestHead("GET", b"/a%20b", b"c=d", list(headers), "1.1")
    repeated = RequestHead("GET", b"/a%20b", b"c=d", list(headers), "1.1")
    repeated.repetition = Repetition()
    proxy = ProxyHeaders(ProxyConfig(proxy_headers=True))
    forwarded = proxy.apply(plain, info) if forwards else None
    expected = builder.build_http(plain, info, STREAM, forwarded)

    for _ in range(3):
        scope = builder.build_http(repeated, info, STREAM, forwarded)
        assert scope == expected
        for value in list(scope.values()):
            if isinstance(value, dict | list):
                value.clear()
    assert repeated.headers == headers


def test_tls_of_a_repeated_heads_scopes_is_copied() -> None:
    extension = {"tls_version": 0x0304, "client_cert_chain": ["a certificate"]}
    info = ConnectionInfo(None, None, extension)
    head = RequestHead("GET", b"/", b"", [], "1.1")
    head.repetition = Repetition()
    for _ in range(3):
        tls = ScopeBuilder().build_http(head, info, STREAM)["extensions"]["tls"]
        assert tls == {"tls_version": 0x0304, "client_cert_chain": ["a certificate"]}
        tls["client_cert_chain"].clear()
        tls.clear()


def test_scope_of_a_repeated_head_has_what_works_on_its_own_stream() -> None:
    class Changing(Extensions):
        offered: Mapping[str, dict[str, Any]]

        @property
        def extensions(self) -> Mapping[str, dict[str, Any]]:
            return self.offered

    stream = Changing()
    head = RequestHead("GET", b"/", b"", [], "2")
    head.repetition = Repetition()
    builder = ScopeBuilder()
    for names in (["a", "push"], ["a"], [], ["push"]):
        stream.offered = {name: {} for name in names}
        scope = builder.build_http(head, INFO, cast("Stream", stream))
        assert list(scope["extensions"]) == names
        scope["extensions"]["more"] = {}
        assert list(stream.offered) == names


def test_scope_of_a_repeated_head_has_the_headers_of_its_copy() -> None:
    head = RequestHead("GET", b"/", b"", [], "1.1")
    head.repetition = Repetition()
    for number in (b"1", b"2", b"3"):
        scope = ScopeBuilder().build_http(
            head.copy([(b"x-request-id", number)]), INFO, STREAM
        )
        assert scope["headers"] == [(b"x-request-id", number)]


def test_without_lifespan_there_is_no_state() -> None:
    assert "state" not in build()


def test_state_is_there_even_if_empty() -> None:
    assert build(state={})["state"] == {}


def test_http_version_is_passed_on() -> None:
    assert build(version="1.0")["http_version"] == "1.0"


@pytest.mark.parametrize(("tls", "scheme"), [(None, "ws"), ({}, "wss")])
def test_websocket_scope(tls: dict[str, Any] | None, scheme: str) -> None:
    head = RequestHead("GET", b"/chat", b"a=b", [(b"host", b"c")], "1.1")
    info = ConnectionInfo(("192.0.2.1", 1), None, tls)
    scope = ScopeBuilder().build_websocket(head, info, ["one", "two"])

    assert (scope["type"], scope["scheme"]) == ("websocket", scheme)
    assert scope["subprotocols"] == ["one", "two"]
    assert "method" not in scope
    assert scope["extensions"]["websocket.http.response"] == {}
    assert ("tls" in scope["extensions"]) is (tls is not None)


def test_a_trusted_proxys_word_replaces_the_connections() -> None:
    headers = [
        (b"host", b"inner"),
        (b"x-forwarded-for", b"203.0.113.9"),
        (b"x-forwarded-proto", b"https"),
        (b"x-forwarded-host", b"outer"),
    ]
    head = RequestHead("GET", b"/", b"", headers, "1.1")
    forwarded = ProxyHeaders(ProxyConfig(proxy_headers=True)).apply(head, UNIX)
    scope = ScopeBuilder().build_http(head, UNIX, STREAM, forwarded)

    assert scope["client"] == ("203.0.113.9", 0)
    assert scope["scheme"] == "https"
    assert dict(scope["headers"])[b"host"] == b"outer"
