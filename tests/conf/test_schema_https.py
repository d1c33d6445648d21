"""The settings beside HTTPS: what the defaults promise, and what is refused."""

from __future__ import annotations

import pytest

from djserve.conf.parser import Flag, parse
from djserve.errors import ConfigError
from djserve.management.development import OVERRIDES


def test_nothing_is_redirected_unless_asked_for() -> None:
    config = parse({}).redirect

    assert config.redirect_http == ()
    assert config.redirect_port is None


def test_redirect_needs_a_certificate() -> None:
    with pytest.raises(ConfigError, match=r"REDIRECT_HTTP.*a certificate as well"):
        parse({"REDIRECT_HTTP": ["127.0.0.1:80"]})


def test_port_must_be_one() -> None:
    with pytest.raises(ConfigError, match=r"REDIRECT_PORT.*up to 65535, got 70000"):
        parse({"REDIRECT_PORT": 70_000})


COMPLETE = {
    "ACME_DOMAINS": ["a.example.com"],
    "ACME_FOLDER": "/var/lib/site",
    "ACME_AGREE_TO_TERMS": True,
    "REDIRECT_HTTP": ["127.0.0.1:80"],
}


def test_certificate_of_acme_is_in_its_folder() -> None:
    tls = parse(COMPLETE).tls

    assert tls.certfile == (
        "/var/lib/site/acme-v02.api.letsencrypt.org_directory/certificate.pem"
    )
    assert tls.keyfile is None


@pytest.mark.parametrize("key", ["ACME_FOLDER", "ACME_AGREE_TO_TERMS", "REDIRECT_HTTP"])
def test_acme_needs_all_that_it_needs(key: str) -> None:
    settings = {name: value for name, value in COMPLETE.items() if name != key}

    with pytest.raises(ConfigError, match=rf"ACME_DOMAINS.*\({key}\), got none"):
        parse(settings)


def test_challenge_on_the_port_of_https_needs_no_other() -> None:
    settings = {name: value for name, value in COMPLETE.items() if "HTTP" not in name}
    config = parse({**settings, "ACME_CHALLENGE": "tls-alpn-01"})

    assert config.acme.acme_challenge == "tls-alpn-01"
    with pytest.raises(ConfigError, match=r"ACME_CHALLENGE.*tls-alpn-01"):
        parse({**settings, "ACME_CHALLENGE": "dns-01"})


@pytest.mark.parametrize(
    ("key", "value"),
    [("CERTFILE", __file__), ("KEYFILE", __file__), ("CERTIFICATE_CHECK_INTERVAL", 0)],
)
def test_what_contradicts_acme_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=" with "):
        parse({**COMPLETE, key: value})


@pytest.mark.parametrize(
    "name", ["", "*.example.com", "127.0.0.1", "a b", "-a.test", "a..b", "http://a.b"]
)
def test_domain_is_a_name(name: str) -> None:
    with pytest.raises(ConfigError, match=r"ACME_DOMAINS.*expected a host's name"):
        parse({**COMPLETE, "ACME_DOMAINS": [name]})


@pytest.mark.parametrize("url", ["http://a.test/dir", "https://", "a.test", ""])
def test_directory_is_asked_by_https(url: str) -> None:
    with pytest.raises(ConfigError, match=r"ACME_DIRECTORY.*expected a URL"):
        parse({**COMPLETE, "ACME_DIRECTORY": url})


def test_development_orders_nothing() -> None:
    assert parse({**COMPLETE, **OVERRIDES}).acme.acme_domains == ()


@pytest.mark.parametrize("name", ["--acme-domains", "DJSERVE_ACME_DOMAINS"])
def test_what_lacks_is_named_by_the_flag_or_variable_of_a_list(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"ACME_DOMAINS": [Flag(name, "a.example.com")]})

    assert all(line.startswith(f"{name}: ") for line in caught.value.problems)
