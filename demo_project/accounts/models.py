"""Sign-ins that have failed lately, as rows: one limit for all processes."""

from __future__ import annotations

from django.db import models


class FailedSignIn(models.Model):
    """One wrong password, or a name that does not exist."""

    username = models.CharField(max_length=150)
    address = models.CharField(max_length=45)
    failed_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["username", "failed_at"]),
            models.Index(fields=["address", "failed_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.username} from {self.address}"
