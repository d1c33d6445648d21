"""``djserve.run`` and ``djserve.serve`` with real sockets."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

import djserve
from djserve.asgi.types import Receive, Scope, Send
from djserve.net.main_loop import new_event_loop
from djserve.net.twisted.reactor import Reactor

pytestmark = pytest.mark.e2e

StartServer = Callable[..., Any]

SCRIPT = """
import os, sys
import djserve

async def application(scope, receive, send):
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    body = b"%d" % os.getpid()
    await send({"type": "http.response.body", "body": body})

if __name__ == "__main__":
    code = djserve.run(application, bind=["127.0.0.1:PORT"], SETTINGS)
    with open("after", "a") as file:
        file.write("ended with %d\\n" % code)
    sys.exit(code)
"""


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise ValueError("HTTP only")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


class Serving:
    """An application that is served on the running loop, and where."""

    def __init__(self, application: Any = hello, **settings: Any) -> None:
        self.stop = asyncio.Event()
        self._ready: asyncio.Future[list[str]] = asyncio.Future()
        settings = {"bind": ["127.0.0.1:0"], **settings}
        self.task = asyncio.ensure_future(
            djserve.serve(
                application, stop=self.stop, on_ready=self._ready.set_result, **settings
            )
        )

    async def url(self) -> str:
        self.task.add_done_callback(self._fail)
        return (await self._ready)[0]

    def _fail(self, task: asyncio.Future[None]) -> None:
        """Let ``url`` raise what has kept the server from starting."""
        if not self._ready.done():
            self._ready.set_exception(task.exception() or RuntimeError("It ended"))


def run_on(main: Callable[[], Any], *, uvloop: bool) -> Any:
    # The runner cancels what a test that fails has left.
    with asyncio.Runner(
        loop_factory=lambda: new_event_loop(prefer_uvloop=uvloop)
    ) as runner:
        return runner.run(main())


on_each_loop = pytest.mark.parametrize("uvloop", [True, False])


@on_each_loop
def test_event_ends_what_is_served_on_a_running_loop(uvloop: bool) -> None:
    async def main() -> None:
        serving = Serving()
        url = await serving.url()
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).text == "hello"
        assert djserve.is_worker()
        serving.stop.set()
        await serving.task
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)

    run_on(main, uvloop=uvloop)


@on_each_loop
def test_cancellation_lets_a_request_end_first(uvloop: bool) -> None:
    async def main() -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                begun.set()
                await may_end.wait()
            await hello(scope, receive, send)

        serving = Serving(slow, shutdown_timeout=600)
        url = await serving.url()
        async with httpx.AsyncClient(timeout=60) as client:
            answer = asyncio.ensure_future(client.get(url))
            await begun.wait()
            serving.task.cancel()
            await asyncio.sleep(0)
            assert not serving.task.done()
            may_end.set()
            assert (await answer).text == "hello"
        with pytest.raises(asyncio.CancelledError):
            await serving.task

    run_on(main, uvloop=uvloop)


def test_second_cancellation_ends_at_once() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def endless(scope: Scope, receive: Receive, send: Send) -> None:
            begun.set()
            await asyncio.Event().wait()

        serving = Serving(endless, shutdown_timeout=600, lifespan="off")
        port = httpx.URL(await serving.url()).port
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await begun.wait()
        serving.task.cancel()
        await asyncio.sleep(0.01)
        serving.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(serving.task, 60)
        writer.close()

    run_on(main, uvloop=True)


def test_two_applications_are_served_beside_each_other() -> None:
    async def main() -> None:
        first, second = Serving(), Serving(metrics_path="/metrics")
        async with httpx.AsyncClient() as client:
            assert (await client.get(await first.url())).text == "hello"
            answer = await client.get(f"{await second.url()}metrics")
            assert "djserve_requests_total" in answer.text
        first.stop.set()
        second.stop.set()
        await asyncio.gather(first.task, second.task)

    run_on(main, uvloop=True)


def test_twisted_endpoint_is_served_on_a_running_loop() -> None:
    async def main() -> None:
        serving = Serving(bind=["tcp:0:interface=127.0.0.1"])
        url = await serving.url()
        async with httpx.AsyncClient() as client:
            assert (await client.get(url)).text == "hello"
        serving.stop.set()
        await serving.task

    run_on(main, uvloop=True)


@on_each_loop
@pytest.mark.parametrize("begins_with", ["PROXY", "TLS"])
def test_connection_that_opens_after_the_end_is_dropped(
    begins_with: str, tmp_path: Path, uvloop: bool, caplog: pytest.LogCaptureFixture
) -> None:
    asked = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["type"])
        await hello(scope, receive, send)

    async def main() -> bytes:
        settings: dict[str, Any] = {"proxy_protocol": True}
        if begins_with == "TLS":
            path = tmp_path / "both.pem"
            issued = authority.issue_cert("127.0.0.1")
            issued.private_key_and_cert_chain_pem.write_to_path(path)
            settings = {"certfile": str(path)}
        serving = Serving(application, shutdown_timeout=1, lifespan="off", **settings)
        port = httpx.URL(await serving.url()).port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if begins_with == "PROXY":
            writer.write(b"PROXY ")
        await asyncio.sleep(0.1)
        serving.stop.set()
        await serving.task
        try:
            if begins_with == "PROXY":
                writer.write(b"TCP4 203.0.113.9 192.0.2.1 5555 80\r\n")
            else:
                await writer.start_tls(context, server_hostname="127.0.0.1")
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            return await reader.read()
        except OSError:
            return b""
        finally:
            writer.close()

    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)

    assert run_on(main, uvloop=uvloop) == b""
    assert asked == []
    assert "and 1 connections still open" in caplog.text


def test_folder_is_served_without_the_application(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("of the folder")

    async def main() -> None:
        serving = Serving(files={"/files/": str(tmp_path)})
        async with httpx.AsyncClient() as client:
            answer = await client.get(f"{await serving.url()}files/note.txt")
            assert answer.text == "of the folder"
        serving.stop.set()
        await serving.task

    run_on(main, uvloop=True)


def test_nothing_is_left_on_the_loop() -> None:
    async def main() -> None:
        before = 0
        for number in range(3):
            serving = Serving(metrics_path="/metrics")
            await serving.url()
            serving.stop.set()
            await serving.task
            gc.collect()
            # The first one opens what the process keeps.
            if number == 0:
                before = len(os.listdir("/proc/self/fd"))
        assert len(asyncio.all_tasks()) == 1
        assert len(os.listdir("/proc/self/fd")) <= before

    run_on(main, uvloop=False)


def test_address_that_is_taken_is_raised() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(djserve.ListenError):
                await djserve.serve(hello, bind=[f"127.0.0.1:{port}"])

    run_on(main, uvloop=True)


def test_failed_start_of_the_application_is_raised() -> None:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        message = {"type": "lifespan.startup.failed", "message": "no database"}
        await send(message)

    async def main() -> None:
        with pytest.raises(djserve.LifespanError, match="no database"):
            await djserve.serve(fail, bind=["127.0.0.1:0"])

    run_on(main, uvloop=True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"backlgo": 5}, "did you mean 'BACKLOG'"),
        ({"backlog": "5"}, r"settings\['BACKLOG'\]: expected a whole number"),
        ({"threads": 5}, r"settings\['THREADS'\]: set it in settings.DJSERVE"),
        ({"workers": 2}, r"settings\['WORKERS'\]: expected a value for one process"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], problem: str) -> None:
    async def main() -> None:
        with pytest.raises(djserve.ConfigError, match=problem):
            await djserve.serve(hello, **settings)

    # Another test may have loaded Django's settings, and their keys are DJSERVE's.
    problem = problem.replace("settings\\[", r"(settings|DJSERVE)\[")
    run_on(main, uvloop=True)


@pytest.mark.parametrize("application", [5, lambda environ, start_response: [b""]])
def test_what_is_not_an_application_is_named(application: Any) -> None:
    async def main() -> None:
        with pytest.raises(djserve.ConfigError, match="application"):
            await djserve.serve(application)

    run_on(main, uvloop=True)


def test_run_inside_a_loop_names_what_to_await() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await djserve\.serve"):
            djserve.run(hello)

    run_on(main, uvloop=True)


@pytest.mark.parametrize("workers", [1, 2])
def test_script_serves_by_run(
    workers: int, tmp_path: Path, free_port: int, start_server: StartServer
) -> None:
    text = SCRIPT.replace("PORT", str(free_port))
    script = tmp_path / "script.py"
    script.write_text(text.replace("SETTINGS", f"workers={workers}"))
    server = start_server(str(script), port=free_port, cwd=tmp_path)

    pid = int(httpx.get(f"http://127.0.0.1:{free_port}/", timeout=60).text)

    assert (pid == server.process.pid) is (workers == 1)
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
    # Once, by the process that was started: not by its workers.
    assert (tmp_path / "after").read_text() == "ended with 0\n"


def test_run_takes_the_name_of_an_application(tmp_path: Path) -> None:
    code = "import djserve; djserve.run('nowhere:application')"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert result.returncode == 1
    assert "ConfigError: There is no module 'nowhere'" in result.stderr


def test_installed_reactor_is_the_global_one() -> None:
    code = (
        "import djserve; installed = djserve.install_reactor(); "
        "from twisted.internet import reactor; "
        "assert reactor is installed is djserve.install_reactor(); "
        "print(type(installed).__name__)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)

    assert result.stdout.strip() == Reactor.__name__, result.stderr
