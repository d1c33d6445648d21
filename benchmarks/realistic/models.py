"""Articles, with their authors and all their versions, and comments on them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from simple_history.models import HistoricalRecords


class Article(models.Model):
    """What the pages and the API list."""

    title = models.CharField(max_length=100)
    text = models.TextField()
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    published = models.DateTimeField(auto_now_add=True, db_index=True)
    history = HistoricalRecords()

    class Meta:
        app_label = "realistic"
        ordering = ("-published",)


class Comment(models.Model):
    """What the form writes."""

    article = models.ForeignKey(Article, models.CASCADE)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=200)

    class Meta:
        app_label = "realistic"
