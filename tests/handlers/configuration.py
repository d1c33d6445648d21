"""Settings of the project that ``compare.py`` serves, and a database that counts."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

DEFAULT_MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]


class CountedConnection(sqlite3.Connection):
    """Counts how often a database is opened, and how many are open."""

    opened = 0
    closed = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        CountedConnection.opened += 1

    def close(self) -> None:
        super().close()
        CountedConnection.closed += 1


def make_settings(folder: str) -> dict[str, Any]:
    return {
        "ALLOWED_HOSTS": ["*"],
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(Path(folder) / "db.sqlite3"),
                "OPTIONS": {"factory": CountedConnection, "timeout": 20},
            }
        },
        "DEFAULT_AUTO_FIELD": "django.db.models.AutoField",
        "DJSERVE": {"BODY_SIZE_LIMIT": 20_000_000, "THREADS": 4},
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.messages",
            "django.contrib.sessions",
        ],
        "LANGUAGE_CODE": "en",
        "LOGGING_CONFIG": None,
        "MIDDLEWARE": DEFAULT_MIDDLEWARE,
        "ROOT_URLCONF": "project",
        "SECRET_KEY": "for tests only",
        "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        "USE_TZ": True,
        "TIME_ZONE": "UTC",
    }
