"""The project as an ASGI application, with Django's own handler."""

from __future__ import annotations

from django.core.asgi import get_asgi_application

from benchmarks.realistic import sentry

sentry.start()
application = get_asgi_application()
