"""The command ``djserve`` as a process, with independent clients."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosedError
from websockets.sync.client import connect

pytestmark = pytest.mark.e2e

APPLICATION = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
        return
    body = scope["path"].encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})

def app2(scope):
    async def instance(receive, send):
        await app(scope, receive, send)
    return instance

async def failing(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A directory with the module ``shop``."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "shop.py").write_text(APPLICATION)
    return folder


def run_to_end(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "djserve", *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("application", ["shop:app", "shop:app2"])
def test_application_is_served_over_http_and_websocket(
    application: str, shop: Path, start_server: Callable[..., object], free_port: int
) -> None:
    arguments = ("-m", "djserve", application, "-p", str(free_port))
    server = start_server(*arguments, port=free_port, cwd=shop)

    assert httpx.get(f"{server.url}/path", timeout=120).text == "/path"  # type: ignore[attr-defined]
    with connect(f"ws://127.0.0.1:{free_port}/", open_timeout=120) as websocket:
        websocket.send("hello")
        assert websocket.recv(timeout=120) == "hello"


def test_start_is_told_and_requests_are_logged(
    shop: Path, start_server: Callable[..., object], free_port: int
) -> None:
    arguments = ("-m", "djserve", "shop:app", "-p", str(free_port), "--access-log", "-")
    server = start_server(*arguments, port=free_port, cwd=shop)
    httpx.get(f"http://127.0.0.1:{free_port}/asked", timeout=120)
    code = server.stop()  # type: ignore[attr-defined]

    output = server.output  # type: ignore[attr-defined]
    assert code == 0
    assert "speaks HTTP/1.1, HTTP/2, WebSocket" in output
    assert f"Listening on http://127.0.0.1:{free_port}/" in output
    assert "Access log: standard output" in output
    assert '"GET /asked HTTP/1.1" 200 6' in output


def test_interrupt_closes_websockets_and_ends_with_0(
    shop: Path, start_server: Callable[..., object], free_port: int
) -> None:
    arguments = ("-m", "djserve", "shop:app", "-p", str(free_port))
    server = start_server(*arguments, port=free_port, cwd=shop)
    with connect(f"ws://127.0.0.1:{free_port}/", open_timeout=120) as websocket:
        server.process.send_signal(signal.SIGINT)  # type: ignore[attr-defined]
        with pytest.raises(ConnectionClosedError):
            websocket.recv(timeout=120)

    assert websocket.close_code == 1012
    assert server.process.wait(120) == 0  # type: ignore[attr-defined]


def test_unix_socket_is_served_and_removed(
    shop: Path, start_server: Callable[..., object], free_port: int
) -> None:
    path = shop / "djserve.sock"
    arguments = ("-m", "djserve", "shop:app", "-p", str(free_port), "-u", str(path))
    server = start_server(*arguments, "-b", "127.0.0.1", port=free_port, cwd=shop)
    server.wait_for(str(path))  # type: ignore[attr-defined]
    with httpx.Client(
        transport=httpx.HTTPTransport(uds=str(path)), timeout=120
    ) as client:
        assert client.get("http://shop/unix").text == "/unix"


def test_port_in_use_ends_with_1(shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = run_to_end(shop, "shop:app", "-p", str(port))

    assert result.returncode == 1
    assert f"Cannot listen on 127.0.0.1:{port}: the address is in use" in result.stderr
    assert "Traceback" not in result.stderr


def test_wrong_name_ends_with_2(shop: Path) -> None:
    result = run_to_end(shop, "shop:ap")

    assert result.returncode == 2
    assert result.stderr == (
        "djserve: error: shop has no attribute 'ap'; did you mean 'app'?\n"
    )


def test_error_of_the_application_shows_its_code_alone(shop: Path) -> None:
    (shop / "broken.py").write_text("import shop\nshop.nothing\n")
    result = run_to_end(shop, "broken:app")

    assert result.returncode == 2
    assert result.stderr.count('File "') == 1
    assert "broken.py" in result.stderr


def test_failed_lifespan_ends_with_3(shop: Path, free_port: int) -> None:
    result = run_to_end(shop, "shop:failing", "-p", str(free_port))

    assert result.returncode == 3
    assert "Lifespan startup failed: no database" in result.stderr


def test_django_is_not_imported_for_an_application_without_it(shop: Path) -> None:
    code = (
        "import sys; sys.argv = ['djserve', 'shop:nothing'];"
        "from djserve.cli import main; main(); print('django' in sys.modules)"
    )
    environment = dict(os.environ)
    # Where this names settings, they are read at once.
    environment.pop("DJANGO_SETTINGS_MODULE", None)
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=shop,
        env=environment,
        capture_output=True,
        text=True,
    )

    assert result.stdout == "False\n", result.stderr


HEADED = """
import os

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        return
    fields = [(b"X-Own", b"application")] if scope["path"] == "/own" else []
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": os.environ["WORD"].encode()})
"""


def test_fields_are_added_and_the_environment_is_read_from_a_file(
    tmp_path: Path, start_server: Callable[..., object], free_port: int
) -> None:
    (tmp_path / "headed.py").write_text(HEADED)
    (tmp_path / "a.txt").write_text("file")
    (tmp_path / ".env").write_text(
        f"WORD='from a file'\nexport DJSERVE_FILES=/files/={tmp_path}\n"
    )
    arguments = ("-m", "djserve", "headed:app", "-p", str(free_port))
    more = ("--env-file", ".env", "--header", "X-Own: server", "--header", "X-B: 1, 2")
    server = start_server(*arguments, *more, port=free_port, cwd=tmp_path)
    url = server.url  # type: ignore[attr-defined]

    for http1, http2 in ((True, False), (False, True)):
        with httpx.Client(http1=http1, http2=http2, timeout=120) as client:
            response = client.get(f"{url}/")
            own = client.get(f"{url}/own")
            file = client.get(f"{url}/files/a.txt")
        assert response.text == "from a file"
        for answer, value in ((response, "server"), (own, "application")):
            assert answer.headers.get_list("x-own") == [value]
            assert answer.headers["x-b"] == "1, 2"
        assert file.text == "file"
        assert file.headers["x-own"] == "server"
    with connect(f"ws://127.0.0.1:{free_port}/", open_timeout=120) as websocket:
        assert websocket.response is not None
        assert websocket.response.headers["X-B"] == "1, 2"


def test_wrong_env_file_stops_the_start(shop: Path) -> None:
    (shop / ".env").write_text("A=b\nsecret\n")
    done = run_to_end(shop, "shop:app", "--env-file", ".env")

    assert done.returncode == 2
    assert "--env-file .env: line 2: expected NAME=value" in done.stderr
    assert "secret" not in done.stderr
