from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import BaseCommand

from djserve.cli import build_parser
from djserve.conf.catalogue import DJANGO_SETTINGS, Setting, settings_by_key
from djserve.conf.options import add_arguments, mapping_from_namespace
from djserve.conf.parser import parse
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError
from djserve.management.commands import runasgi, runserver


@cache
def make_parser(**kwargs: Any) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="djserve")
    add_arguments(parser, **kwargs)
    return parser


def mapping_of(line: str) -> dict[str, Any]:
    return mapping_from_namespace(make_parser().parse_args(line.split()))


def config_of(line: str) -> ServerConfig:
    return parse(mapping_of(line))


def problems_of(line: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_of(line)
    return caught.value.problems


def test_nothing_given_sets_nothing() -> None:
    assert mapping_of("") == {}


def test_only_what_is_given_is_set() -> None:
    assert list(mapping_of("--backlog 5")) == ["BACKLOG"]


def text_for(setting: Setting) -> str:
    """A text that the setting takes and that is not its default."""
    if setting.choices:
        return setting.choices[-1]
    if setting.kind in (int, float):
        least = max(12345, (setting.minimum or 0) + 1)
        return str(int(min(least, setting.maximum or least)))
    texts = {
        "address": "localhost:1",
        "datagram-address": "localhost:1",
        "statsd-name": "web",
        "network": "192.0.2.0/24",
        "origin": "https://a.example",
        "access-log-format": "%h",
        "log-format": "%(message)s",
        "file-mode": "600",
        "header": "X-A:1",
        "mount": "/media/=/",
        "internal-mount": "/private/=/",
        "processes": "tasks=db_worker",
        "content-coding": "br",
        "media-type": "text/csv",
        "domain": "a.example.com",
        "https-url": "https://a.example.com/dir",
    }
    return texts.get(
        setting.syntax, "/dev/null" if setting.syntax != "field-name" else "X"
    )


def test_every_setting_has_flags_that_set_it() -> None:
    settings = settings_by_key()
    without = [
        key for key in settings if not all(map(sets_it, flags_of(settings[key])))
    ]

    assert len(settings) > 100
    assert without == []


def flags_of(setting: Setting) -> list[tuple[Setting, str]]:
    assert setting.flags
    return [(setting, flag) for flag in setting.flags]


def sets_it(given: tuple[Setting, str]) -> bool:
    """Return whether a flag sets the setting to something else than its default."""
    setting, flag = given
    certificate = "--certfile /dev/null "
    needed = {
        "KEYFILE": certificate,
        "SNI_CERTFILES": certificate,
        "REDIRECT_HTTP": certificate,
        "HTTP3": certificate,
        "ACME_DOMAINS": "--acme-folder /x --acme-agree-to-terms "
        "--redirect-http localhost:1 ",
        "CLIENT_CERTIFICATES": f"{certificate} --client-ca-file /dev/null ",
        "CLIENT_CA_FILE": f"{certificate} --client-certificates required ",
        "PROXY_HEADERS_HOST": "--proxy-headers ",
    }
    needed["PROXY_HEADERS_PORT"] = "--proxy-headers "
    value = "" if setting.kind is bool else f" {text_for(setting)}"
    if setting.kind is bool and setting.default:
        flag = flag.replace("--", "--no-", 1)
    config = config_of(needed.get(setting.key, "") + flag + value)
    found = getattr(getattr(config, setting.group), setting.name)
    return bool(found != setting.default)


# Each command that takes settings, and the settings that it has flags for.
COMMANDS: dict[str, tuple[Callable[[], argparse.ArgumentParser], set[str]]] = {
    "djserve": (build_parser, {*settings_by_key()} - {*DJANGO_SETTINGS}),
    "runasgi": (
        lambda: runasgi.Command().create_parser("manage.py", "runasgi"),
        {*settings_by_key()},
    ),
    "runserver": (
        lambda: runserver.Command().create_parser("manage.py", "runserver"),
        {*runserver.OFFERED_SETTINGS},
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_key_has_its_derived_flag_in_every_command(command: str) -> None:
    make, keys = COMMANDS[command]
    parser = make()
    application = ["a:b"] if command == "djserve" else []

    for key in sorted(keys):
        setting = settings_by_key()[key]
        flag = "--" + key.lower().replace("_", "-")
        # Django allows its own --verbosity four values.
        text = "2" if key == "VERBOSITY" else text_for(setting)
        line = [flag] if setting.kind is bool else [flag, text]
        mapping = mapping_from_namespace(parser.parse_args([*application, *line]))
        assert key in mapping, flag
        assert set(setting.flags) <= set(parser._option_string_actions)


ALIASES = [
    (setting.key, flag)
    for setting in settings_by_key().values()
    for flag in setting.flags
    if flag != setting.flag
]
"""Each key with each of its flags that is not derived from it."""


def test_aliases_are_daphnes_names_and_usual_letters() -> None:
    assert ("REQUEST_TIMEOUT", "--http-timeout") in ALIASES
    assert ("LOG_FORMAT", "--log-fmt") in ALIASES
    assert ("WORKERS", "-w") in ALIASES


@pytest.mark.parametrize(("key", "alias"), ALIASES)
def test_derived_flag_and_alias_set_the_same(key: str, alias: str) -> None:
    setting = settings_by_key()[key]
    flag = "--" + key.lower().replace("_", "-")

    def value(flag: str) -> object:
        config = config_of(f"{flag} {text_for(setting)}")
        return getattr(getattr(config, setting.group), setting.name)

    assert value(flag) == value(alias) != setting.default


def test_alias_of_another_option_keeps_its_meaning() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-t", "--trace", dest="trace")
    add_arguments(parser)

    options = parser.parse_args(["-t", "x", "--request-timeout", "5"])

    assert options.trace == "x"
    assert parse(mapping_from_namespace(options)).http.request_timeout == 5.0


def test_repeatable_flag_collects_its_values() -> None:
    config = config_of("--trusted-proxies 10.0.0.0/8 --trusted-proxies unix")

    assert config.proxy.trusted_proxies == ("10.0.0.0/8", "unix")


def test_switch_can_be_turned_off() -> None:
    assert not config_of("--no-websocket-compression").websocket.websocket_compression


def test_wrong_values_are_collected() -> None:
    problems = problems_of("--header-timeout abc --backlog 0 -p x --fd y -b a.b:c:d]")

    assert [problem.partition(":")[0] for problem in problems] == [
        "--backlog",
        "--header-timeout",
        "-b",
        "-p",
        "--fd",
    ]


def test_problem_names_the_flag_as_it_was_typed() -> None:
    assert problems_of("-t soon") == [
        "-t: expected seconds as a number from 0.05 up, or a text such as "
        '"30s", got '
        "'soon'"
    ]


def test_help_shows_groups_and_defaults() -> None:
    text = " ".join(make_parser().format_help().split())

    assert "Start and stop: " in text
    assert "Maximum number of header fields in a request; more get 431" in text
    assert "(default: 200)" in text
    assert "(default: %(asctime)-15s %(levelname)-8s %(message)s)" in text
    assert "--lifespan {auto,on,off}" in text


def test_word_for_none_is_offered_and_understood() -> None:
    text = " ".join(make_parser().format_help().split())

    text = text.replace("If-None-Match", "")
    assert "--workers N|auto" in text
    assert "None" not in text.partition("Worker processes")[0]
    assert mapping_of("--workers auto")["WORKERS"].value is None
    assert config_of("--workers auto").workers.workers is None
    assert problems_of("--workers automatic") == [
        "--workers: expected a whole number from 1 to 1024 or auto, got 'automatic'"
    ]


def test_excluded_setting_has_no_flag() -> None:
    text = make_parser(exclude=frozenset({"BIND", "WORKERS"})).format_help()

    assert "--backlog" in text
    for flag in ("--bind", "--port", "--endpoint", "--workers"):
        assert flag not in text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("-b 0.0.0.0", ["0.0.0.0:8000"]),
        ("-p 9000", ["127.0.0.1:9000"]),
        ("-p 0", ["127.0.0.1:0"]),
        ("-b 0.0.0.0 -p 80", ["0.0.0.0:80"]),
        ("--port 80 --bind 0.0.0.0", ["0.0.0.0:80"]),
        ("-b :: -p 80", ["[::]:80"]),
        ("-b [::1] -p 80", ["[::1]:80"]),
        ("-b example.com:81", ["example.com:81"]),
        ("-b [::1]:81", ["[::1]:81"]),
        ("-b a -b b:81 -p 80", ["a:80", "b:81"]),
        ("-b unix:/run/a", ["unix:/run/a"]),
        ("-b fd://3", ["fd://3"]),
        ("-u /run/a", ["unix:/run/a"]),
        ("--fd 0", ["fd://0"]),
        ("-e tcp:80:interface=::1", ["tcp:80:interface=::1"]),
        ("-e fd:fileno=0", ["fd://0"]),
        (
            "-e tcp:1 -e tcp:2 -u /run/a --fd 3 -p 80",
            ["127.0.0.1:80", "unix:/run/a", "fd://3", "tcp:1", "tcp:2"],
        ),
    ],
)
def test_addresses_given_as_to_daphne(line: str, expected: list[str]) -> None:
    assert list(config_of(line).bind.bind) == expected


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("-p x", "-p: expected a port from 0 to 65535, got 'x'"),
        ("-p -1", "-p: expected a port from 0 to 65535, got '-1'"),
        ("--port 65536", "--port: expected a port from 0 to 65535, got '65536'"),
        (
            "-b a:1 -p 2",
            "-p: expected a --bind without a port as well, got '2'",
        ),
        ("--fd x", "--fd: expected the number of a file descriptor, got 'x'"),
        ("--fd -1", "--fd: expected the number of a file descriptor, got '-1'"),
    ],
)
def test_wrong_address_is_named_by_its_flag(line: str, problem: str) -> None:
    assert problems_of(line) == [problem]


