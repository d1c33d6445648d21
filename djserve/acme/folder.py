"""What ACME keeps between runs: the account's key, the certificate, the challenges.

Each file is replaced as a whole, so that a reader gets the old one or the new one.
Only the server's user reads the folder; with USER, the workers' user can read the
certificate and the answers to challenges, and write nothing.
"""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from djserve.acme.challenges import CHALLENGES, is_token, tls_challenge_path
from djserve.conf.schema_https import certificate_path
from djserve.system import read_regular, replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djserve.conf.schema_https import ACMEConfig

# Of a certificate's life, after which the next one is ordered.
_RENEWAL_SHARE = 2 / 3

# Longer than a server waits for its first certificate.
_PLACEHOLDER_LIFE = timedelta(days=30)
_PLACEHOLDER = "djserve waits for its certificate"


class Owner(NamedTuple):
    """The workers' user and group, None if they are the server's."""

    user: str | None = None
    group: str | None = None


SAME_OWNER = Owner()


class CertificateFolder:
    """The files of one directory of certificates, in ACME_FOLDER."""

    def __init__(self, config: ACMEConfig, owner: Owner = SAME_OWNER) -> None:
        self._config = config
        self._domains = config.acme_domains
        self._owner = owner
        self.certificate = Path(certificate_path(config))
        self.path = self.certificate.parent
        self.account = self.path / "account.pem"
        self.lock = self.path / "lock"
        self.backoff = self.path / "backoff.json"
        self.challenges = self.path / CHALLENGES

    def prepare(self) -> None:
        """Make what is missing, a self-signed certificate too. Raises OSError."""
        is_shared = any(self._owner)
        for path in (self.path.parent, self.path, self.challenges):
            if not path.is_dir():
                path.mkdir(mode=0o711 if is_shared else 0o700, parents=True)
        if self._load() is None:
            self.save_certificate(_make_placeholder(self._domains))

    def save_certificate(self, pem: bytes) -> None:
        """Replace the present private key and chain."""
        write_file(self.certificate, pem, self._owner)

    def save_challenge(self, token: str, content: str) -> Path:
        """Keep the answer to a challenge where the server looks for it."""
        if not is_token(token):
            raise ValueError(f"not a token: {token!r}")
        path = self.challenges / token
        write_file(path, content.encode("ascii"), self._owner)
        return path

    def save_tls_challenge(self, domain: str, pem: bytes) -> Path:
        """Keep the certificate that answers for a name where the server looks."""
        path = Path(tls_challenge_path(self._config, domain))
        write_file(path, pem, self._owner)
        return path

    def due_in(self) -> float:
        """Return the seconds until a certificate is to be ordered; none are left: 0."""
        certificate = self._load()
        if certificate is None or _is_placeholder(certificate):
            return 0.0
        if _names(certificate) != {name.lower() for name in self._domains}:
            return 0.0
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        due = begin + (end - begin) * _RENEWAL_SHARE
        return max(0.0, (due - datetime.now(UTC)).total_seconds())

    def _load(self) -> x509.Certificate | None:
        try:
            return x509.load_pem_x509_certificate(read_regular(self.certificate))
        except (FileNotFoundError, ValueError):
            return None


def write_file(path: Path, data: bytes, owner: Owner = SAME_OWNER) -> None:
    """Write a file for its owner's eyes, and then give it its name."""
    replace_file(path, data, partial(_give_away, owner=owner), is_durable=True)


def _give_away(path: str, owner: Owner) -> None:
    if owner.user is not None and owner.group is not None:
        shutil.chown(path, owner.user, owner.group)
    elif owner.user is not None:
        shutil.chown(path, owner.user)
    elif owner.group is not None:
        shutil.chown(path, group=owner.group)
        os.chmod(path, 0o640)


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Return a private key in PEM."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def self_sign(
    name: x509.NameAttribute[Any],
    domains: Iterable[str],
    life: timedelta,
    *critical: x509.ExtensionType,
) -> bytes:
    """Return a new key and a certificate by it, valid from an hour ago, in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([name])
    names = x509.SubjectAlternativeName([x509.DNSName(domain) for domain in domains])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
        .add_extension(names, critical=False)
    )
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    return private_pem(key) + certificate.public_bytes(Encoding.PEM)


def _make_placeholder(domains: tuple[str, ...]) -> bytes:
    """Make a certificate that lets the server begin; no client trusts it."""
    name = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, _PLACEHOLDER)
    return self_sign(name, domains, _PLACEHOLDER_LIFE)


def _is_placeholder(certificate: x509.Certificate) -> bool:
    attributes = certificate.subject.get_attributes_for_oid(
        x509.NameOID.ORGANIZATION_NAME
    )
    return any(attribute.value == _PLACEHOLDER for attribute in attributes)


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
    except x509.ExtensionNotFound:
        return set()
    names = extension.value.get_values_for_type(x509.DNSName)
    return {name.lower() for name in names}
