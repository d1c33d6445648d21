"""Whether a sign-in still holds: the database knows, though an event was lost."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from django.utils import timezone
from django.utils.crypto import constant_time_compare

# The tables' names are the models'; all that comes from outside is a parameter.
_ROWS = f"""
    SELECT account.password, session.session_data
    FROM {User._meta.db_table} account, {Session._meta.db_table} session
    WHERE account.id = %s AND account.is_active
    AND session.session_key = %s AND session.expire_date > %s
"""


class Ended(Exception):
    """A connection has lost what it was admitted for; ``code`` closes it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class SignIn:
    """The sign-in of one connection, which is looked at with every event and command.

    A verdict depends on the account's password and the session's content, so while the
    two rows are as they were, one statement in SQL is enough; the ORM's way takes
    several times as long.
    """

    def __init__(self, user: User, session_key: str | None) -> None:
        self._user = user
        self._session_key = session_key
        self._held_with: object = None

    def holds(self) -> bool:
        """Return whether it still does, as ``is_signed_in`` does."""
        rows = self._rows()
        if rows is not None and rows == self._held_with:
            return True
        if not is_signed_in(self._user, self._session_key):
            return False
        self._held_with = rows
        return True

    def _rows(self) -> Any:
        if (
            self._session_key is None
            or settings.SESSION_ENGINE != "django.contrib.sessions.backends.db"
        ):
            return None
        now = connection.ops.adapt_datetimefield_value(timezone.now())
        with connection.cursor() as cursor:
            cursor.execute(_ROWS, [self._user.pk, self._session_key, now])
            return cursor.fetchone()


def is_signed_in(user: User, session_key: str | None) -> bool:
    """Return whether the account is active, and the session still one of its own.

    Only looks, where Django's ``get_user`` may flush a session or give it a new key.
    """
    account = User.objects.filter(pk=user.pk, is_active=True).first()
    if account is None:
        return False
    if session_key is None:
        return True
    store = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    # Loading an ended session leaves the store without its key.
    signed_in = store.get(SESSION_KEY, str(user.pk))
    return (
        store.session_key is not None
        and signed_in == str(user.pk)
        and _knows_password(account, store.get(HASH_SESSION_KEY))
    )


def _knows_password(account: User, given: str | None) -> bool:
    """Return whether the session is younger than the account's password."""
    if given is None:
        return True
    hashes = [
        account.get_session_auth_hash(),
        *account.get_session_auth_fallback_hash(),
    ]
    return any(constant_time_compare(given, each) for each in hashes)
