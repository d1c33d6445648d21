"""Certificate files for QUIC: where the key is, what is refused, what is reloaded."""

from __future__ import annotations

from pathlib import Path

import pytest
import trustme
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from djserve.conf.schema import HTTP2Config, TLSConfig
from djserve.errors import ConfigError
from djserve.net.certificates import Certificates
from djserve.net.quic.certificate import follow_certificates, quic_configuration

LIMITS = HTTP2Config(http2_stream_window_size=2048, http2_connection_window_size=65_536)


@pytest.fixture
def leaf() -> trustme.LeafCert:
    return trustme.CA().issue_cert("localhost")


def test_key_may_stand_before_and_behind(
    tmp_path: Path, leaf: trustme.LeafCert
) -> None:
    chain = leaf.cert_chain_pems[0].bytes()
    key = leaf.private_key_pem.bytes()
    for content in (key + chain, chain + key):
        (tmp_path / "both.pem").write_bytes(content)
        tls = TLSConfig(certfile=str(tmp_path / "both.pem"))
        made = quic_configuration(tls, LIMITS)
        assert made.private_key.public_key() == made.certificate.public_key()
        assert (made.max_stream_data, made.max_data) == (2048, 65_536)
        assert made.alpn_protocols == ["h3"]


def test_key_of_its_own_with_a_password(tmp_path: Path, leaf: trustme.LeafCert) -> None:
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    key = load_pem_private_key(leaf.private_key_pem.bytes(), None)
    encrypted = key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (tmp_path / "key.pem").write_bytes(encrypted)
    certfile, keyfile = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")

    def configure(password: str | None) -> QuicConfiguration:
        tls = TLSConfig(certfile=certfile, keyfile=keyfile, keyfile_password=password)
        return quic_configuration(tls, LIMITS)

    made = configure("secret")
    assert made.private_key.public_key() == made.certificate.public_key()
    for password in (None, "wrong"):
        with pytest.raises(ConfigError):
            configure(password)


@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cert.pem").write_bytes(content)

    with pytest.raises(ConfigError):
        quic_configuration(TLSConfig(certfile=str(tmp_path / "cert.pem")), LIMITS)


def test_reload_is_followed(tmp_path: Path, leaf: trustme.LeafCert) -> None:
    path = tmp_path / "cert.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(path)
    tls = TLSConfig(certfile=str(path))
    certificates = Certificates(tls, ("http/1.1",))
    configure = follow_certificates(tls, LIMITS, certificates)
    first, pem = configure()
    assert configure()[0] is first
    trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(
        path
    )
    assert certificates.reload()

    assert configure()[0].certificate != first.certificate
    assert configure()[1] != pem
