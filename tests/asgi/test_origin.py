from __future__ import annotations

import logging
from urllib.parse import urlparse

import pytest
from channels.security.websocket import OriginValidator

from djserve.asgi.origin import (
    OriginCheck,
    OriginPolicy,
    create_policy,
    explain_refusal,
    origin_allowed,
    parse_origin,
)
from djserve.errors import ProtocolError
from tests.support.logs import own_messages, own_records


def allows(
    origin: str | None,
    *hosts: str,
    trusted: tuple[str, ...] = (),
    secure: bool = False,
) -> bool:
    policy = OriginPolicy(hosts, trusted)
    return origin_allowed(origin, "example.com", secure, policy)


def test_client_without_an_origin_is_no_browser() -> None:
    assert allows(None)


@pytest.mark.parametrize(
    ("origin", "pattern"),
    [
        ("https://example.com", "example.com"),
        ("http://example.com:8443", "example.com"),
        ("https://EXAMPLE.com", "Example.COM"),
        ("https://example.com", ".example.com"),
        ("https://a.b.example.com", ".example.com"),
        ("http://[::1]:8000", "[::1]"),
        ("http://127.0.0.1:3000", "127.0.0.1"),
        ("https://anything.test", "*"),
        ("chrome-extension://abc", "*"),
        # What native clients write: Starscream, Go's x/net/websocket.
        ("ws://example.com", "example.com"),
        ("wss://example.com:8443", "example.com"),
        ("https://example.com/", "example.com"),
        ("wss://EXAMPLE.com:443/", "example.com"),
        ("http://[::1]/", "[::1]"),
        ("capacitor://localhost", "localhost"),
        ("null", "*"),
        ("file://", "*"),
        ("", "*"),
        ("https://[", "*"),
    ],
)
def test_allowed_host_may_connect(origin: str, pattern: str) -> None:
    assert allows(origin, pattern)


@pytest.mark.parametrize(
    ("origin", "pattern"),
    [
        ("https://evil.test", "example.com"),
        ("https://sub.example.com", "example.com"),
        ("https://evilexample.com", ".example.com"),
        ("https://example.com.evil.test", ".example.com"),
        ("https://example.com", ""),
        ("null", "null"),
        ("NULL", "null"),
        ("file://", ""),
        ("file://example.com", "example.com"),
        ("", "example.com"),
        ("https://example.com//", "example.com"),
        ("https://example.com/?", "evil.test"),
        ("example.com", "example.com"),
        ("https://example.com/path", "example.com"),
        ("https://user@example.com", "example.com"),
        ("https://example.com:99999", "example.com"),
        ("https://[", "example.com"),
        ("https://example.com\xff", "example.com"),
    ],
)
def test_other_origin_is_refused(origin: str, pattern: str) -> None:
    assert not allows(origin, pattern)


@pytest.mark.parametrize(
    ("origin", "trusted"),
    [
        ("https://app.test", "https://app.test"),
        ("https://app.test", "https://app.test:443"),
        ("https://a.app.test", "https://*.app.test"),
        ("https://app.test", "https://*.app.test"),
        ("http://app.test:3000", "http://app.test:3000"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("null", "*"),
        ("null", "null"),
        ("file://", "file://"),
        ("wss://app.test/", "https://app.test"),
        ("http://app.test", "ws://app.test/"),
        ("wss://a.app.test", "https://.app.test"),
    ],
)
def test_trusted_origin_may_connect(origin: str, trusted: str) -> None:
    assert allows(origin, "example.com", trusted=(trusted,), secure=True)


@pytest.mark.parametrize(
    ("origin", "trusted"),
    [
        ("http://app.test", "https://app.test"),
        ("https://app.test:444", "https://app.test"),
        ("https://a.app.test", "https://app.test"),
        ("https://evilapp.test", "https://*.app.test"),
        ("https://app.test", "app.test"),
        ("ws://app.test", "https://app.test"),
        ("null", "file://"),
        ("file://", "null"),
        ("file://x", "file://"),
    ],
)
def test_origin_that_only_resembles_a_trusted_one_is_refused(
    origin: str, trusted: str
) -> None:
    assert not allows(origin, "example.com", trusted=(trusted,))


def test_page_without_tls_may_not_speak_by_tls() -> None:
    assert not allows("http://example.com", "example.com", secure=True)
    assert not allows("ws://example.com", "example.com", secure=True)
    assert allows("https://example.com", "example.com", secure=True)


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("http://example.com", "example.com", True),
        ("http://example.com", "Example.com:80", True),
        ("http://example.com:8000", "example.com:8000", True),
        ("http://example.com:8000", "example.com", False),
        ("http://evil.test", "example.com", False),
        ("http://example.com", "", False),
        ("http://example.com", "[", False),
    ],
)
def test_without_allowed_hosts_only_the_same_origin_may_connect(
    origin: str, host: str, allowed: bool
) -> None:
    assert origin_allowed(origin, host, False, OriginPolicy()) is allowed


def test_debug_without_allowed_hosts_means_this_machine() -> None:
    policy = create_policy([], debug=True)

    for host in ("localhost", "app.localhost", "127.0.0.1", "[::1]"):
        assert origin_allowed(f"http://{host}:3000", "localhost:8000", False, policy)
    assert not origin_allowed("http://evil.test", "localhost:8000", False, policy)


def test_no_allowed_hosts_without_debug_allow_none() -> None:
    policy = create_policy([], ["https://a.test"])

    assert policy == OriginPolicy((), ("https://a.test",), explains=False)
    assert not origin_allowed("http://example.com", "example.com", False, policy)


def test_refusal_names_the_settings_where_it_may() -> None:
    assert b"CSRF_TRUSTED_ORIGINS" in explain_refusal("https://\xfc.test", True)
    assert explain_refusal("https://a.test", False) == b"Forbidden"


@pytest.mark.parametrize("host", ["example.com", ".example.com", "[::1]", "*"])
@pytest.mark.parametrize("scheme", ["http", "HTTPS", "ws", "wss", "ionic"])
@pytest.mark.parametrize(
    "authority",
    ["example.com", "EXAMPLE.com:80", "a.example.com:8443", "[::1]", "evil.test"],
)
@pytest.mark.parametrize("end", ["", "/"])
def test_verdict_is_that_of_channels(
    host: str, scheme: str, authority: str, end: str
) -> None:
    origin = f"{scheme}://{authority}{end}"
    validator = OriginValidator(None, [host])

    assert allows(origin, host) is validator.valid_origin(urlparse(origin))


def test_each_origin_has_one_warning_and_there_is_an_end_of_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "djserve")
    check = OriginCheck(OriginPolicy(("example.com",)))
    for number in (*range(150), 0):
        with pytest.raises(ProtocolError, match=r"^Forbidden$") as caught:
            check.check(f"https://{number}.test", "example.com", False)
        assert caught.value.status == 403
    check.check("https://example.com", "example.com", True)

    levels = [record.levelname for record in own_records(caplog)]
    assert levels == ["WARNING"] * 100 + ["INFO"] * 51
    assert "'https://0.test' may not open a WebSocket" in own_messages(caplog)[0]
    assert 'DJSERVE["WEBSOCKET_ORIGINS"]' in own_messages(caplog)[0]


def test_origin_is_parsed_to_scheme_host_and_port() -> None:
    assert parse_origin("HTTPS://A.test") == ("https", "a.test", 443)
    assert parse_origin("wss://a.test/") == ("https", "a.test", 443)
    assert parse_origin("app://x") == ("app", "x", None)
