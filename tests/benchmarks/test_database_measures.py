"""What the realistic project is asked for, and that a wrong answer does not count."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from benchmarks import database_measures
from benchmarks.database_measures import TOKEN, VIEWS, Rounds, prove, write_script
from benchmarks.model import Sample
from benchmarks.processes import BenchmarkError
from benchmarks.servers import Launch, database_environ


class Answers(BaseHTTPRequestHandler):
    """Answers each path as ``answers`` has it, and keeps what it was sent."""

    answers: dict[str, tuple[int, str, bytes]] = {}
    received: list[tuple[str, str, str, bytes]] = []

    def do_GET(self) -> None:
        length = int(self.headers["Content-Length"] or 0)
        cookies, body = self.headers["Cookie"] or "", self.rfile.read(length)
        self.received.append((self.command, self.path, cookies, body))
        status, location, content = self.answers[self.path]
        self.send_response(status)
        if location:
            self.send_header("Location", location)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    Answers.received = []
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.e2e
def test_proof_is_a_request_with_the_session_and_the_form(port: int) -> None:
    Answers.answers = {"/comment/": (302, "/account/", b"")}

    prove(VIEWS["post"], port, "abc")

    [(method, path, cookies, body)] = Answers.received
    assert (method, path) == ("POST", "/comment/")
    assert cookies == f"sessionid=abc; csrftoken={TOKEN}"
    assert f"csrfmiddlewaretoken={TOKEN}&".encode() in body


@pytest.mark.e2e
def test_anonymous_page_is_asked_for_without_a_session(port: int) -> None:
    Answers.answers = {"/": (200, "", b"Log in")}

    prove(VIEWS["page"], port, "abc")

    assert Answers.received == [("GET", "/", "", b"")]


@pytest.mark.e2e
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((302, "/accounts/login/?next=/account/", b"written"), id="login"),
        pytest.param((200, "", b"something else"), id="content"),
        pytest.param((403, "", b"written"), id="status"),
    ],
)
def test_other_answer_is_an_error(port: int, answer: tuple[int, str, bytes]) -> None:
    Answers.answers = {"/account/": answer}

    with pytest.raises(BenchmarkError, match=f"/account/ answered {answer[0]}"):
        prove(VIEWS["account"], port, "abc")


def test_script_has_a_request_for_each_session(tmp_path: Path) -> None:
    write_script(tmp_path / "api.lua", VIEWS["api"], ["abc", "def"])

    text = (tmp_path / "api.lua").read_text()

    assert text.count('add("GET", "/api/articles/"') == 2
    assert f"sessionid=abc; csrftoken={TOKEN}" in text
    assert f"sessionid=def; csrftoken={TOKEN}" in text


def test_one_start_gives_all_figures_of_a_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[str] = []

    def measure(server: str, conditions: object) -> dict[tuple[str, str], Sample]:
        starts.append(server)
        value = float(len(starts))
        return {("page", "rate"): Sample(value), ("page", "p99"): Sample(-value)}

    monkeypatch.setattr(database_measures, "measure_realistic", measure)
    take: Callable[..., Sample] = Rounds().take

    def values(figure: str, rounds: int) -> list[float]:
        taken = (
            take("djserve", None, view="page", figure=figure) for _ in range(rounds)
        )
        return [each.value for each in taken]

    assert values("rate", 2) == [1, 2]
    assert values("p99", 3) == [-1, -2, -3]
    assert starts == ["djserve"] * 3


def test_servers_of_asgi_have_a_pool_of_connections() -> None:
    assert not database_environ("djserve")["BENCH_POOL"]
    assert not database_environ("gunicorn gthread")["BENCH_POOL"]
    assert database_environ("uvicorn")["BENCH_POOL"]


def test_project_is_told_of_its_database() -> None:
    launch = Launch(application="a:b", django="/f", postgresql="/s", project="some.one")

    assert launch.environ["DJANGO_SETTINGS_MODULE"] == "some.one.settings"
    assert launch.environ["PGHOST"] == "/s"
    assert "PGHOST" not in Launch(application="a:b", django="/f").environ
