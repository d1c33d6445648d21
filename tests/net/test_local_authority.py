"""The development certificate: made once, kept, renewed, trusted by real clients."""

from __future__ import annotations

import os
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from djserve.net import local_authority
from djserve.net.local_authority import (
    DevelopmentCertificate,
    default_directory,
    development_certificate,
    explain_trust,
)


@pytest.fixture
def made(tmp_path: Path) -> DevelopmentCertificate:
    return development_certificate(tmp_path / "djserve")


def load(path: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(Path(path).read_bytes())


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_client_that_trusts_the_authority_accepts_this_machine(
    made: DevelopmentCertificate, name: str
) -> None:
    client = ssl.create_default_context(cafile=made.ca_path)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(made.certfile, made.keyfile)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_side = client.wrap_bio(down, up, server_hostname=name)
    server_side = server.wrap_bio(up, down, server_side=True)
    for side in (client_side, server_side) * 2:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue

    assert client_side.version() == "TLSv1.3"


def test_authority_vouches_for_this_machine_alone(
    made: DevelopmentCertificate,
) -> None:
    extensions = load(made.ca_path).extensions
    constraints = extensions.get_extension_for_class(x509.NameConstraints)

    assert constraints.critical
    assert constraints.value.permitted_subtrees is not None
    assert x509.DNSName("localhost") in constraints.value.permitted_subtrees


def test_everything_is_kept(made: DevelopmentCertificate) -> None:
    before = [Path(path).read_bytes() for path in made]
    again = development_certificate(Path(made.certfile).parent)

    assert again == made
    assert [Path(path).read_bytes() for path in again] == before


def test_keys_are_the_users_alone(made: DevelopmentCertificate) -> None:
    folder = Path(made.keyfile).parent

    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "ca.pem": 0o644,
        "ca-key.pem": 0o600,
        "localhost.pem": 0o644,
        "localhost-key.pem": 0o600,
    }


def test_certificate_that_expires_soon_is_renewed_by_the_same_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(local_authority, "_CERTIFICATE_LIFE", timedelta(days=13))
        made = development_certificate(tmp_path)
    authority = Path(made.ca_path).read_bytes()
    development_certificate(tmp_path)

    left = load(made.certfile).not_valid_after_utc - datetime.now(UTC)
    assert left > timedelta(days=300)
    assert Path(made.ca_path).read_bytes() == authority


@pytest.mark.parametrize("broken", ["localhost.pem", "localhost-key.pem"])
def test_broken_files_are_made_again(made: DevelopmentCertificate, broken: str) -> None:
    folder = Path(made.certfile).parent
    (folder / broken).write_text("nonsense")
    again = development_certificate(folder)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(again.certfile, again.keyfile)
    assert load(again.certfile).issuer == load(again.ca_path).subject


def test_new_authority_issues_a_new_certificate(made: DevelopmentCertificate) -> None:
    os.unlink(made.ca_path)
    again = development_certificate(Path(made.certfile).parent)

    load(again.certfile).verify_directly_issued_by(load(again.ca_path))


def test_directory_is_the_users_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_directory() == Path("/data/djserve")

    monkeypatch.setattr(sys, "platform", "darwin")
    assert default_directory() == Path.home() / "Library/Application Support/djserve"


def test_command_that_trusts_names_the_authority() -> None:
    assert "'/a b/ca.pem'" in explain_trust("/a b/ca.pem")
