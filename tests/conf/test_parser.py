from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from djserve.conf.catalogue import settings_by_key
from djserve.conf.parser import Flag, parse, shorten
from djserve.conf.schema import ServerConfig
from djserve.errors import ConfigError
from tests.support.odd_files import KINDS, make_odd_file


def problems_of(mapping: dict[Any, Any], **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(mapping, **kwargs)
    return caught.value.problems


def test_empty_mapping_gives_the_defaults() -> None:
    assert parse({}) == ServerConfig()


def test_every_default_may_be_written_out() -> None:
    written = {key: setting.default for key, setting in settings_by_key().items()}

    assert parse(written) == ServerConfig()


def test_values_reach_their_group() -> None:
    config = parse({"BIND": ["[::1]:1"], "LIFESPAN": "off", "WORKERS": 3})

    assert config.bind.bind == ("[::1]:1",)
    assert config.lifecycle.lifespan == "off"
    assert config.workers.workers == 3


def test_whole_number_of_seconds_becomes_a_float() -> None:
    timeout = parse({"HEADER_TIMEOUT": 5}).http.header_timeout

    assert (timeout, type(timeout)) == (5.0, float)


def test_none_is_taken_where_it_means_something() -> None:
    assert parse({"REQUEST_TIMEOUT": None}).http.request_timeout is None


def test_path_object_names_a_file(tmp_path: Path) -> None:
    config = parse({"PID_FILE": tmp_path / "pid"})

    assert config.lifecycle.pid_file == str(tmp_path / "pid")


def test_path_object_is_refused_where_no_file_is_named() -> None:
    (problem,) = problems_of({"ROOT_PATH": Path("/app")})

    assert problem.startswith("DJSERVE['ROOT_PATH']: expected a path that begins")


SECONDS = 'seconds as a number from 0.05 up, or a text such as "30s"'


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("HEADER_TIMEOUT", "10", SECONDS),
        ("HEADER_TIMEOUT", True, SECONDS),
        ("HEADER_TIMEOUT", None, SECONDS),
        ("HEADER_TIMEOUT", 0.01, SECONDS),
        ("HEADER_TIMEOUT", float("nan"), SECONDS),
        ("HEADER_TIMEOUT", float("inf"), SECONDS),
        ("HEADER_TIMEOUT", 10**400, SECONDS),
        ("REQUEST_TIMEOUT", "1", f"{SECONDS} or None"),
        ("BACKLOG", 1.0, "a whole number from 1 to 2147483647"),
        ("BACKLOG", True, "a whole number from 1 to 2147483647"),
        ("BACKLOG", 0, "a whole number from 1 to 2147483647"),
        ("PROXY_HEADERS", 1, "True or False"),
        ("PROXY_HEADERS", None, "True or False"),
        ("SERVER_NAME", None, "printable ASCII text"),
        ("LIFESPAN", "yes", "one of 'auto', 'on', 'off'"),
        ("LIFESPAN", True, "one of 'auto', 'on', 'off'"),
        ("BIND", "127.0.0.1:8000", "a list of strings"),
        ("BIND", None, "a list of strings"),
        ("BIND", [], "at least one item"),
        ("PID_FILE", "", "a file's path or None"),
        ("LOG_FORMAT", 3, "a format for logging.Formatter"),
    ],
)
def test_wrong_value_is_named_with_what_was_expected(
    key: str, value: object, expected: str
) -> None:
    (problem,) = problems_of({key: value})

    assert problem == (f"DJSERVE[{key!r}]: expected {expected}, got {shorten(value)}")


def test_wrong_item_of_a_list_is_named_by_its_place() -> None:
    (problem,) = problems_of({"BIND": ["127.0.0.1:1", "localhost", "[::1]:1"]})

    assert problem.startswith("DJSERVE['BIND'][1]: expected host:port, ")
    assert problem.endswith("(the port is missing), got 'localhost'")


@pytest.mark.parametrize(
    ("key", "value", "place"),
    [
        ("FILES", {"/a/": ".", "/b": "."}, "DJSERVE['FILES']['/b']"),
        ("FILES", {"/a/": None}, "DJSERVE['FILES']['/a/']"),
        ("FILES", {5: "."}, "DJSERVE['FILES'][5]"),
        ("FILES_INTERNAL", {"/": "."}, "DJSERVE['FILES_INTERNAL']['/']"),
        ("HEADERS", {"X-A": "1", "X B": "2"}, "DJSERVE['HEADERS']['X B']"),
    ],
)
def test_wrong_item_of_a_mapping_is_named_by_its_key(
    key: str, value: object, place: str
) -> None:
    (problem,) = problems_of({key: value})

    assert problem.startswith(f"{place}: expected ")


