"""Saying, changing and reading back messages."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from demo_project.background import jobs
from demo_project.chat import events, permissions
from demo_project.chat.models import (
    Attachment,
    LinkPreview,
    Message,
    Room,
)
from demo_project.chat.services import statements
from demo_project.chat.services.versions import advance, next_version
from demo_project.chat.text import links, mentioned_names
from demo_project.notifications import services as notifications
from demo_project.realtime.database import writing
from demo_project.realtime.errors import Forbidden, Invalid, Refused, TooMany

TEXT_LIMIT = 4000
ATTACHMENT_LIMIT = 4
PREVIEW_LIMIT = 3
HISTORY_PAGE = 40
CHANGES_PAGE = 100

RATE_MESSAGES = 10
RATE_WINDOW = timedelta(seconds=10)

_FILE_GONE = "A file of this message is no longer there. Attach it again."


@dataclass(frozen=True, slots=True)
class Page:
    """Messages in order, and whether there are more beyond."""

    messages: list[Message]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed in a room after a version.

    ``version`` is what the client has seen once it has taken the messages. Where there
    was too much, ``is_reset`` tells it to load the room afresh.
    """

    messages: list[Message]
    version: int
    is_reset: bool = False


def post(
    author: User,
    room: Room,
    text: str,
    *,
    nonce: uuid.UUID | None = None,
    attachment_ids: Sequence[uuid.UUID] = (),
) -> Message:
    """Say something in a room; the same nonce a second time returns the first message.

    Raises Forbidden, TooMany (rate limit of the user) or Invalid.
    """
    message = Message(room=room, author=author, text=text, nonce=nonce or uuid.uuid4())
    try:
        _post_new(message, attachment_ids)
    except (IntegrityError, Refused):
        # A repetition fails by its nonce, or before that by its rate or by its files,
        # which are sent already. Asked only now: repetitions are rare.
        sent = Message.objects.filter(author=author, nonce=message.nonce).first()
        if sent is None:
            raise
        return sent
    return message


@transaction.atomic
def edit(editor: User, message: Message, text: str) -> Message:
    """Change a message's text. People named for the first time are notified."""
    if not permissions.can_edit(editor, message):
        raise Forbidden("Only the author can edit a message.")
    version = next_version(message.room_id)
    message.refresh_from_db()
    if message.deleted_at is not None:
        raise Invalid("The message is deleted.")
    text = _checked_text(text, required=not message.attachments.exists())
    if text == message.text:
        transaction.set_rollback(True)
        return message
    message.text = text
    message.edited_at = timezone.now()
    message.version = version
    message.save(update_fields=["text", "edited_at", "version"])
    links_kept = [preview.pk for preview in _find_links(message)]
    message.previews.exclude(pk__in=links_kept).delete()
    # Before those no longer named are dropped: who was named knows already.
    message.mentions.set(_mention(message))
    events.announce_change(message.pk)
    return message


@transaction.atomic
def delete(actor: User, message: Message) -> Message:
    """Delete a message: what it said and carried is gone, its place stays."""
    if not permissions.can_delete(actor, message):
        raise Forbidden("You cannot delete this message.")
    version = next_version(message.room_id)
    message.refresh_from_db()
    if message.deleted_at is not None:
        transaction.set_rollback(True)
        return message
    message.text = ""
    message.deleted_at = timezone.now()
    message.version = version
    message.save(update_fields=["text", "deleted_at", "version"])
    message.mentions.clear()
    message.previews.all().delete()
    for attachment in message.attachments.all():
        attachment.delete()
    events.announce_change(message.pk)
    return message


@transaction.atomic
def touch(message_id: int) -> None:
    """Send a message out again because something of it was completed."""
    message = Message.objects.filter(pk=message_id).first()
    if message is None:
        return
    version = next_version(message.room_id)
    Message.objects.filter(pk=message_id).update(version=version)
    events.announce_change(message_id)


def history(room: Room, before: int | None = None) -> Page:
    """Return the page of messages before a position, by default the latest."""
    messages = room.messages.order_by("-position")
    if before is not None:
        messages = messages.filter(position__lt=before)
    found = list(events.with_details(messages)[: HISTORY_PAGE + 1])
    page = found[:HISTORY_PAGE]
    return Page(page[::-1], has_more=len(found) > HISTORY_PAGE)


