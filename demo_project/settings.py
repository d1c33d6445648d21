"""Settings of the demo project: ready to run as they are, changed by the environment.

docs/guides/demo.md lists the variables. With none set this is a development set-up:
DEBUG on, SQLite, and channel layers that need no server, for processes of one machine.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import django
from django.core.exceptions import ImproperlyConfigured

from demo_project import environment

PACKAGE_DIR = Path(__file__).resolve().parent
DATA_DIR = Path(os.environ.get("DEMO_DATA_DIR") or PACKAGE_DIR / "var")
DATA_DIR.mkdir(parents=True, exist_ok=True)

DEBUG = environment.flag("DEBUG", default=True)
SECRET_KEY = environment.secret("SECRET_KEY")
ALLOWED_HOSTS = environment.items("ALLOWED_HOSTS")
if not DEBUG:
    if not SECRET_KEY:
        raise ImproperlyConfigured("SECRET_KEY must be set where DEBUG is off.")
    if not ALLOWED_HOSTS:
        raise ImproperlyConfigured("ALLOWED_HOSTS must be set where DEBUG is off.")
elif not SECRET_KEY:
    SECRET_KEY = "django-insecure-for-development-on-this-machine-only"
CSRF_TRUSTED_ORIGINS = environment.items("CSRF_TRUSTED_ORIGINS")

HAS_TASKS = find_spec("django_tasks_db") is not None

INSTALLED_APPS = [
    # First, so that its runserver is the one that Django finds.
    "djserve",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    # What Django has from 6.0 on.
    *(["django_tasks"] if HAS_TASKS and django.VERSION < (6, 0) else []),
    *(["django_tasks_db"] if HAS_TASKS else []),
    "demo_project.realtime",
    "demo_project.accounts",
    "demo_project.chat",
    "demo_project.notifications",
    "demo_project.background",
    "demo_project.status",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "demo_project.middleware.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "demo_project.urls"
ASGI_APPLICATION = "demo_project.asgi.application"

DJSERVE: dict[str, Any] = {
    # Uploads are the largest requests here; a chat frame is at most a few kilobytes.
    "BODY_SIZE_LIMIT": 8 * 1024 * 1024,
    "WEBSOCKET_MESSAGE_SIZE_LIMIT": 64 * 1024,
    "WEBSOCKET_FRAME_SIZE_LIMIT": 64 * 1024,
}

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PACKAGE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

DATABASES = {
    "default": environment.database(
        os.environ.get("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'db.sqlite3'}",
        environment.secret("DATABASE_PASSWORD"),
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = os.environ.get("REDIS_URL", "")
# Two layers: "default" hands each job to one worker, "groups" brings each event to all
# who listen. On one machine they are of one kind. In Redis the first keeps queues; the
# second keeps nothing and publishes, an event once to each process.
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {
    alias: {
        "BACKEND": "djserve.channels.HostChannelLayer",
        "CONFIG": {"prefix": alias, "capacity": capacity},
    }
    for alias, capacity in (("default", 500), ("groups", 100))
}
if REDIS_URL:
    # The layer waits for events in reads of five seconds; the client's own timeout must
    # be longer than that, or an idle connection looks like a dead Redis. On Python 3.11
    # there is to be none: with one, redis-py sends through asyncio.wait_for(), which
    # loses cancellations there, and tasks go on that were to end. TCP notices instead.
    redis_host = {
        "address": REDIS_URL,
        "socket_timeout": 15 if sys.version_info >= (3, 12) else None,
        "socket_keepalive": True,
    }
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            "CONFIG": {"hosts": [redis_host], "capacity": 500},
        },
        "groups": {
            "BACKEND": "demo_project.realtime.redis_layer.PubSubChannelLayer",
            "CONFIG": {"hosts": [redis_host]},
        },
    }

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "django.contrib.auth.password_validation."
        "UserAttributeSimilarityValidator"
    },
]
AUTHENTICATION_BACKENDS = [
    "demo_project.accounts.throttle.SignInGate",
    "django.contrib.auth.backends.ModelBackend",
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "chat:home"
LOGOUT_REDIRECT_URL = "chat:home"

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = True
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = Path(os.environ.get("DEMO_STATIC_DIR") or DATA_DIR / "static")
STATICFILES_DIRS = [PACKAGE_DIR / "static"]
if not DEBUG:
    # `collectstatic` compresses them for WhiteNoise; before that it serves them as they
    # lie in the apps. A proxy that serves STATIC_ROOT itself comes first, and asks it
    # for nothing.
    MIDDLEWARE.insert(1, "whitenoise.middleware.WhiteNoiseMiddleware")
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "whitenoise.storage.CompressedStaticFilesStorage"},
    }
    STATIC_ROOT.mkdir(exist_ok=True)
    WHITENOISE_USE_FINDERS = not any(STATIC_ROOT.iterdir())
# Uploads have no URL of their own: a view serves them to those who may read the room.
MEDIA_ROOT = DATA_DIR / "media"
FILE_UPLOAD_HANDLERS = [
    "demo_project.chat.uploads.SizeLimitHandler",
    "django.core.files.uploadhandler.MemoryFileUploadHandler",
    "django.core.files.uploadhandler.TemporaryFileUploadHandler",
]

# Who makes thumbnails, link titles and digests: tasks, which are rows that db_worker
# runs beside the server's processes, or (off) the Channels worker. Without fork() there
# are no processes alongside the server.
DEMO_TASKS = environment.flag("DEMO_TASKS", default=HAS_TASKS and hasattr(os, "fork"))
DEMO_TASK_WORKERS = environment.number("DEMO_TASK_WORKERS", default=1)
if HAS_TASKS:
    TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
if DEMO_TASKS and DEMO_TASK_WORKERS:
    DJSERVE["PROCESSES"] = {
        "tasks": {
            # Under runserver it is reloaded with the server.
            "command": ["db_worker", "--no-reload", "--interval", "0.5"],
            "count": DEMO_TASK_WORKERS,
        }
    }
# Where the Channels worker runs: in the server's processes, or (off) as
# `manage.py runworker media digest` beside them.
DEMO_INPROCESS_WORKER = environment.flag("DEMO_INPROCESS_WORKER", default=True)
DEMO_DIGEST_MINUTES = environment.number("DEMO_DIGEST_MINUTES", default=60)
DEMO_UPLOAD_LIMIT = 5 * 1024 * 1024

# Plain HTTP is for development; DEMO_PLAIN_HTTP=1 allows it where DEBUG is off too.
if not DEBUG and not environment.flag("DEMO_PLAIN_HTTP", default=False):
    SECURE_SSL_REDIRECT = True
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = environment.number("DEMO_HSTS_SECONDS", default=31536000)
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "loggers": {
        "demo_project": {"handlers": ["console"], "level": "INFO"},
    },
}
