"""Fill the database: ``python -m benchmarks.realistic.prepare`` prints the sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import django

if TYPE_CHECKING:
    from django.contrib.auth.models import User

ARTICLES = 200
USERS = 32


def prepare() -> list[str]:
    """Make tables, articles, and a session for each user; return the sessions' keys."""
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", verbosity=0)
    # The project's own tables, which refer to those, have no migrations.
    call_command("migrate", verbosity=0, run_syncdb=True)
    call_command("collectstatic", verbosity=0, interactive=False)
    users = [User(username=f"user{number}") for number in range(USERS)]
    for user in users:
        user.set_unusable_password()
    users = User.objects.bulk_create(users)
    _write_articles(users)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    keys = [_log_in(user) for user in users]
    connection.close()
    return keys


def _write_articles(users: Sequence[User]) -> None:
    from benchmarks.realistic.models import Article

    text = "The quick brown fox jumps over the lazy dog. " * 8
    Article.objects.bulk_create(
        Article(title=f"Article {number}", text=text, author=users[number % USERS])
        for number in range(ARTICLES)
    )


def _log_in(user: User) -> str:
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


if __name__ == "__main__":
    django.setup()
    print(json.dumps(prepare()))
