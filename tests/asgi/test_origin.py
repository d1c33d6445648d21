from __future__ import annotations

import pytest

from djserve.asgi.origin import (
    OriginPolicy,
    create_policy,
    explain_refusal,
    origin_allowed,
    parse_origin,
)


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
        ("chrome-extension://example.com", "example.com"),
        ("null", "*"),
        ("null", "null"),
        ("", "*"),
        ("example.com", "example.com"),
        ("https://example.com/path", "example.com"),
        ("https://user@example.com", "example.com"),
        ("https://example.com:99999", "*"),
        ("https://[", "*"),
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
        ("null", "null"),
    ],
)
def test_origin_that_only_resembles_a_trusted_one_is_refused(
    origin: str, trusted: str
) -> None:
    assert not allows(origin, "example.com", trusted=(trusted,))


def test_page_without_tls_may_not_speak_by_tls() -> None:
    assert not allows("http://example.com", "example.com", secure=True)
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


def test_origin_is_parsed_to_scheme_host_and_port() -> None:
    assert parse_origin("HTTPS://A.test") == ("https", "a.test", 443)
    assert parse_origin("app://x") == ("app", "x", None)
