"""The bound of Django's speed: WSGIHandler called in this process, without a server.

``python -m benchmarks.wsgi_bound --path /sync/`` prints calls a second.
"""

from __future__ import annotations

import argparse
import io
import time
from typing import Any

from benchmarks.project.wsgi import application


def build_environ(path: str) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1",
        "wsgi.input": io.BytesIO(),
        "wsgi.url_scheme": "http",
    }


def call(path: str) -> None:
    """Make one request; the response must be a success."""
    statuses: list[str] = []

    def start_response(status: str, headers: object, error: object = None) -> Any:
        statuses.append(status)

    response = application(build_environ(path), start_response)
    b"".join(response)
    response.close()
    if statuses != ["200 OK"]:
        raise SystemExit(f"{path} answered {statuses}")


def measure(path: str, seconds: float) -> float:
    """Return calls a second, after a few to warm up."""
    for _ in range(50):
        call(path)
    count, started = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - started) < seconds:
        call(path)
        count += 1
    return count / elapsed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--path", default="/sync/")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    print(f"{measure(options.path, options.seconds):.1f}")


if __name__ == "__main__":
    main()
