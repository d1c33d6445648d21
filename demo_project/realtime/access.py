"""Whether a sign-in still holds: the database knows, though an event was lost."""

from __future__ import annotations

from importlib import import_module

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.utils.crypto import constant_time_compare


class Ended(Exception):
    """A connection has lost what it was admitted for; ``code`` closes it."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


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