@pytest.mark.parametrize(
    ("line", "group", "name", "expected"),
    [
        ("-t 0", "http", "request_timeout", None),
        ("-t 5", "http", "request_timeout", 5.0),
        ("--websocket_timeout -1", "websocket", "websocket_timeout", None),
        ("--websocket_timeout 60", "websocket", "websocket_timeout", 60.0),
        (
            "--websocket_connect_timeout -1",
            "websocket",
            "websocket_connect_timeout",
            31536000.0,
        ),
        ("--ping-interval 0", "websocket", "websocket_ping_interval", 0.0),
        ("--ping-timeout 0", "websocket", "websocket_ping_timeout", 31536000.0),
        (
            "--websocket-max-message-size 0",
            "websocket",
            "websocket_message_size_limit",
            2**63 - 1,
        ),
        (
            "--websocket-max-frame-size 0",
            "websocket",
            "websocket_frame_size_limit",
            2**63 - 1,
        ),
        (
            "--application-close-timeout 3",
            "lifecycle",
            "application_close_timeout",
            3.0,
        ),
        ("-s nginx", "http", "server_name", "nginx"),
        ("-s nginx --no-server-name", "http", "server_name", ""),
        ("--access-log -", "logging", "access_log", "-"),
        ("-v 2", "logging", "verbosity", 2),
        ("--log-fmt %(message)s", "logging", "log_format", "%(message)s"),
        ("--root-path /app", "proxy", "root_path", "/app"),
        (
            "--proxy-headers --proxy-headers-port X-Port",
            "proxy",
            "proxy_headers_port",
            "X-Port",
        ),
    ],
)
def test_values_given_as_to_daphne(
    line: str, group: str, name: str, expected: object
) -> None:
    assert getattr(getattr(config_of(line), group), name) == expected