def changes_since(room: Room, version: int) -> Changes:
    """Return what changed after a version, oldest change first."""
    # The room is read before its messages: a change that commits between the two then
    # is in the list and comes as an event too, which the client drops as seen.
    current = Room.objects.values_list("version", flat=True).get(pk=room.pk)
    changed = room.messages.filter(version__gt=version).order_by("version")
    messages = list(events.with_details(changed)[: CHANGES_PAGE + 1])
    if len(messages) > CHANGES_PAGE or version > current:
        return Changes([], current, is_reset=True)
    last = messages[-1].version if messages else current
    return Changes(messages, max(current, last))


def find(room: Room, message_id: int) -> Message:
    """Return a message of the room; raise Invalid where there is none."""
    message = room.messages.select_related("room").filter(pk=message_id).first()
    if message is None:
        raise Invalid("There is no such message here.")
    return message


def _post_new(message: Message, attachment_ids: Sequence[uuid.UUID]) -> None:
    # What can be done before and after the transaction is: it holds the room's lock,
    # and in SQLite that of the whole database.
    uploads = _own_uploads(message, attachment_ids)
    message.text = _checked_text(message.text, required=not uploads)
    _check_rate(message.author)
    _save(message, uploads)
    events.announce_new(message)


@writing()
def _save(message: Message, uploads: list[Attachment]) -> None:
    room = advance(message.room_id)
    if not permissions.can_post(message.author, room):
        raise Forbidden("You cannot write in this room.")
    message.room = room
    message.position = message.version = room.version
    message.save(force_insert=True)
    message.files = _attach(message, uploads)
    message.links = _find_links(message)
    message.named = _mention(message)
    statements.mark_read(room.pk, message.author_id, message.position)


def _checked_text(text: str, *, required: bool) -> str:
    text = text.strip()
    if required and not text:
        raise Invalid("Write something first.")
    if len(text) > TEXT_LIMIT:
        raise Invalid(f"A message has at most {TEXT_LIMIT} characters.")
    return text


def _check_rate(author: User) -> None:
    # Counted in the database, so the limit holds over all tabs and processes.
    since = timezone.now() - RATE_WINDOW
    if statements.count_messages(author.pk, since) >= RATE_MESSAGES:
        raise TooMany("You are writing too fast. Wait a few seconds.")


def _own_uploads(message: Message, ids: Sequence[uuid.UUID]) -> list[Attachment]:
    """Return the files, if they all are unsent uploads of the author in this room."""
    wanted = set(ids)
    if not wanted:
        return []
    if len(wanted) > ATTACHMENT_LIMIT:
        raise Invalid(f"A message carries at most {ATTACHMENT_LIMIT} files.")
    found = Attachment.objects.filter(
        pk__in=wanted, uploader=message.author, room=message.room_id, message=None
    )
    if len(found) != len(wanted):
        raise Invalid(_FILE_GONE)
    return list(found)


def _attach(message: Message, uploads: list[Attachment]) -> list[Attachment]:
    """Give the uploads to the message; return them as the worker left them."""
    if not uploads:
        return []
    ids = [upload.pk for upload in uploads]
    unsent = Attachment.objects.filter(pk__in=ids, message=None)
    # Another message may have taken one since it was looked up.
    if unsent.update(message=message) != len(ids):
        raise Invalid(_FILE_GONE)
    return list(message.attachments.all())


def _find_links(message: Message) -> list[LinkPreview]:
    """Note what the text links to, and have new links' titles found."""
    urls = [url for url in links(message.text) if len(url) <= 500][:PREVIEW_LIMIT]
    previews = []
    for url in urls:
        preview, is_new = LinkPreview.objects.get_or_create(message=message, url=url)
        previews.append(preview)
        if is_new:
            jobs.enqueue("media", {"type": "preview.title", "id": preview.pk})
    return previews


def _mention(message: Message) -> list[User]:
    """Note whom the text names; notify those whom it did not name before."""
    named = _named_users(message)
    if not named:
        return []
    before = set(message.mentions.values_list("pk", flat=True))
    message.mentions.add(*named)
    for user in named:
        if user.pk not in {*before, message.author_id}:
            _notify_named(user, message)
    return named


def _named_users(message: Message) -> list[User]:
    names = mentioned_names(message.text)
    if not names:
        return []
    named = User.objects.filter(username__in=names, is_active=True)
    if not message.room.is_public:
        named = named.filter(memberships__room=message.room)
    return list(named)


def _notify_named(user: User, message: Message) -> None:
    url = f"{message.room.get_absolute_url()}#message-{message.pk}"
    # Edits have no rate limit: a name that comes and goes would ring each time.
    if message.edited_at is not None and notifications.has_been_told(
        user, kind="mention", url=url
    ):
        return
    notifications.notify(
        user,
        kind="mention",
        text=f"{message.author} mentioned you in {message.room}",
        url=url,
    )
