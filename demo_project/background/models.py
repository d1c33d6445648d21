"""When each periodic job is due, shared by all processes."""

from __future__ import annotations

from django.db import models


class Schedule(models.Model):
    """The next time of one periodic job."""

    name = models.CharField(max_length=40, primary_key=True)
    due_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
