"""Make the project's database: ``python -m benchmarks.project.prepare``."""

from __future__ import annotations

import django


def prepare() -> None:
    """Create the tables and the one row, and leave SQLite in WAL mode."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    User.objects.get_or_create(username="someone")
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
    connection.close()


if __name__ == "__main__":
    django.setup()
    prepare()
