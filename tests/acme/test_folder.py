"""What ACME keeps: who may read it, and when the next certificate is due."""

from __future__ import annotations

import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from djserve.acme.folder import CertificateFolder, Owner, write_file
from djserve.conf.schema_https import ACMEConfig

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


def config_of(folder: Path, *domains: str) -> ACMEConfig:
    return ACMEConfig(
        acme_domains=domains or ("a.example.com",), acme_folder=str(folder)
    )


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put(
    folder: CertificateFolder, *names: str, begin: timedelta, end: timedelta
) -> None:
    """Keep a certificate of so much before and after now."""
    now = datetime.now(UTC)
    issued = trustme.CA().issue_cert(
        *names, not_before=now + begin, not_after=now + end
    )
    folder.save_certificate(issued.private_key_and_cert_chain_pem.bytes())


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    folder = CertificateFolder(config_of(tmp_path / "acme"))
    folder.prepare()
    return folder


def test_placeholder_is_there_at_once_and_due_to_be_replaced(
    folder: CertificateFolder,
) -> None:
    pem = folder.certificate.read_bytes()
    folder.prepare()

    assert b"PRIVATE KEY" in pem
    assert folder.certificate.read_bytes() == pem
    assert folder.due_in() == 0
    assert mode_of(folder.certificate) == 0o600
    assert mode_of(folder.path) == mode_of(folder.challenges) == 0o700


def test_certificate_is_due_at_two_thirds_of_its_life(
    folder: CertificateFolder,
) -> None:
    day = timedelta(days=1)
    put(folder, "A.example.com", begin=-30 * day, end=60 * day)
    assert folder.due_in() == pytest.approx(30 * day.total_seconds(), abs=300)

    put(folder, "a.example.com", begin=-70 * day, end=20 * day)
    assert folder.due_in() == 0


@pytest.mark.parametrize("names", [("b.example.com",), ("a.example.com", "b.test")])
def test_certificate_for_other_names_is_due(
    folder: CertificateFolder, names: tuple[str, ...]
) -> None:
    put(folder, *names, begin=-timedelta(days=1), end=timedelta(days=90))

    assert folder.due_in() == 0


def test_file_that_is_no_certificate_is_replaced(folder: CertificateFolder) -> None:
    folder.certificate.write_bytes(b"garbage")
    assert folder.due_in() == 0

    folder.prepare()
    assert b"BEGIN CERTIFICATE" in folder.certificate.read_bytes()


def test_other_directory_has_another_certificate(tmp_path: Path) -> None:
    staging = ACMEConfig(
        acme_domains=("a.test",),
        acme_folder=str(tmp_path),
        acme_directory="https://staging.example.com/directory",
    )

    assert CertificateFolder(staging).path.name == "staging.example.com_directory"
    assert (
        CertificateFolder(staging).path != CertificateFolder(config_of(tmp_path)).path
    )


def test_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    with pytest.raises(LookupError):
        write_file(path, b"new", Owner("no-such-user-here"))

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_workers_user_may_read_and_not_write(tmp_path: Path) -> None:
    folder = CertificateFolder(config_of(tmp_path / "acme"), Owner("nobody"))
    folder.prepare()
    path = folder.save_challenge(TOKEN, "x")

    for file in (folder.certificate, path):
        assert file.owner() == "nobody"
        assert mode_of(file) == 0o600
    for each in (folder.path, folder.challenges):
        assert each.owner() != "nobody"
        assert mode_of(each) == 0o711
