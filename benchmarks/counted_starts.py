"""What a start takes: instructions and modules, from the command to the first answer.

The command serves a socket that a client has connected to before. The second request,
which the client sends when it has the answer to the first, ends the process. Modules
are compiled by a run that is not counted. An environment's own additions to Python's
start (``.pth`` files) are left out; what else is installed has a part in the counts, by
the folders' length.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError
from benchmarks.starts import SITE

COLLECTED = re.compile(r"==\d+== Collected : (\d+)")
IMPORTED = re.compile(r"(\d+) modules imported")
CALLGRIND = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null")
REQUEST = b"GET %b HTTP/1.1\r\nHost: localhost:8000\r\n\r\n"
TIME_LIMIT = 600

COMMANDS = {
    "start": ("-m", "djserve", "start_raw:application"),
    "start_django": ("-m", "django", "runasgi"),
}
"""What is counted, by its name in the budget."""

FILES = SITE | {
    "start_raw.py": """\
import os
import sys

# Else a thread would import it if the first request is answered late.
sys.modules["djserve.protocols.websocket.handshake"] = None


async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        return
    if scope["path"] == "/end":
        os.write(2, b"%d modules imported\\n" % len(sys.modules))
        os._exit(0)
    fields = [(b"content-length", b"6")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": b"world!"})
""",
    "start_urls.py": """\
import os
import sys

from django.http import HttpResponse
from django.urls import path


def end(request):
    os.write(2, b"%d modules imported\\n" % len(sys.modules))
    os._exit(0)


urlpatterns = [path("", lambda request: HttpResponse("world!")), path("end", end)]
""",
    "start_settings.py": """\
from site_settings import *

ROOT_URLCONF = "start_urls"
""",
}


def count_starts(kinds: list[str], folder: Path) -> dict[str, tuple[int, int]]:
    """Return the instructions and the modules of each kind of start."""
    for name, text in FILES.items():
        (folder / name).write_text(text, "utf-8")
    counts = {}
    for kind in kinds:
        for _ in range(2):
            # What the first run has written is what the second finds.
            start_once((), COMMANDS[kind], folder)
        errors = start_once(CALLGRIND, COMMANDS[kind], folder)
        found = COLLECTED.findall(errors)
        if len(found) != 1:
            raise BenchmarkError(f"valgrind has counted {len(found)} processes")
        counts[kind] = int(found[0]), count_modules(errors)
    return counts


def count_modules(errors: str) -> int:
    """Return how many modules a server has imported, from what it has written."""
    found = IMPORTED.search(errors)
    if found is None:
        raise BenchmarkError("The server has not told what it has imported")
    return int(found[1])


def start_once(tool: tuple[str, ...], command: tuple[str, ...], folder: Path) -> str:
    """Start a server, ask it once, and return what it has written as it ended."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        words = [*tool, sys.executable, "-S", *command, "--bind", f"fd://{number}"]
        with (
            subprocess.Popen(
                words,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                cwd=folder,
                env=_environment(folder),
                pass_fds=[number],
            ) as server,
            socket.create_connection(listener.getsockname(), TIME_LIMIT) as client,
        ):
            # Or a server that ends early would leave the client waiting.
            listener.close()
            try:
                answer = _ask(client)
                _, errors = server.communicate(timeout=TIME_LIMIT)
            finally:
                server.kill()
    if server.returncode or not answer.endswith(b"world!"):
        raise BenchmarkError(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return errors


def _ask(client: socket.socket) -> bytes:
    """Return the answer, or what there is of it when the server ends."""
    answer = b""
    try:
        client.sendall(REQUEST % b"/")
        while not answer.endswith(b"world!"):
            piece = client.recv(4096)
            if not piece:
                return answer
            answer += piece
        client.sendall(REQUEST % b"/end")
    except ConnectionError:
        pass
    return answer


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment with nothing of the user's and without ``.pth`` files."""
    packages = [path for path in sys.path if path.endswith("-packages")]
    paths = [str(folder), str(ROOT), *packages]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
        "DJANGO_SETTINGS_MODULE": "start_settings",
        "SITE_APPS": "djserve",
    }
