"""An application whose WhiteNoise serves the folder BENCH_STATIC at /static/."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


urlpatterns = [path("", hello)]

settings.configure(
    SECRET_KEY="only for a benchmark",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["whitenoise.middleware.WhiteNoiseMiddleware"],
    STATIC_URL="/static/",
    STATIC_ROOT=os.environ["BENCH_STATIC"],
)
application: Any = get_asgi_application()
wsgi_application: Any = get_wsgi_application()
