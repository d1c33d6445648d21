"""The command line of ``djserve``, up to where it would serve."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import djserve
from djserve import cli
from djserve.conf.schema import ServerConfig
from djserve.server.lifecycle import ExitCode
from djserve.supervisor import roles

Run = Callable[..., tuple[int, list[ServerConfig]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Give ``run(*arguments)``: the exit code and what would have been served.

    The reactor and the server are left out: tests/e2e/test_cli.py has them.
    """
    (tmp_path / "shop_app.py").write_text("async def app(*args): ...\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    served: list[ServerConfig] = []

    def launch(
        application: Any,
        config: ServerConfig,
        reactor: object,
        notes: object,
        stats: object,
        files: object,
    ) -> ExitCode:
        served.append(config)
        return ExitCode.OK

    monkeypatch.setattr(roles, "prepare_loop", object)
    monkeypatch.setattr(roles, "launch", launch)
    monkeypatch.setattr(cli, "uses_django", lambda: False)
    monkeypatch.setattr(cli, "exit_within", lambda timeout, code: None)
    yield lambda *arguments: (cli.main(arguments), served)
    sys.modules.pop("shop_app", None)


def test_application_of_the_current_directory_is_served(run: Run) -> None:
    code, served = run("shop_app:app", "-p", "8123", "--root-path", "/shop")

    assert code == 0
    assert served[0].bind.bind == ("127.0.0.1:8123",)
    assert served[0].proxy.root_path == "/shop"


def test_application_of_another_directory_is_served(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")

    assert run("shop_app:app", "--app-dir", str(tmp_path))[0] == 0


def test_settings_of_a_django_project_apply(
    run: Run, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    settings.DJSERVE = {"BACKLOG": 7, "SERVER_NAME": "project"}
    monkeypatch.setattr(cli, "uses_django", lambda: True)
    _, served = run("shop_app:app", "--backlog", "9")

    assert served[0].bind.backlog == 9
    assert served[0].http.server_name == "project"


def test_every_wrong_option_is_told(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code, served = run("shop_app:app", "--backlog", "x", "-p", "99999")

    assert (code, served) == (ExitCode.CONFIG_WRONG, [])
    lines = capsys.readouterr().err.splitlines()
    assert [line[:24] for line in lines] == [
        "djserve: error: --backlo",
        "djserve: error: -p: expe",
    ]


def test_missing_application_is_told(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = run("shop_ap:app")

    assert code == ExitCode.CONFIG_WRONG
    assert "did you mean 'shop_app'?" in capsys.readouterr().err


def test_unknown_option_ends_with_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["shop_app:app", "--back", "5"])

    assert caught.value.code == 2
    assert "--back" in capsys.readouterr().err


def test_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])

    assert caught.value.code == 0
    assert capsys.readouterr().out == f"djserve {djserve.__version__}\n"


def help_all(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help-all"])
    assert caught.value.code == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_help_fits_80_columns(
    columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)

    for text in (cli.build_parser().format_help(), help_all(capsys)):
        assert max(map(len, text.splitlines())) <= 80


def test_help_shows_flags_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    parser = cli.build_parser()
    shown = re.findall(r"(?m)(?:^  |, )(--?[a-z][\w-]*)", help_all(capsys))

    known = {flag for action in parser._actions for flag in action.option_strings}
    assert set(shown) <= known
    assert "--websocket_handshake_timeout" in shown
    assert "--http_timeout" not in shown


def test_help_is_grouped_and_names_the_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = help_all(capsys)

    for title in ("Addresses:", "TLS:", "HTTP:", "WebSocket:", "Proxies:"):
        assert f"\n{title}\n" in text
    for code in ExitCode:
        assert f"\n  {code.value}  " in text
    assert text.startswith("usage: djserve [options] module:attribute\n")


@pytest.mark.parametrize("flag", ["--handler", "--threads", "--thread-queue-limit"])
def test_options_of_djangos_handler_are_not_offered(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flag not in help_all(capsys)


def test_short_help_names_the_long_one_and_what_matters() -> None:
    text = cli.build_parser().format_help()

    assert len(text.splitlines()) < 70
    for flag in ("--help-all", "--bind", "--workers", "--access-log", "--app-dir"):
        assert f"{flag} " in text
    assert "--header-size-limit" not in text


def test_misspelt_flag_is_answered_with_the_right_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["shop_app:app", "--wrokers", "2"])

    assert caught.value.code == 2
    assert "did you mean '--workers'?" in capsys.readouterr().err
