"""A certificate for https on this machine, from its own authority.

Made once for each user. The authority can vouch for this machine's own names alone, so
that trusting it puts no other host at risk.
"""

from __future__ import annotations

import ipaddress
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from djserve.system import replace_file

_AUTHORITY_LIFE = timedelta(days=3650)
# Browsers refuse server certificates that live longer than about two years.
_CERTIFICATE_LIFE = timedelta(days=397)
_RENEWAL = timedelta(days=14)
# Clocks of containers and virtual machines may be a little behind.
_CLOCK_SKEW = timedelta(hours=1)

_NAMES = ("localhost",)
_ADDRESSES = ("127.0.0.1", "::1")
_NETWORKS = ("127.0.0.0/8", "::1/128")


class DevelopmentCertificate(NamedTuple):
    """Paths of PEM files: the server's two, and the authority's certificate."""

    certfile: str
    keyfile: str
    ca_path: str


def default_directory() -> Path:
    """Return where the user's own data of this program belongs."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "djserve"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or str(Path.home() / "AppData/Local")
        return Path(local) / "djserve"
    data_home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local/share")
    return Path(data_home) / "djserve"


def development_certificate(
    directory: str | os.PathLike[str] | None = None,
) -> DevelopmentCertificate:
    """Return a certificate for localhost; make what is missing or about to expire.

    The authority is kept as long as it is valid, so that it has to be trusted once.
    Raises OSError if the directory cannot be used.
    """
    folder = default_directory() if directory is None else Path(directory)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_path, ca_keyfile = folder / "ca.pem", folder / "ca-key.pem"
    certfile, keyfile = folder / "localhost.pem", folder / "localhost-key.pem"
    authority = _load(ca_path, ca_keyfile)
    if authority is None:
        authority = _make_authority()
        _save(authority, ca_path, ca_keyfile)
    ca_certificate, ca_key = authority
    current = _load(certfile, keyfile)
    if current is None or not _is_issued_by(current[0], ca_certificate):
        leaf = _make_certificate(ca_certificate, ca_key)
        _save(leaf, certfile, keyfile)
    return DevelopmentCertificate(str(certfile), str(keyfile), str(ca_path))


def explain_trust(ca_path: str) -> str:
    """Return the line that tells how browsers of this machine come to trust it."""
    if sys.platform == "darwin":
        keychain = "~/Library/Keychains/login.keychain-db"
        return f"security add-trusted-cert -r trustRoot -k {keychain} '{ca_path}'"
    if sys.platform == "win32":
        return f'certutil -user -addstore Root "{ca_path}"'
    return (
        'certutil -d "sql:$HOME/.pki/nssdb" -A -t C,, -n "djserve development" '
        f"-i '{ca_path}'"
    )


_Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _load(certfile: Path, keyfile: Path) -> _Pair | None:
    """Return a pair that is whole and valid for some time to come, else None."""
    try:
        certificate = x509.load_pem_x509_certificate(certfile.read_bytes())
        key = load_pem_private_key(keyfile.read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return None
    is_fresh = certificate.not_valid_after_utc - _RENEWAL > datetime.now(UTC)
    is_pair = certificate.public_key() == key.public_key()
    return (certificate, key) if is_fresh and is_pair else None


def _is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except Exception:
        # ValueError, TypeError or InvalidSignature: not this authority's, either way.
        return False
    return True


def _make_authority() -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("djserve development authority")
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    permitted: list[x509.GeneralName] = [x509.DNSName("localhost")]
    permitted += [x509.IPAddress(ipaddress.ip_network(text)) for text in _NETWORKS]
    certificate = (
        _begin(name, name, key, _AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate, key


def _make_certificate(
    ca_certificate: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.DNSName(name) for name in _NAMES]
    names += [x509.IPAddress(ipaddress.ip_address(text)) for text in _ADDRESSES]
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    certificate = (
        _begin(_name("localhost"), ca_certificate.subject, key, _CERTIFICATE_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer, critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return certificate, key


def _begin(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    life: timedelta,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + life)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "djserve"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _save(pair: _Pair, certfile: Path, keyfile: Path) -> None:
    """Write both files so that a server starting now sees no half of one."""
    certificate, key = pair
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(keyfile, secret)
    pem = certificate.public_bytes(Encoding.PEM)
    replace_file(certfile, pem, lambda path: os.chmod(path, 0o644))
