"""Thumbnails and titles. Nothing is ever fetched over the network.

A link's title comes from this site's own rows and files: a server that fetched what
users link to could be made to reach into the network that it stands in.
"""

from __future__ import annotations

import logging
import uuid
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.core.files.base import ContentFile
from django.http.request import validate_host
from django.urls import Resolver404, resolve
from django.utils import timezone

from demo_project.background import jobs
from demo_project.chat import pictures
from demo_project.chat.models import Attachment, LinkPreview, Processing, Room
from demo_project.chat.services import messages

logger = logging.getLogger(__name__)

TITLE_LIMIT = 120
REQUEUE_AFTER = timedelta(minutes=1)
UNSENT_AFTER = timedelta(days=1)
_LOCAL_HOSTS = [".localhost", "127.0.0.1", "[::1]"]


def process_attachment(attachment_id: str) -> None:
    """Make what an attachment is shown with, and send its message out again."""
    attachment = Attachment.objects.filter(
        pk=uuid.UUID(attachment_id), state=Processing.PENDING
    ).first()
    if attachment is None:
        return
    try:
        _complete(attachment)
        attachment.state = Processing.DONE
    except (OSError, pictures.BadPicture) as error:
        logger.warning("Attachment %s: %s", attachment_id, error)
        attachment.state = Processing.FAILED
    # The message may have been sent meanwhile: its column is not ours to write.
    attachment.save(
        update_fields=["state", "thumbnail", "width", "height", "title"],
    )
    attachment.refresh_from_db(fields=["message"])
    if attachment.message_id is not None:
        messages.touch(attachment.message_id)


def find_preview_title(preview_id: int) -> None:
    """Find the title of a link to this site; other links stay without one."""
    preview = LinkPreview.objects.filter(pk=preview_id, state=Processing.PENDING)
    found = preview.select_related("message__room").first()
    if found is None:
        return
    title = local_title(found.url, found.message.room)
    state = Processing.DONE if title else Processing.FAILED
    preview.update(title=title, state=state)
    if title:
        messages.touch(found.message_id)


def local_title(url: str, room: Room) -> str:
    """Return the title of a page of this site, "" for any other.

    Only what all readers of ``room`` may see: public rooms, the room itself, and its
    text files.
    """
    parts = urlsplit(url)
    hosts = settings.ALLOWED_HOSTS or (_LOCAL_HOSTS if settings.DEBUG else [])
    if not validate_host((parts.hostname or "").lower(), hosts):
        return ""
    try:
        match = resolve(parts.path)
    except Resolver404:
        return ""
    if match.view_name == "chat:room":
        return _room_title(match.kwargs["slug"], room)
    if match.view_name == "chat:attachment":
        return _file_title(match.kwargs["attachment_id"], room)
    return ""


def requeue() -> None:
    """Send again what a channel lost (tasks are not); drop uploads never sent."""
    now = timezone.now()
    if not settings.DEMO_TASKS:
        _requeue(now)
    unsent = Attachment.objects.filter(message=None, created_at__lt=now - UNSENT_AFTER)
    for attachment in unsent:
        attachment.delete()


def _requeue(now: datetime) -> None:
    waiting = {"state": Processing.PENDING, "created_at__lt": now - REQUEUE_AFTER}
    for attachment in Attachment.objects.filter(**waiting):
        enqueue_attachment(attachment)
    for preview in LinkPreview.objects.filter(**waiting):
        jobs.enqueue("media", {"type": "preview.title", "id": preview.pk})


def enqueue_attachment(attachment: Attachment) -> None:
    """Have the worker process an attachment."""
    job = {"type": "attachment.process", "id": str(attachment.pk)}
    jobs.enqueue("media", job)


def first_line(data: bytes) -> str:
    """Return a text's first line with something in it, without Markdown's marks."""
    for line in data.decode(errors="replace").splitlines():
        title = line.strip().strip("#=*- ").strip()
        if title:
            return title[:TITLE_LIMIT]
    return ""


def _complete(attachment: Attachment) -> None:
    with attachment.file.open("rb") as file:
        if attachment.content_type == "text/plain":
            attachment.title = first_line(file.read(4096))
        if not attachment.is_image:
            return
        content, attachment.width, attachment.height = pictures.make_thumbnail(file)
    attachment.thumbnail.save("thumbnail", ContentFile(content), save=False)


def _room_title(slug: str, room: Room) -> str:
    target = Room.objects.filter(slug=slug).first()
    if target is None:
        return ""
    if not target.is_public and target != room:
        return ""
    return target.name


def _file_title(attachment_id: uuid.UUID, room: Room) -> str:
    target = Attachment.objects.filter(pk=attachment_id).select_related("room").first()
    if target is None or target.message_id is None:
        return ""
    if not target.room.is_public and target.room != room:
        return ""
    return target.title or target.name
