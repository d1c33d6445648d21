"""HTTP3: off by default, and what it needs beside it."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from djserve.conf.parser import parse
from djserve.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
try:
    INSTALLED = version("aioquic")
except PackageNotFoundError:
    INSTALLED = ""


def test_off_by_default() -> None:
    assert not parse({}).http3.http3


def test_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"HTTP3.*certificate as well"):
        parse({"HTTP3": True})
    (tmp_path / "cert.pem").touch()
    assert parse({"HTTP3": True, "CERTFILE": str(tmp_path / "cert.pem")}).http3.http3


def test_certificates_by_acme_are_some() -> None:
    config = parse(
        {
            "HTTP3": True,
            "ACME_DOMAINS": ["a.example"],
            "ACME_FOLDER": "acme",
            "ACME_AGREE_TO_TERMS": True,
            "ACME_CHALLENGE": "tls-alpn-01",
        }
    )

    assert config.http3.http3


@pytest.mark.parametrize("key", ["CLIENT_CERTIFICATES", "SNI_CERTFILES"])
def test_needs_what_quic_can_keep(tmp_path: Path, key: str) -> None:
    path = tmp_path / "cert.pem"
    path.touch()
    values: dict[str, Any] = {"HTTP3": True, "CERTFILE": str(path)}
    if key == "CLIENT_CERTIFICATES":
        values |= {key: "required", "CLIENT_CA_FILE": str(path)}
    else:
        values[key] = [str(path)]

    with pytest.raises(ConfigError, match="HTTP3"):
        parse(values)


def test_version_is_within_the_range_that_is_declared() -> None:
    """The engine uses names of aioquic that are not public: each release is tried."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = map(Requirement, project["optional-dependencies"]["http3"])
    specifier = next(each.specifier for each in declared if each.name == "aioquic")

    assert specifier.contains(INSTALLED or "1.7.0")
    assert not specifier.contains("1.8")
