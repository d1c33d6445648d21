"""Certificate files for QUIC: where the key is, what is refused, what is reloaded."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from djserve.conf.schema import HTTP2Config, TLSConfig
from djserve.errors import ConfigError
from djserve.net.certificates import Certificates
from djserve.net.quic.certificate import QUICCertificates, quic_configuration
from tests.support.logs import own_records

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
        path = str(tmp_path / "both.pem")
        made = quic_configuration(path, None, None, LIMITS)
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
        return quic_configuration(certfile, keyfile, password, LIMITS)

    made = configure("secret")
    assert made.private_key.public_key() == made.certificate.public_key()
    for password in (None, "wrong"):
        with pytest.raises(ConfigError):
            configure(password)


@pytest.mark.parametrize("content", [b"", b"rubbish"])
def test_rubbish_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cert.pem").write_bytes(content)

    with pytest.raises(ConfigError):
        quic_configuration(str(tmp_path / "cert.pem"), None, None, LIMITS)


def test_key_of_another_certificate_is_refused(
    tmp_path: Path, leaf: trustme.LeafCert
) -> None:
    other = trustme.CA().issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    other.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")

    with pytest.raises(ConfigError, match="not that of the certificate"):
        quic_configuration(*files, None, LIMITS)


def test_key_that_aioquic_cannot_sign_with_is_refused(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP521R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    end = now + timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, end)
    certificate = builder.sign(key, hashes.SHA256())
    path = tmp_path / "both.pem"
    path.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )

    with pytest.raises(ConfigError, match="secp521r1"):
        quic_configuration(str(path), None, None, LIMITS)


def write(leaf: trustme.LeafCert, path: Path) -> None:
    leaf.private_key_and_cert_chain_pem.write_to_path(path)


def test_reload_is_followed(tmp_path: Path, leaf: trustme.LeafCert) -> None:
    path = tmp_path / "cert.pem"
    write(leaf, path)
    tls = TLSConfig(certfile=str(path))
    certificates = Certificates(tls, ("http/1.1",))
    made = QUICCertificates(tls, LIMITS, certificates)
    first = made.choose()
    assert made.choose() is first
    assert not made.has_names
    write(trustme.CA().issue_cert("localhost"), path)
    assert certificates.reload()

    second = made.choose()
    assert second.configuration.certificate != first.configuration.certificate
    assert second.certificate != first.certificate


def test_name_chooses_the_certificate(tmp_path: Path, leaf: trustme.LeafCert) -> None:
    write(leaf, tmp_path / "cert.pem")
    write(trustme.CA().issue_cert("*.example"), tmp_path / "other.pem")
    sni = (str(tmp_path / "other.pem"),)
    tls = TLSConfig(certfile=str(tmp_path / "cert.pem"), sni_certfiles=sni)
    certificates = Certificates(tls, ("http/1.1",))
    made = QUICCertificates(tls, LIMITS, certificates)
    assert made.has_names

    default, other = made.choose(), made.choose("a.example")
    assert other.certificate != default.certificate
    assert made.choose("localhost") is made.choose("b.test") is default
    for name in (None, "a.example"):
        assert made.choose(name).context is certificates.choose(name)


def test_files_that_changed_once_more_are_not_mixed(
    tmp_path: Path, leaf: trustme.LeafCert, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS has loaded the new files; QUIC finds others, and serves what it has."""
    path = tmp_path / "cert.pem"
    write(leaf, path)
    tls = TLSConfig(certfile=str(path))
    certificates = Certificates(tls, ("http/1.1",))
    made = QUICCertificates(tls, LIMITS, certificates)
    first = made.choose()
    write(trustme.CA().issue_cert("localhost"), path)
    assert certificates.reload()
    path.write_bytes(b"rubbish")
    caplog.clear()

    for _ in range(2):
        assert made.choose().configuration is first.configuration
    assert [record.levelname for record in own_records(caplog)] == ["ERROR"]