def test_proxy_header_without_the_switch_is_refused() -> None:
    assert problems_of("--proxy-headers-host X-Real-IP") == [
        "--proxy-headers-host: expected --proxy-headers as well, got none"
    ]


class Command(BaseCommand):
    """A Django command with our options beside Django's own."""

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self.verbosity = options["verbosity"]
        self.mapping = mapping_from_namespace(options)


def run_command(*line: str, **options: Any) -> Command:
    command = Command()
    call_command(command, *line, **options)
    return command


def test_django_command_sets_only_what_is_given() -> None:
    command = run_command()

    assert command.mapping == {}
    assert command.verbosity == 1


def test_verbosity_of_a_django_command_is_ours_too() -> None:
    assert parse(run_command("-v", "2").mapping).logging.verbosity == 2
    assert parse(run_command("-v", "1").mapping).logging.verbosity == 1
    assert "VERBOSITY" in run_command("-v", "1").mapping


def test_command_can_be_called_with_python_values() -> None:
    command = run_command(
        bind=["localhost:1"], proxy_headers=True, http_timeout=0, port=None
    )

    config = parse(command.mapping)
    assert config.bind.bind == ("localhost:1",)
    assert config.proxy.proxy_headers
    assert config.http.request_timeout is None


def test_wrong_python_value_is_named_by_its_flag() -> None:
    command = run_command(trusted_proxies="nowhere")

    with pytest.raises(ConfigError, match=r"^--trusted-proxies: expected an IP"):
        parse(command.mapping)


def test_option_of_another_with_the_same_flag_is_left_alone() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pid-file", dest="pid_file", default=None)

    add_arguments(parser)

    assert mapping_from_namespace(parser.parse_args([])) == {}
    given = mapping_from_namespace(parser.parse_args(["--pid-file", "x"]))
    assert parse(given).lifecycle.pid_file == "x"


@pytest.mark.parametrize("flag", ["--access-log", "--pid-file", "--control-socket"])
@pytest.mark.parametrize("word", ["none", "None"])
def test_none_is_no_file(flag: str, word: str) -> None:
    (given,) = mapping_of(f"{flag} {word}").values()

    assert given.value is None
    assert config_of(f"{flag} {word}") == ServerConfig()


@pytest.mark.parametrize("word", ["off", "stdout", "FALSE"])
def test_other_words_that_name_no_file_are_refused(word: str) -> None:
    assert problems_of(f"--access-log {word}") == [
        '--access-log: expected a file\'s path or "-" for standard output '
        f"or none (\"./{word}\" is a file of that name), got '{word}'"
    ]
    assert config_of(f"--access-log ./{word}").logging.access_log == f"./{word}"


def test_words_that_name_no_file_are_refused_in_the_settings() -> None:
    with pytest.raises(ConfigError, match=r'"\./none" is a file of that name'):
        parse({"PID_FILE": "none"})
