"""``python -m demo_project.serve ADDRESS PORT``: what `make demo` runs.

Serves the demo by runasgi, and tells its address once it can be opened.
"""

from __future__ import annotations

import errno
import http.client
import ipaddress
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from demo_project import environment

POLL_SECONDS = 0.1
LAST_PORT = 65535


def main(arguments: Sequence[str]) -> int:
    """Serve until the server ends, and return its exit code."""
    address = arguments[0].strip("[]")
    port = read_port(arguments[1])
    if port is None:
        expected = f"PORT: expected a number from 1 to {LAST_PORT}"
        print(f"{expected}, got {arguments[1]!r}", file=sys.stderr)
        return 2
    if is_taken(address, port):
        print(
            f"Port {port} of {address} is in use; choose another one: "
            f"make demo PORT={find_other(address, port)}",
            file=sys.stderr,
        )
        return 1
    if not is_local(address) and environment.flag("DEBUG", default=True):
        print(
            f"Careful: who reaches {address} can sign in as admin, for DEBUG is on and "
            "the password known. docs/guides/demo.md has the way without DEBUG.",
            file=sys.stderr,
        )
    return serve(address, port)


def serve(address: str, port: int) -> int:
    """Run the server; tell the address when it answers."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    words = ["manage.py", "runasgi", "--bind", place, "--health"]
    server = subprocess.Popen([sys.executable, *words])
    # A terminal's Control-C reaches the server too; its end is waited for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    while server.poll() is None:
        if answers(address, port):
            print(f"The demo is at http://{place}/ (Control-C ends it)")
            sys.stdout.flush()
            return server.wait()
        time.sleep(POLL_SECONDS)
    return server.returncode


def read_port(text: str) -> int | None:
    """Return a port's number, None for anything else."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    return number if 1 <= number <= LAST_PORT else None


def find_other(address: str, port: int) -> int:
    """Return a port near another one on which nothing listens."""
    near = [*range(port + 1, LAST_PORT + 1), *range(port - 1, 1024, -1)]
    return next((other for other in near if not is_taken(address, other)), 0)


def is_taken(address: str, port: int) -> bool:
    """Return whether another program listens there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        socket.create_server((address, port), family=family).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def is_local(address: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def answers(address: str, port: int) -> bool:
    """Return whether the server has loaded the project and takes requests."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