@pytest.mark.parametrize("value", [0, 1025, 100_000, "100000", 10**400])
def test_number_of_workers_has_a_bound(value: object) -> None:
    (problem,) = problems_of({"WORKERS": value})

    assert problem == (
        "DJSERVE['WORKERS']: expected a whole number from 1 to 1024 or None, "
        f"got {shorten(value)}"
    )
    assert parse({"WORKERS": 1024}).workers.workers == 1024


@pytest.mark.parametrize("key", ["BACKLOG", "HEADER_SIZE_LIMIT", "HTTP2_STREAM_LIMIT"])
def test_number_that_a_system_or_protocol_cannot_write_is_refused(key: str) -> None:
    (problem,) = problems_of({key: 2**32})

    assert problem.startswith(f"DJSERVE['{key}']: expected ")
    assert " to 2147483647" in problem
    assert problem.endswith(", got 4294967296")
    parse({key: 2**31 - 1})


def test_item_that_is_no_string_is_refused() -> None:
    (problem,) = problems_of({"TRUSTED_PROXIES": ["*", 5]})

    assert problem == (
        "DJSERVE['TRUSTED_PROXIES'][1]: expected an IP network, "
        '"private", "unix" or "*", got 5'
    )


def test_list_without_a_default_may_be_empty() -> None:
    assert parse({"WEBSOCKET_ORIGINS": []}).websocket.websocket_origins == ()


def test_unknown_key_suggests_the_nearest() -> None:
    (problem,) = problems_of({"HEADER_TIMOUT": 1})

    assert problem == (
        "DJSERVE['HEADER_TIMOUT']: unknown setting; did you mean 'HEADER_TIMEOUT'?"
    )


def test_key_in_lower_case_suggests_the_upper() -> None:
    (problem,) = problems_of({"bind": ["127.0.0.1:1"]})

    assert problem.endswith("did you mean 'BIND'?")


@pytest.mark.parametrize("key", [5, None, ("x", 1), "ZZZZZZ"])
def test_key_unlike_any_other_gets_no_suggestion(key: object) -> None:
    assert problems_of({key: 1}) == [f"DJSERVE[{key!r}]: unknown setting"]


def test_all_problems_are_reported_together() -> None:
    problems = problems_of({"BIND": ["x", "y"], "NOPE": 1, "BACKLOG": "a"})

    assert [problem.partition(":")[0] for problem in problems] == [
        "DJSERVE['BIND'][0]",
        "DJSERVE['BIND'][1]",
        "DJSERVE['NOPE']",
        "DJSERVE['BACKLOG']",
    ]


def test_source_names_the_mapping() -> None:
    (problem,) = problems_of({"BACKLOG": 0}, source="config.toml")

    assert problem.startswith("config.toml['BACKLOG']: ")


def test_long_value_is_cut_short() -> None:
    (problem,) = problems_of({"BACKLOG": "x" * 5000})

    assert problem.endswith("xxx...")
    assert len(problem) < 140


def test_key_without_certificate_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.touch()

    (problem,) = problems_of({"KEYFILE": key})

    assert problem == "DJSERVE['KEYFILE']: expected a certificate as well, got none"


def test_certificate_that_is_missing_is_refused(tmp_path: Path) -> None:
    (problem,) = problems_of({"CERTFILE": "missing.pem"})

    assert problem == (
        "DJSERVE['CERTFILE']: expected a readable file "
        "(No such file or directory), got 'missing.pem'"
    )


def test_key_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    certificate = tmp_path / "cert.pem"
    certificate.touch()

    (problem,) = problems_of({"CERTFILE": certificate, "KEYFILE": tmp_path})

    assert problem.startswith("DJSERVE['KEYFILE']: expected a readable file (Is a d")


@pytest.mark.e2e
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("key", "others"),
    [
        ("CERTFILE", {}),
        ("KEYFILE", {"CERTFILE": __file__}),
        ("SNI_CERTFILES", {"CERTFILE": __file__}),
        ("CLIENT_CA_FILE", {"CERTFILE": __file__, "CLIENT_CERTIFICATES": "optional"}),
        (
            "ACME_CA_FILE",
            {
                "ACME_DOMAINS": ["a.example"],
                "ACME_FOLDER": "/nowhere",
                "ACME_AGREE_TO_TERMS": True,
                "ACME_CHALLENGE": "tls-alpn-01",
            },
        ),
    ],
)
def test_certificate_that_is_no_file_is_refused(
    key: str, others: dict[str, object], kind: str, tmp_path: Path
) -> None:
    path = str(make_odd_file(tmp_path, kind))
    value = [path] if key == "SNI_CERTFILES" else path

    (problem,) = problems_of({**others, key: value})

    assert problem.startswith(f"DJSERVE['{key}'")
    assert f"expected a readable file ({KINDS[kind]}), got '/" in problem


