"""``python -m demo_project.serve ADDRESS PORT``: what `make demo` runs.

Serves the demo by runasgi, and tells its address once it can be opened.
"""

from __future__ import annotations

import errno
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

POLL_SECONDS = 0.1


def main(arguments: Sequence[str]) -> int:
    """Serve until the server ends, and return its exit code."""
    address, port = arguments[0], int(arguments[1])
    if is_taken(address, port):
        print(
            f"Port {port} of {address} is in use; choose another one: "
            f"make demo PORT={port + 1}",
            file=sys.stderr,
        )
        return 1
    words = ["manage.py", "runasgi", "--bind", f"{address}:{port}"]
    server = subprocess.Popen([sys.executable, *words])
    # A terminal's Control-C reaches the server too; its end is waited for.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    while server.poll() is None:
        if accepts(address, port):
            print(f"The demo is at http://{address}:{port}/ (Control-C ends it)")
            sys.stdout.flush()
            return server.wait()
        time.sleep(POLL_SECONDS)
    return server.returncode


def is_taken(address: str, port: int) -> bool:
    """Return whether another program listens there."""
    try:
        socket.create_server((address, port)).close()
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False


def accepts(address: str, port: int) -> bool:
    """Return whether the server takes connections."""
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
