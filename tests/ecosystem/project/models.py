"""One model that the runs write."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Note(models.Model):
    text = models.CharField(max_length=100)

    locals().update(settings.PACKAGE.fields())
