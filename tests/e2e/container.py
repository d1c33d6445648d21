"""The demo's image, built and run for real: ``python -m tests.e2e.container IMAGE``.

Needs a container engine and the image; ``ENGINE`` is the command, "docker" by default,
``ENGINE_OPTIONS`` are more options of its ``run``.
Each line that is printed is one thing that the image promises, and what was seen. The
tests run the same environment and command without an engine, in tests/demo.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect
from websockets.typing import Origin

ENGINE = shlex.split(os.environ.get("ENGINE", "docker"))
OPTIONS = shlex.split(os.environ.get("ENGINE_OPTIONS", ""))
HOST = "chat.example.com"
SAFE = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
PATIENCE = 120.0
GRACE = 10

# What a process of the container may do, as the kernel says it.
STATUS = r"""
import pathlib, re
for path in sorted(pathlib.Path("/proc").glob("[0-9]*/status")):
    text = path.read_text()
    names = "Name", "Uid", "CapEff", "CapPrm", "NoNewPrivs", "Seccomp"
    print(*(re.search(rf"^{name}:\s+(\S+)", text, re.M)[1] for name in names))
"""
WRITE = """
import pathlib
for folder in "/", "/srv/parley", "/srv/parley/demo_project", "/etc", "/var/lib/parley":
    try:
        path = pathlib.Path(folder, "probe")
        path.write_text("")
        path.unlink()
        print(folder, "writable")
    except OSError as error:
        print(folder, type(error).__name__, error.errno)
"""


def engine(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ENGINE, *words], capture_output=True, text=True, timeout=600, check=check
    )


class Checks:
    """What was promised, and whether it was so."""

    def __init__(self) -> None:
        self.failed = 0

    def that(self, promise: str, *, holds: bool, seen: object) -> None:
        self.failed += not holds
        print("ok  " if holds else "FAIL", promise, "|", seen, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    options = parser.parse_args()
    checks = Checks()
    with tempfile.TemporaryDirectory() as name:
        key = Path(name, "secret_key")
        key.write_text(secrets.token_urlsafe(50))
        key.chmod(0o444)
        given = [
            *("-e", f"ALLOWED_HOSTS={HOST}", "-e", "SECRET_KEY_FILE=/run/secret_key"),
            *("-v", f"{key}:/run/secret_key:ro"),
        ]
        look_at_server(checks, options.image, given)
    return int(checks.failed > 0)


def look_at_start(checks: Checks, container: str) -> None:
    """Start a second server without what it needs, and run Django's checks."""
    server = ["python", "manage.py", "runasgi", "127.0.0.1:8001"]
    for name in ("SECRET_KEY_FILE", "ALLOWED_HOSTS"):
        done = engine("exec", container, "env", "-u", name, *server, check=False)
        (said,) = re.findall(r".*must be set.*", done.stderr)[-1:] or ["nothing"]
        missing = name.removesuffix("_FILE")
        checks.that(
            f"does not start without {missing}",
            holds=done.returncode not in (0, 125) and missing in said,
            seen=f"exit {done.returncode}: {said}",
        )
    words = ["python", "manage.py", "check", "--deploy", "--fail-level=WARNING"]
    redis = "REDIS_URL=redis://redis:6379/0"
    done = engine("exec", container, "env", redis, *words, check=False)
    checks.that(
        "passes check --deploy",
        holds=done.returncode == 0 and "no issues" in done.stdout + done.stderr,
        seen=(done.stdout + done.stderr).strip().splitlines()[-1:],
    )
    code = "from django.conf import settings; print(settings.DEBUG)"
    words = ["python", "manage.py", "shell", "-c", code]
    debug = engine("exec", container, *words).stdout.split()[-1]
    checks.that("has DEBUG off", holds=debug == "False", seen=debug)


@contextmanager
def running(image: str, given: list[str], *words: str) -> Iterator[str]:
    """Run the image's server until the end of the block, with a volume of its own."""
    volume = f"parley-{secrets.token_hex(4)}"
    mounts = [*given, "-v", f"{volume}:/var/lib/parley", "--tmpfs=/tmp"]
    done = engine("run", "--detach", *SAFE, *mounts, *OPTIONS, image, *words)
    container = done.stdout.strip()
    try:
        yield container
    finally:
        engine("rm", "--force", container)
        engine("volume", "rm", volume)


def inspect(container: str) -> Any:
    (details,) = json.loads(engine("inspect", container).stdout)
    return details