def test_certificate_and_key_that_can_be_read_are_taken(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("cert.pem", "key.pem")]
    for path in paths:
        path.touch()

    tls = parse({"CERTFILE": paths[0], "KEYFILE": paths[1]}).tls

    assert (tls.certfile, tls.keyfile) == tuple(map(str, paths))


@pytest.mark.parametrize(
    ("key", "value"),
    [("SNI_CERTFILES", [__file__]), ("CLIENT_CERTIFICATES", "required")],
)
def test_what_needs_a_certificate_is_refused_without_one(
    key: str, value: object
) -> None:
    problems = problems_of({key: value})

    assert problems[0] == (
        f"DJSERVE['{key}']: expected a certificate as well, got none"
    )


def test_client_certificates_need_authorities() -> None:
    settings = {"CERTFILE": __file__, "CLIENT_CERTIFICATES": "required"}
    (problem,) = problems_of(settings)

    assert problem.startswith("DJSERVE['CLIENT_CERTIFICATES']: expected a file with")


def test_authorities_that_nobody_asks_for_are_refused() -> None:
    (problem,) = problems_of({"CERTFILE": __file__, "CLIENT_CA_FILE": __file__})

    assert problem.startswith("DJSERVE['CLIENT_CA_FILE']: expected CLIENT_CERTIFICATES")


@pytest.mark.parametrize("key", ["CLIENT_CA_FILE", "SNI_CERTFILES"])
def test_other_certificate_files_must_be_readable(key: str, tmp_path: Path) -> None:
    path = str(tmp_path / "none.pem")
    value = [path] if key == "SNI_CERTFILES" else path
    settings = {"CERTFILE": __file__, "CLIENT_CERTIFICATES": "required", key: value}

    assert f"DJSERVE['{key}']: expected a readable file" in "\n".join(
        problems_of(settings)
    )


def test_wrong_certificate_setting_is_reported_once() -> None:
    problems = problems_of({"CERTFILE": 5, "KEYFILE": "missing.pem"})

    assert problems == ["DJSERVE['CERTFILE']: expected a file's path or None, got 5"]


def test_frame_limit_above_the_message_limit_is_allowed() -> None:
    config = parse({"WEBSOCKET_FRAME_SIZE_LIMIT": 9, "WEBSOCKET_MESSAGE_SIZE_LIMIT": 8})

    assert config.websocket.websocket_frame_size_limit == 9


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [("BACKLOG", "12", 12), ("HEADER_TIMEOUT", "1.5", 1.5), ("ROOT_PATH", "/a", "/a")],
)
def test_text_of_a_flag_is_converted(key: str, text: str, value: object) -> None:
    config = parse({key: Flag("--flag", text)})

    setting = settings_by_key()[key]
    assert getattr(getattr(config, setting.group), setting.name) == value


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("HEADER_TIMEOUT", "abc", SECONDS),
        ("HEADER_TIMEOUT", "nan", SECONDS),
        ("REQUEST_TIMEOUT", "none", SECONDS),
        ("BACKLOG", "1.5", "a whole number from 1 to 2147483647"),
        ("LIFESPAN", "x", "one of 'auto', 'on', 'off'"),
    ],
)
def test_wrong_text_of_a_flag_is_named_by_the_flag(
    key: str, text: str, expected: str
) -> None:
    (problem,) = problems_of({key: Flag("--flag", text)})

    assert problem.partition(", got")[0] == f"--flag: expected {expected}"


def test_items_of_a_list_are_named_by_their_own_flags() -> None:
    problems = problems_of({"BIND": [Flag("-b", "x"), Flag("-u", "unix:")]})

    assert [problem.partition(":")[0] for problem in problems] == ["-b", "-u"]


def test_problem_of_a_flag_is_reported_as_it_is() -> None:
    flag = Flag("-p", "x", "a port")

    assert problems_of({"BIND": [flag]}) == ["-p: expected a port, got 'x'"]


def test_proxy_flag_needs_the_switch() -> None:
    problems = problems_of({"PROXY_HEADERS_HOST": Flag("--host", "X-Real-IP")})

    assert problems == ["--host: expected --proxy-headers as well, got none"]


def test_proxy_flag_is_taken_with_the_switch_in_the_settings() -> None:
    flag = Flag("--proxy-headers-host", "X-Real-IP")

    config = parse({"PROXY_HEADERS": True, "PROXY_HEADERS_HOST": flag})

    assert config.proxy.proxy_headers_host == "X-Real-IP"


def test_proxy_setting_may_stay_while_the_switch_is_off() -> None:
    assert not parse({"PROXY_HEADERS_HOST": "X-Real-IP"}).proxy.proxy_headers
