"""What the servers that serve WSGI alone have in common, for their rules."""

from __future__ import annotations

import re

from djserve.doctor.rules import Draft, Outcome, lacking, translated, unneeded
from djserve.doctor.uvicorn import TRUE

THREADS = "Leave it out, and the number follows what the views do."
CLOSING = "An idle connection is kept for 75 seconds (--keep-alive-timeout)."
PROXIES = "X-Forwarded-For and X-Forwarded-Proto are believed of --trusted-proxies."
ENVIRONMENT = "Start the Python of that environment, as in venv/bin/python."

DEFAULTS = (
    "djserve serves asgi.py, not wsgi.py: synchronous views and middleware run as "
    "they are, in threads; asynchronous ones and WebSockets work too.",
    "Pages of other sites may open no WebSocket: ALLOWED_HOSTS and "
    "CSRF_TRUSTED_ORIGINS say which may.",
    "After SIGTERM requests have 30 seconds to finish (--shutdown-timeout).",
)


def directory(draft: Draft, value: str) -> Outcome:
    draft.directory = value
    return translated(f"cd {value}", "WorkingDirectory= in a systemd unit.")


def path(draft: Draft, value: str) -> Outcome:
    draft.path = value
    return translated(f"--app-dir {value}", "manage.py: --pythonpath.")


def threads(draft: Draft, value: str) -> Outcome:
    if value == "1":
        return unneeded("Threads are as many as the views need.")
    return translated(draft.add("--threads", value), THREADS)


def header_size(draft: Draft, value: str) -> Outcome:
    if value.isdigit() and int(value) <= 65536:
        return unneeded("A request's head may have 64 KiB (--header-size-limit).")
    return translated(draft.add("--header-size-limit", value))


def body_size(draft: Draft, value: str) -> Outcome:
    if value == "0":
        return unneeded("An upload may have 2 GiB (--body-size-limit).")
    return translated(draft.add("--body-size-limit", value))


def mount_folder(draft: Draft, prefix: str, folder: str) -> Outcome:
    """Serve a folder below a prefix."""
    if not prefix or not folder:
        return lacking("--files takes /prefix/=folder.")
    prefix = f"/{prefix.strip('/')}/".replace("//", "/")
    words = draft.add("--files", f"{prefix}={folder}")
    return translated(words, "runasgi serves STATIC_ROOT at STATIC_URL by itself.")


def module_of(name: str) -> str:
    """Return the module of a script's path, and any other name as it is."""
    # "shop.wsgi" is a module, "/srv/shop.wsgi" a script.
    path, colon, attribute = name.partition(":")
    if not re.search(r"\.py$|/.*\.wsgi$", path):
        return name
    stem = path.rpartition(".")[0].removeprefix("./").strip("/")
    return ".".join(stem.split("/")[-2:]) + colon + attribute


def is_true(value: str) -> bool:
    """Return whether a switch in a configuration file is on."""
    return value.strip().lower() in {*TRUE, ""}
