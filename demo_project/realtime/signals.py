"""Signing out closes the WebSockets of that session, on every open tab."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_out
from django.db.models.signals import post_save
from django.dispatch import receiver
from django.http import HttpRequest

from demo_project.realtime.groups import account_group, publish_one, session_group


@receiver(user_logged_out)
def close_session_sockets(request: HttpRequest | None, **_: Any) -> None:
    """Runs before Django forgets the session, so its key is still there."""
    key = request.session.session_key if request is not None else None
    if key:
        publish_one(session_group(key), {"type": "session.ended"})


@receiver(post_save, sender=User)
def close_inactive_user_sockets(instance: User, **_: Any) -> None:
    """An account that is switched off loses its open sockets at once."""
    if not instance.is_active:
        publish_one(account_group(instance.pk), {"type": "session.ended"})
