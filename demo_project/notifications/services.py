"""Sending notifications, reading them, and marking them read."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from demo_project.notifications.models import Inbox, Notification
from demo_project.realtime.groups import inbox_group, publish_one

LIST_SIZE = 20
TEXT_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Note:
    """A notification as clients get it."""

    serial: int
    kind: str
    text: str
    url: str
    created_at: str
    is_read: bool

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@transaction.atomic
def notify(
    user: User, text: str, *, kind: str = Notification.Kind.NOTICE, url: str = ""
) -> Notification:
    """Send a person a notification; it shows at once on their open pages.

    ``url`` is a path of this site. A text that is too long is cut.
    """
    if url and (not url.startswith("/") or url.startswith("//")):
        raise ValueError(f"Expected a path of this site, got {url!r}")
    notification = Notification.objects.create(
        user=user,
        serial=_next_serial(user),
        kind=kind,
        text=_cut(text),
        url=url,
    )
    event = {
        "type": "notification.new",
        "note": note(notification).as_dict(),
        "unread": unread_count(user),
    }
    publish_one(inbox_group(user.pk), event)
    return notification


def has_been_told(user: User, *, kind: str, url: str) -> bool:
    """Return whether the user has a notification of a kind about a page."""
    return Notification.objects.filter(user=user, kind=kind, url=url).exists()


@transaction.atomic
def mark_read(user: User, up_to: int) -> None:
    """Mark the notifications up to a serial as read, on all of the user's pages."""
    unread = Notification.objects.filter(user=user, serial__lte=up_to, read_at=None)
    if unread.update(read_at=timezone.now()):
        event = {
            "type": "notification.read",
            "up_to": up_to,
            "unread": unread_count(user),
        }
        publish_one(inbox_group(user.pk), event)


def unread_count(user: User) -> int:
    """Return how many notifications the user has not read."""
    return Notification.objects.filter(user=user, read_at=None).count()


def latest(user: User) -> list[Note]:
    """Return the newest notifications, newest first."""
    newest = Notification.objects.filter(user=user).order_by("-serial")
    return [note(notification) for notification in newest[:LIST_SIZE]]


def after(user: User, serial: int) -> list[Note]:
    """Return up to a page of notifications after a serial, oldest first."""
    later = Notification.objects.filter(user=user, serial__gt=serial)
    ordered = later.order_by("serial")[:LIST_SIZE]
    return [note(notification) for notification in ordered]


def newest_serial(user: User) -> int:
    """Return the number of the user's newest notification, 0 where there is none."""
    serial = Inbox.objects.filter(user=user).values_list("serial", flat=True).first()
    return serial or 0


def note(notification: Notification) -> Note:
    """Describe a notification for clients."""
    return Note(
        serial=notification.serial,
        kind=notification.kind,
        text=notification.text,
        url=notification.url,
        created_at=notification.created_at.isoformat(),
        is_read=notification.read_at is not None,
    )


def _next_serial(user: User) -> int:
    Inbox.objects.get_or_create(user=user)
    # The update takes the row's lock before the number is read.
    Inbox.objects.filter(user=user).update(serial=F("serial") + 1)
    return Inbox.objects.values_list("serial", flat=True).get(user=user)


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= TEXT_LIMIT else f"{text[: TEXT_LIMIT - 1]}…"