def wait_until(happens: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not happens():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(0.1)


def look_at_server(checks: Checks, image: str, given: list[str]) -> None:
    """Look at a server that runs as its container's first process, and stop it."""
    words = ["0.0.0.0:8000", "--workers=2", "--metrics-bind=0.0.0.0:9001"]
    words += ["--proxy-headers", "--trusted-proxies=private"]
    with running(image, given, *words) as container:
        address = find_address(container)
        wait_until(lambda: is_ready(address), "the server is not ready")
        engine("exec", container, "python", "manage.py", "migrate", "--no-input")
        look_at_start(checks, container)
        look_at_processes(checks, container)
        look_at_answers(checks, address)
        look_at_stop(checks, container, address)


def find_address(container: str) -> str:
    networks = inspect(container)["NetworkSettings"]
    found = [networks.get("IPAddress", "")]
    found += [each["IPAddress"] for each in networks.get("Networks", {}).values()]
    return next((address for address in found if address), "127.0.0.1")


def is_ready(address: str) -> bool:
    try:
        url = f"http://{address}:9001/readyz"
        return httpx.get(url, timeout=PATIENCE).status_code == 200
    except httpx.TransportError:
        return False


def look_at_processes(checks: Checks, container: str) -> None:
    program = ["exec", container, "python", "-c"]
    lines = engine(*program, STATUS).stdout.splitlines()
    rights = {tuple(line.split()[1:]) for line in lines}
    expected = {("10001", "0" * 16, "0" * 16, "1", "2")}
    checks.that(
        "runs as an ordinary user, without capabilities, under seccomp",
        holds=rights == expected,
        seen=f"{len(lines)} processes (uid, effective, permitted, no new, mode): "
        f"{sorted(rights)}",
    )
    written = dict(
        line.split(" ", 1) for line in engine(*program, WRITE).stdout.splitlines()
    )
    writable = [name for name, result in written.items() if result == "writable"]
    checks.that(
        "writes to its volume alone",
        holds=writable == ["/var/lib/parley"],
        seen=written,
    )


def look_at_answers(checks: Checks, address: str) -> None:
    with open_client(address) as client:
        for host in ("localhost", "127.0.0.1", address, "evil.example"):
            answers = [
                client.get(path, headers={"Host": host})
                for path in ("/", "/admin/login/", "/accounts/login/", "/static/x.css")
            ]
            statuses = [answer.status_code for answer in answers]
            told = [
                text
                for text in ("Parley", "DEBUG", "Traceback")
                if any(text in answer.text for answer in answers)
            ]
            checks.that(
                f"gives a stranger with Host: {host} nothing",
                holds=not told and set(statuses) <= {400, 404},
                seen=statuses,
            )
        plain = client.get("/", headers={"X-Forwarded-Proto": "http"})
        page = client.get("/accounts/login/")
        style = client.get("/static/demo/css/site.css")
    checks.that(
        "leads to https",
        holds=plain.headers.get("Location") == f"https://{HOST}/",
        seen=(plain.status_code, plain.headers.get("Location")),
    )
    checks.that(
        "serves pages and static files",
        holds=(page.status_code, style.status_code) == (200, 200)
        and "Secure" in page.headers["Set-Cookie"],
        seen=(page.status_code, style.status_code, style.headers["Content-Type"]),
    )


def open_client(address: str) -> httpx.Client:
    return httpx.Client(
        base_url=f"http://{address}:8000",
        headers={
            "Host": HOST,
            "X-Forwarded-Proto": "https",
            "X-Forwarded-For": "198.51.100.9",
            "Referer": f"https://{HOST}/",
        },
        timeout=PATIENCE,
    )


def sign_up(client: httpx.Client) -> str:
    """Make an account; return its cookies, which are for https alone."""
    form = client.get("/accounts/sign-up/")
    token = form.cookies["csrftoken"]
    password = secrets.token_urlsafe(20)
    answer = client.post(
        "/accounts/sign-up/",
        headers={"Cookie": f"csrftoken={token}"},
        data={
            "username": "robin",
            "password1": password,
            "password2": password,
            "csrfmiddlewaretoken": token,
        },
    )
    assert answer.status_code == 302, answer.text
    return f"sessionid={answer.cookies['sessionid']}"


def look_at_stop(checks: Checks, container: str, address: str) -> None:
    """Stop the container while an event stream, a WebSocket and an upload are open."""
    with ExitStack() as stack:
        client = stack.enter_context(open_client(address))
        cookie = sign_up(client)
        websocket = stack.enter_context(
            connect(
                f"ws://{HOST}/ws/inbox/",
                sock=socket.create_connection((address, 8000), PATIENCE),
                origin=Origin(f"https://{HOST}"),
                additional_headers={"Cookie": cookie, "X-Forwarded-Proto": "https"},
                open_timeout=PATIENCE,
            )
        )
        events = stack.enter_context(
            client.stream("GET", "/notifications/stream/", headers={"Cookie": cookie})
        )
        upload = stack.enter_context(
            socket.create_connection((address, 8000), PATIENCE)
        )
        upload.sendall(
            f"POST /rooms/none/attachments/ HTTP/1.1\r\nHost: {HOST}\r\n"
            f"X-Forwarded-Proto: https\r\nCookie: {cookie}\r\n"
            "Content-Type: application/octet-stream\r\n"
            "Content-Length: 5000000\r\n\r\n".encode()
            + bytes(100_000)
        )
        checks.that(
            "has an event stream and a WebSocket open",
            holds=events.status_code == 200 and websocket.state.name == "OPEN",
            seen=(events.status_code, events.headers["Content-Type"]),
        )
        begun = time.monotonic()
        engine("stop", f"--time={GRACE}", container)
        seconds = time.monotonic() - begun
    state = inspect(container)["State"]
    checks.that(
        f"ends by itself in {GRACE} seconds",
        holds=state["ExitCode"] == 0 and seconds < GRACE,
        seen=f"exit {state['ExitCode']} after {seconds:.1f} s",
    )
    log = engine("logs", container)
    # Before, there were no tables yet.
    said = (log.stdout + log.stderr).rpartition("INFO     Stopping\n")[2]
    checks.that(
        "stops without a traceback",
        holds="Traceback" not in said,
        seen=said.strip().splitlines(),
    )


if __name__ == "__main__":
    sys.exit(main())
