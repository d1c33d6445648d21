"""Settings as startproject writes them, for production: no DEBUG, SQLite with WAL."""

from __future__ import annotations

import os
from pathlib import Path

ALLOWED_HOSTS = ["*"]
ASGI_APPLICATION = os.environ.get(
    "BENCH_APPLICATION", "benchmarks.project.asgi.application"
)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(Path(os.environ["BENCH_FOLDER"], "db.sqlite3")),
        "CONN_MAX_AGE": 60,
        # Writers wait for each other instead of failing.
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
    }
}
if os.environ.get("BENCH_POSTGRESQL"):
    # The rest is for libpq's own variables: PGHOST, PGUSER, PGPORT.
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["BENCH_POSTGRESQL"],
        "CONN_MAX_AGE": 60,
    }
if os.environ.get("BENCH_POSTGRESQL") and os.environ.get("BENCH_POOL"):
    # In place of CONN_MAX_AGE: 32 requests are on their way at most.
    DATABASES["default"]["CONN_MAX_AGE"] = 0
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 4, "max_size": 40}}
DEBUG = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DJSERVE: dict[str, object] = {"HANDLER": os.environ.get("BENCH_HANDLER", "djserve")}
if os.environ.get("BENCH_THREADS"):
    DJSERVE["THREADS"] = int(os.environ["BENCH_THREADS"])
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "djserve",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "benchmarks.project.urls"
SECRET_KEY = "only the benchmarks use this key, and it keeps nothing secret"
USE_TZ = True
WSGI_APPLICATION = "benchmarks.project.wsgi.application"
