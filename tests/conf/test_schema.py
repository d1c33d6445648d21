from __future__ import annotations

import dataclasses
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from djserve.conf.parser import parse
from djserve.conf.schema import BindConfig, BoundsConfig, HTTPConfig, ServerConfig
from djserve.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
try:
    INSTALLED = version("aioquic")
except PackageNotFoundError:
    INSTALLED = ""


def test_configuration_without_settings_is_complete() -> None:
    config = ServerConfig()

    assert config.bind.bind == ("127.0.0.1:8000",)
    assert config.workers.workers == 1
    assert config.tls.certfile is None


def test_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        ServerConfig().bind.backlog = 1  # type: ignore[misc]


def test_groups_take_keywords_only() -> None:
    with pytest.raises(TypeError):
        BindConfig(("127.0.0.1:1",))  # type: ignore[call-arg]
    assert HTTPConfig(server_name="x").server_name == "x"


def test_defaults_bound_uploads_and_leave_connections_to_the_descriptors() -> None:
    bounds = BoundsConfig()

    assert bounds.connection_limit is None
    assert bounds.upload_disk_limit == 8 * 2**30
    assert bounds.body_time_limit == 3600.0


def test_bounds_are_read_from_the_settings() -> None:
    config = parse({"CONNECTION_LIMIT": 500, "BODY_TIME_LIMIT": None})

    assert config.bounds.connection_limit == 500
    assert config.bounds.body_time_limit is None


@pytest.mark.parametrize(
    ("key", "value"),
    [("CONNECTION_LIMIT", 0), ("UPLOAD_DISK_LIMIT", -1), ("BODY_TIME_LIMIT", 0)],
)
def test_bound_that_lets_nothing_through_is_an_error(key: str, value: int) -> None:
    with pytest.raises(ConfigError, match=key):
        parse({key: value})


@pytest.mark.parametrize("value", [0, 101])
def test_share_of_a_view_is_a_percentage(value: int) -> None:
    with pytest.raises(ConfigError, match=r"THREAD_SHARE.* from 1 to 100"):
        parse({"THREAD_SHARE": value})


def test_folders_are_given_as_a_mapping_or_a_list(tmp_path: Path) -> None:
    mapping = parse({"FILES": {"/media/": tmp_path}})
    listed = parse({"FILES": [f"/media/={tmp_path}"]})

    assert mapping.files == listed.files


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("STATIC", True, "one of 'auto', 'on', 'off'"),
        ("STATIC_MAX_AGE", -1, "a whole number from 0 up"),
        ("FILES", "/media/=.", "a list of strings"),
        ("FILES", {"/media/": "/no/such/folder"}, "'/no/such/folder' is not a folder"),
        ("FILES_INDEX", "yes", "True or False"),
    ],
)
def test_wrong_folder_is_named(key: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse({key: value})

    assert key in str(failure.value)
    assert expected in str(failure.value)


def test_http2_is_on_and_bounded() -> None:
    config = parse({}).http2

    assert config.http2
    assert config.http2_cleartext == "trusted"
    assert config.http2_call_limit >= config.http2_stream_limit


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HTTP2_CLEARTEXT", "maybe"),
        ("HTTP2_STREAM_LIMIT", 0),
        ("HTTP2_CONNECTION_WINDOW_SIZE", 65534),
        ("HTTP2_RESET_LIMIT", 0),
        ("HTTP2_PING_INTERVAL", -1),
    ],
)
def test_wrong_bound_of_http2_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        parse({key: value})


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
def test_wrong_setting_of_tls_is_refused(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=key):
        parse({key: value})


def test_http3_is_off_by_default() -> None:
    assert not parse({}).http3.http3


def test_http3_needs_a_certificate(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"HTTP3.*certificate as well"):
        parse({"HTTP3": True})
    (tmp_path / "cert.pem").touch()
    assert parse({"HTTP3": True, "CERTFILE": str(tmp_path / "cert.pem")}).http3.http3


def test_http3_takes_certificates_by_acme() -> None:
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


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"CLIENT_CERTIFICATES": "required"}, "asks clients for none"),
        ({"CLIENT_CERTIFICATES": "optional"}, "asks clients for none"),
        ({"PROXY_PROTOCOL": True}, "QUIC has no such header"),
        ({"BIND": ["unix:/run/a", "unix:/run/b"]}, "an address with a port in BIND"),
    ],
)
def test_http3_is_refused_beside_what_it_would_get_around(
    given: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "cert.pem")
    Path(path).touch()
    given = {"CERTFILE": path, **given}
    if "CLIENT_CERTIFICATES" in given:
        given["CLIENT_CA_FILE"] = path
    parse(given)

    with pytest.raises(ConfigError, match=f"HTTP3.*{expected}"):
        parse({**given, "HTTP3": True})


def test_http3_needs_one_address_with_a_port(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").touch()
    bind = ["unix:/run/site", "127.0.0.1:8443"]
    given = {"HTTP3": True, "CERTFILE": str(tmp_path / "cert.pem"), "BIND": bind}

    assert parse(given).http3.http3


def test_version_of_aioquic_is_within_the_range_that_is_declared() -> None:
    """The engine uses names of aioquic that are not public: each release is tried."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = map(Requirement, project["optional-dependencies"]["http3"])
    specifier = next(each.specifier for each in declared if each.name == "aioquic")

    assert specifier.contains(INSTALLED or "1.7.0")
    assert not specifier.contains("1.8")
