"""The project as a WSGI application."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application

from benchmarks.realistic import sentry

sentry.start()
application = get_wsgi_application()
