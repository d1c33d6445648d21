"""The answers to challenges: which names are one, and what it takes to read them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from djserve.acme.challenges import find_tls_challenge, read_challenge
from djserve.acme.folder import CertificateFolder
from djserve.conf.schema_https import ACMEConfig

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


def config_of(folder: Path) -> ACMEConfig:
    return ACMEConfig(acme_domains=("a.example.com",), acme_folder=str(folder))


@pytest.fixture
def folder(tmp_path: Path) -> CertificateFolder:
    folder = CertificateFolder(config_of(tmp_path / "acme"))
    folder.prepare()
    return folder


def test_challenge_is_read_until_it_is_removed(
    folder: CertificateFolder, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "acme")
    path = folder.save_challenge(TOKEN, f"{TOKEN}.thumbprint")
    assert read_challenge(config, TOKEN) == f"{TOKEN}.thumbprint".encode()

    path.unlink()
    assert read_challenge(config, TOKEN) is None


@pytest.mark.parametrize(
    "token", ["", ".", "../certificate.pem", "a/b", "a%2Fb", "a\0", "a\n", "x" * 129]
)
def test_nothing_but_a_token_is_a_name(
    folder: CertificateFolder, tmp_path: Path, token: str
) -> None:
    assert read_challenge(config_of(tmp_path / "acme"), token) is None
    with pytest.raises(ValueError, match="not a token"):
        folder.save_challenge(token, "x")


def test_link_is_not_followed(folder: CertificateFolder, tmp_path: Path) -> None:
    (folder.challenges / "link").symlink_to(folder.certificate)

    assert read_challenge(config_of(tmp_path / "acme"), "link") is None


def test_answer_in_a_certificate_is_found_by_its_name(
    folder: CertificateFolder, tmp_path: Path
) -> None:
    config = config_of(tmp_path / "acme")
    assert find_tls_challenge(config, "a.example.com") is None
    path = folder.save_tls_challenge("a.example.com", b"pem")

    assert find_tls_challenge(config, "A.example.COM") == str(path)
    assert read_challenge(config, path.name) is None


@pytest.mark.parametrize(
    "name", [None, "", "b.example.com", "../certificate", "a.example.com/../x", "a\0"]
)
def test_no_other_name_leads_to_a_file(
    folder: CertificateFolder, tmp_path: Path, name: str | None
) -> None:
    folder.save_tls_challenge("b.example.com", b"pem")

    assert find_tls_challenge(config_of(tmp_path / "acme"), name) is None


@pytest.mark.e2e
def test_no_cryptography_is_imported() -> None:
    program = (
        "import sys, djserve.acme.challenges; sys.exit('cryptography' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", program], timeout=300).returncode == 0
