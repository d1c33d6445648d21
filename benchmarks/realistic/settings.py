"""PostgreSQL, sessions, accounts, an API, ten packages' middleware, and Sentry.

What differs by server is how it is told to keep connections to the database, as the
documentation of Django has it: a pool if ``BENCH_POOL`` is set, else each thread keeps
its own.
"""

from __future__ import annotations

import os
from pathlib import Path

ALLOWED_HOSTS = ["*"]
ASGI_APPLICATION = "benchmarks.realistic.asgi.application"
AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
CONTENT_SECURITY_POLICY = {"DIRECTIVES": {"default-src": ["'self'"]}}
CORS_ALLOWED_ORIGINS = ["https://example.org"]
DATABASES: dict[str, dict[str, object]] = {
    "default": {
        # The rest is for libpq's variables: PGHOST, PGUSER.
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "postgres",
    }
}
if os.environ.get("BENCH_POOL"):
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 4, "max_size": 40}}
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 600
DEBUG = False
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DJANGO_GUID = {"GUID_HEADER_NAME": "Correlation-ID", "VALIDATE_GUID": False}
DJSERVE: dict[str, object] = {}
INSTALLED_APPS = [
    "djserve",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "axes",
    "corsheaders",
    "csp",
    "django_guid",
    "django_htmx",
    "django_prometheus",
    "rest_framework",
    "simple_history",
    "benchmarks.realistic",
]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"guid": {"()": "django_guid.log_filters.CorrelationId"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "filters": ["guid"]}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django_guid": {"level": "WARNING"}},
}
MIDDLEWARE = [
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "django_guid.middleware.guid_middleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "corsheaders.middleware.CorsMiddleware",
    "csp.middleware.CSPMiddleware",
    "django_permissions_policy.PermissionsPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
    "django_prometheus.middleware.PrometheusAfterMiddleware",
]
PERMISSIONS_POLICY: dict[str, list[str]] = {"camera": [], "geolocation": []}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication"
    ],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.PageNumberPagination",
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "PAGE_SIZE": 20,
}
ROOT_URLCONF = "benchmarks.realistic.urls"
SECRET_KEY = "only the benchmarks use this key, and it keeps nothing secret"
STATIC_ROOT = Path(os.environ["BENCH_FOLDER"], "static")
STATIC_URL = "/static/"
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
USE_TZ = True
WSGI_APPLICATION = "benchmarks.realistic.wsgi.application"
