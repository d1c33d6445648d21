"""What was tried lately, as rows: one limit for all processes."""

from __future__ import annotations

from django.db import models


class FailedSignIn(models.Model):
    """One try: a wrong password, a name that does not exist, or not yet known.

    Those of a person who then signs in are deleted.
    """

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


class SignUp(models.Model):
    """One account that was made from an address."""

    address = models.CharField(max_length=45)
    made_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["address", "made_at"])]

    def __str__(self) -> str:
        return f"an account from {self.address}"
