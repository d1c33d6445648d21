"""Rooms, who is in them, and what was said.

Each room counts its changes: ``Room.version`` grows by one with every message, edit and
deletion, and the changed message carries that number. Versions are given out under a
lock on the room's row, so they commit in order and without a gap. A client that has
seen version 41 can ask for what came after it, and one that gets 43 after 41 knows
that it missed something.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.urls import reverse

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class Room(models.Model):
    """A conversation."""

    class Kind(models.TextChoices):
        PUBLIC = "public", "Public"
        PRIVATE = "private", "Private"
        DIRECT = "direct", "Direct messages"

    name = models.CharField(max_length=80)
    slug = models.SlugField(max_length=80, unique=True)
    topic = models.CharField(max_length=200, blank=True)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.PUBLIC)
    direct_key = models.CharField(
        max_length=50,
        null=True,
        blank=True,
        unique=True,
        editable=False,
        help_text="Ids of the two people of a direct conversation; keeps it single.",
    )
    version = models.PositiveBigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    members: models.ManyToManyField = models.ManyToManyField(
        settings.AUTH_USER_MODEL, through="Membership", related_name="rooms"
    )

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_public(self) -> bool:
        return self.kind == self.Kind.PUBLIC

    def get_absolute_url(self) -> str:
        return reverse("chat:room", args=[self.slug])


class Membership(models.Model):
    """A person in a room, and how far they have read.

    In a public room it is made by reading; it then only serves the unread count.
    """

    class Role(models.TextChoices):
        OWNER = "owner", "Owner"
        MEMBER = "member", "Member"

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    read_position = models.PositiveBigIntegerField(default=0)
    joined_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["room", "user"], name="one_membership")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.room}"


class Invitation(models.Model):
    """An open invitation into a private room."""

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="invitations")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="invitations"
    )
    invited_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["room", "user"], name="one_invitation")
        ]

    def __str__(self) -> str:
        return f"{self.user} into {self.room}"


class Message(models.Model):
    """Something said in a room.

    ``position`` is the room's version when it was said and never changes: it is the
    order of the conversation. ``version`` is the room's version of its last change.
    ``nonce`` is made by the author's client, so a message that is sent again after a
    lost connection is recognised and not doubled.
    """

    # What the text names, carries and links to, once ``events.with_details`` or the
    # service has loaded it: these lists cost no query, unlike the relations below.
    named: list[User]
    files: list[Attachment]
    links: list[LinkPreview]

    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="messages"
    )
    position = models.PositiveBigIntegerField()
    version = models.PositiveBigIntegerField()
    nonce = models.UUIDField(default=uuid.uuid4)
    text = models.TextField(blank=True)
    mentions: models.ManyToManyField = models.ManyToManyField(
        settings.AUTH_USER_MODEL, blank=True, related_name="mentioned_in"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    edited_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["room", "position"], name="one_position"),
            models.UniqueConstraint(fields=["room", "version"], name="one_version"),
            models.UniqueConstraint(fields=["author", "nonce"], name="one_nonce"),
        ]
        indexes = [models.Index(fields=["author", "created_at"])]

    def __str__(self) -> str:
        return f"{self.author}: {self.text[:40]}"


class Processing(models.TextChoices):
    """How far the background work on something has come."""

    PENDING = "pending", "Pending"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


def attachment_path(attachment: Attachment, filename: str) -> str:
    """Name the stored file after the id: the sender's name never touches the disk."""
    return f"attachments/{attachment.id.hex[:2]}/{attachment.id.hex}"


def thumbnail_path(attachment: Attachment, filename: str) -> str:
    """Name the stored thumbnail after the id."""
    return f"thumbnails/{attachment.id.hex[:2]}/{attachment.id.hex}.webp"


class Attachment(models.Model):
    """A file in a room; without a message until that is sent."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="attachments")
    uploader = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="attachments"
    )
    message = models.ForeignKey(
        Message,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="attachments",
    )
    file = models.FileField(upload_to=attachment_path)
    name = models.CharField(max_length=120)
    content_type = models.CharField(max_length=60)
    size = models.PositiveIntegerField()
    state = models.CharField(
        max_length=10, choices=Processing, default=Processing.PENDING
    )
    thumbnail = models.FileField(upload_to=thumbnail_path, blank=True)
    width = models.PositiveIntegerField(null=True, blank=True)
    height = models.PositiveIntegerField(null=True, blank=True)
    title = models.CharField(max_length=120, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_image(self) -> bool:
        return self.content_type.startswith("image/")


class LinkPreview(models.Model):
    """The title of a page of this site that a message links to."""

    message = models.ForeignKey(
        Message, on_delete=models.CASCADE, related_name="previews"
    )
    url = models.CharField(max_length=500)
    title = models.CharField(max_length=120, blank=True)
    state = models.CharField(
        max_length=10, choices=Processing, default=Processing.PENDING
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["message", "url"], name="one_preview")
        ]

    def __str__(self) -> str:
        return self.title or self.url
