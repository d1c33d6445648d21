"""The settings of TLS."""

from __future__ import annotations

import pytest

from djserve.conf.parser import parse
from djserve.errors import ConfigError


def test_tls_is_off_and_asks_nobody_for_a_certificate() -> None:
    config = parse({}).tls

    assert config.certfile is None
    assert config.client_certificates == "none"
    assert config.sni_certfiles == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("CLIENT_CERTIFICATES", "perhaps"),
        ("CERTIFICATE_CHECK_INTERVAL", -1),
        ("SNI_CERTFILES", "one.pem"),
    ],
)
def test_what_makes_no_sense_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        parse({key: value})
