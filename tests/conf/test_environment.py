"""Environment variables as settings, and what comes before what."""

from __future__ import annotations

import pytest
from django.test import override_settings

from djserve.conf.environment import read_environment, read_platform
from djserve.conf.loader import load, load_for_production
from djserve.conf.parser import Flag, parse
from djserve.errors import ConfigError


def test_each_kind_of_setting_has_a_variable() -> None:
    environ = {
        "DJSERVE_WORKERS": "auto",
        "DJSERVE_HTTP2": "off",
        "DJSERVE_BIND": "0.0.0.0:80, unix:/run/a.sock",
        "DJSERVE_HEADER_TIMEOUT": "5s",
        "DJSERVE_BODY_TIME_LIMIT": "none",
        "DJSERVE_SERVER_NAME": "a",
        "DJSERVE_ROOT_PATH": "",
        "DJSERVE_SUPERVISOR": "on",
        "DJSERVE_LOADER": "3",
        "DJSERVE_INHERITED_SETTINGS": "3",
        "DJSERVE_UPGRADE": "{}",
        "DJSERVE_RELOADER_SOCKETS": "3",
        "DJSERVE_REQUIRE_ALL": "1",
        "DJSERVE_CHANNELS_TEST_FOLDER": "/tmp",
        "DJSERVE_SOMETHING_ELSE": "1",
        "PATH": "/bin",
    }
    config = parse(read_environment(environ))

    assert config.workers.workers is None
    assert config.workers.supervisor == "on"
    assert config.http2.http2 is False
    assert config.bind.bind == ("0.0.0.0:80", "unix:/run/a.sock")
    assert config.http.header_timeout == 5.0
    assert config.bounds.body_time_limit is None
    assert config.http.server_name == "a"
    assert config.proxy.root_path == ""


@pytest.mark.parametrize("word", ["auto", "AUTO", " auto "])
def test_number_of_workers_may_be_that_of_the_cpus(word: str) -> None:
    given = read_platform({"WEB_CONCURRENCY": word}, {})

    assert parse(given).workers.workers is None
    assert parse({"WORKERS": "auto"}).workers.workers is None
    assert parse({"WORKERS": 2}).workers.workers == 2


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("DJSERVE_WORKERS", "two", "DJSERVE_WORKERS: expected a whole number"),
        ("DJSERVE_HTTP2", "maybe", "DJSERVE_HTTP2: expected True or False"),
        ("DJSERVE_BIND", "80:80:80", "DJSERVE_BIND: expected host:port"),
        ("DJSERVE_WORKERS", "none", "DJSERVE_WORKERS: expected a whole number"),
    ],
)
def test_wrong_value_names_its_variable(name: str, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as failure:
        parse(read_environment({name: text}))

    assert str(failure.value).startswith(problem)


def test_name_that_is_nearly_a_key_is_an_error() -> None:
    with pytest.raises(ConfigError, match="did you mean 'DJSERVE_WORKERS'"):
        read_environment({"DJSERVE_WROKERS": "2"})


def test_platform_gives_what_nothing_else_says() -> None:
    environ = {
        "PORT": "5005",
        "WEB_CONCURRENCY": "3",
        "FORWARDED_ALLOW_IPS": "10.0.0.0/8,*",
    }
    config = parse(read_platform(environ, {}))

    assert config.bind.bind == ("0.0.0.0:5005",)
    assert config.workers.workers == 3
    assert config.proxy.proxy_headers
    assert config.proxy.trusted_proxies == ("10.0.0.0/8", "*")
    assert read_platform(
        environ, {"BIND": (), "WORKERS": 1, "PROXY_HEADERS": True}
    ) == {
        "TRUSTED_PROXIES": [
            Flag("FORWARDED_ALLOW_IPS", "10.0.0.0/8"),
            Flag("FORWARDED_ALLOW_IPS", "*"),
        ]
    }


def test_wrong_port_of_a_platform_is_an_error() -> None:
    with pytest.raises(ConfigError, match="PORT: expected host:port"):
        parse(read_platform({"PORT": "http"}, {}))


@override_settings(DJSERVE={"BACKLOG": 1, "KEEP_ALIVE_TIMEOUT": 1, "WORKERS": 1})
def test_flag_comes_before_variable_and_that_before_the_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DJSERVE_BACKLOG", "2")
    monkeypatch.setenv("DJSERVE_KEEP_ALIVE_TIMEOUT", "2")
    monkeypatch.setenv("WEB_CONCURRENCY", "5")
    monkeypatch.setenv("PORT", "5005")
    options = {"KEEP_ALIVE_TIMEOUT": Flag("--keep-alive-timeout", "3")}
    config = load_for_production(options)

    assert config.bind.backlog == 2
    assert config.http.keep_alive_timeout == 3.0
    assert config.workers.workers == 1
    assert config.bind.bind == ("0.0.0.0:5005",)
    # The checks and the development server ignore the platform.
    assert load(options).bind.bind == ("127.0.0.1:8000",)
