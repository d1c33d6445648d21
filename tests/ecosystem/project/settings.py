"""The project's settings, with those of the package that this process tries."""

from __future__ import annotations

import os

from tests.ecosystem.package import folder
from tests.ecosystem.table import PROJECTS

PACKAGE = PROJECTS[os.environ["ECOSYSTEM_PACKAGE"]]

SECRET_KEY = "for tests only, and long enough for what asks for a key's length"
DEBUG = False
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "tests.ecosystem.project.urls"
ASGI_APPLICATION = "tests.ecosystem.project.asgi.application"
INSTALLED_APPS = [
    "djserve",
    "channels",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "tests.ecosystem.project",
    *PACKAGE.apps,
]
MIDDLEWARE = [
    *PACKAGE.first,
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "tests.ecosystem.project.middleware.zone_middleware",
    *PACKAGE.last,
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
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
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": folder() / "db.sqlite3",
        "OPTIONS": {
            "timeout": 120,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF",
        },
    }
}
CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LANGUAGE_CODE = "en"
USE_TZ = True
TIME_ZONE = "UTC"
STATIC_URL = "/static/"
STATIC_ROOT = folder() / "static"
# The runs' requests come from one address, and the last word is the log's.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "plain"},
    },
    "loggers": {
        "django.request": {"handlers": ["console"], "propagate": True},
    },
}

globals().update(PACKAGE.settings)
PACKAGE.start()
