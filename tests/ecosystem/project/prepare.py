"""Make the database of a run: tables, users and their sessions."""

from __future__ import annotations

from datetime import UTC, datetime

import django
from django.conf import settings
from django.core.management import call_command


def main() -> None:
    django.setup()
    call_command("migrate", run_syncdb=True, verbosity=0)
    _make_users()
    settings.PACKAGE.prepare()


def _make_users() -> None:
    from django.contrib.auth.hashers import make_password
    from django.contrib.auth.models import User
    from django.contrib.sessions.backends.db import SessionStore
    from django.contrib.sessions.models import Session

    from tests.ecosystem.users import USERS

    password = make_password("secret")
    users = User.objects.bulk_create(
        User(username=user.name, password=password, email=f"{user.name}@example.org")
        for user in USERS
    )
    Session.objects.bulk_create(
        Session(
            session_key=user.session,
            session_data=SessionStore().encode(
                {
                    "_auth_user_id": str(row.pk),
                    "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
                    "_auth_user_hash": row.get_session_auth_hash(),
                }
            ),
            expire_date=datetime(2100, 1, 1, tzinfo=UTC),
        )
        for user, row in zip(USERS, users, strict=True)
    )


if __name__ == "__main__":
    main()
