"""PostgreSQL whose connection objects know whose request it is, as django-tenants'."""

from __future__ import annotations

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Has the tenant that a request has set, until the next sets its own."""

    tenant = ""
