"""Environment variables -> values for the settings; knows nothing of Django's state."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})

_ENGINES = {
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
    "sqlite": "django.db.backends.sqlite3",
}

# IMMEDIATE takes the write lock when a transaction opens: one that starts by reading
# and then writes would otherwise fail at once when another writer is ahead of it.
_SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
}


def flag(name: str, default: bool) -> bool:
    """Read a yes-or-no variable; raise ValueError for anything else."""
    value = os.environ.get(name)
    if value is None:
        return default
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ValueError(f"{name}: expected 1 or 0, got {value!r}")


def secret(name: str) -> str:
    """Read a secret from a variable, or from the file that ``<name>_FILE`` names.

    An environment is inherited and shown in many places; a file is read here alone.
    """
    path = os.environ.get(f"{name}_FILE")
    if not path:
        return os.environ.get(name, "")
    if os.environ.get(name):
        raise ValueError(f"{name} and {name}_FILE are both set")
    return Path(path).read_text(encoding="utf-8").strip()


def items(name: str) -> list[str]:
    """Read a comma-separated list."""
    return [
        item.strip() for item in os.environ.get(name, "").split(",") if item.strip()
    ]


def number(name: str, default: int) -> int:
    """Read a whole number of zero or more."""
    value = os.environ.get(name, "")
    if not value:
        return default
    if not value.isascii() or not value.isdigit():
        raise ValueError(f"{name}: expected a whole number, got {value!r}")
    return int(value)


def database(url: str, password: str = "") -> dict[str, Any]:
    """Turn a database URL into an entry of ``DATABASES``.

    ``password`` is for a URL without one.

    ``sqlite:////absolute/path``, ``sqlite:///relative/path`` or
    ``postgresql://user:password@host:port/name?sslmode=require``; whatever stands in
    the query goes to the driver as options.
    """
    parts = urlsplit(url)
    engine = _ENGINES.get(parts.scheme)
    if engine is None:
        expected = ", ".join(sorted(_ENGINES))
        raise ValueError(f"Database URL: expected one of {expected}, got {url!r}")
    name = unquote(parts.path.removeprefix("/"))
    if not name:
        raise ValueError("Database URL: the path must name the database")
    if engine.endswith("sqlite3"):
        return {
            "ENGINE": engine,
            "NAME": name,
            "CONN_MAX_AGE": None,
            "OPTIONS": dict(_SQLITE_OPTIONS),
        }
    return {
        "ENGINE": engine,
        "NAME": name,
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or "") or password,
        "HOST": parts.hostname or "",
        "PORT": str(parts.port or ""),
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": dict(parse_qsl(parts.query)),
    }
