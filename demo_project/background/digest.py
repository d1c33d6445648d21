"""The periodic digest: a notification of what waits in one's rooms."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from demo_project.chat.models import Message
from demo_project.chat.services.reading import room_entries
from demo_project.notifications import services
from demo_project.notifications.models import Inbox, Notification
from demo_project.realtime import presence

NAMED_ROOMS = 3


def send() -> None:
    """Send each absent person with something new and unread one digest of it."""
    users = User.objects.filter(is_active=True)
    online = presence.online(users.values_list("pk", flat=True))
    for user in users.exclude(pk__in=online):
        send_to(user)


@transaction.atomic
def send_to(user: User) -> Notification | None:
    """Send one person a digest, unless nothing has come since the last one."""
    Inbox.objects.get_or_create(user=user)
    inbox = Inbox.objects.select_for_update().get(user=user)
    unread = [entry for entry in room_entries(user) if entry.unread]
    news = Message.objects.filter(room__in=[entry.room for entry in unread])
    news = news.exclude(author=user).filter(deleted_at=None)
    if inbox.digest_at is not None:
        news = news.filter(created_at__gt=inbox.digest_at)
    if not news.exists():
        return None
    Inbox.objects.filter(user=user).update(digest_at=timezone.now())
    total = sum(entry.unread for entry in unread)
    names = [entry.title for entry in unread[:NAMED_ROOMS]]
    more = ", …" if len(unread) > NAMED_ROOMS else ""
    return services.notify(
        user,
        kind=Notification.Kind.DIGEST,
        text=f"{total} unread in {', '.join(names)}{more}",
        url="/",
    )
