"""Notifications and the inbox that numbers them."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Inbox(models.Model):
    """One person's inbox.

    ``serial`` is the number of the newest notification, given out under a lock on this
    row: numbers of one inbox commit in order, so "all after 17" misses none.
    """

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        primary_key=True,
        on_delete=models.CASCADE,
        related_name="inbox",
    )
    serial = models.PositiveBigIntegerField(default=0)
    digest_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name_plural = "inboxes"

    def __str__(self) -> str:
        return f"Inbox of {self.user}"


class Notification(models.Model):
    """A note to one person."""

    class Kind(models.TextChoices):
        MENTION = "mention", "Mention"
        INVITATION = "invitation", "Invitation"
        NOTICE = "notice", "Notice"
        DIGEST = "digest", "Digest"

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="notifications"
    )
    serial = models.PositiveBigIntegerField(editable=False)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.NOTICE)
    text = models.CharField(max_length=300)
    url = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-serial"]
        constraints = [
            models.UniqueConstraint(fields=["user", "serial"], name="one_serial")
        ]

    def __str__(self) -> str:
        return self.text
