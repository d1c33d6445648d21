"""Open WebSockets, as rows: presence that is right whichever process holds them."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models


class Connection(models.Model):
    """One open WebSocket and the topic that it shows.

    A row goes when its socket closes. ``seen_at`` is renewed by the client's pings, so
    the rows of a process that died run out by themselves.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    topic = models.CharField(max_length=60)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE
    )
    opened_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["opened_at"]
        indexes = [models.Index(fields=["topic", "seen_at"])]

    def __str__(self) -> str:
        return f"{self.user or 'guest'} on {self.topic}"
