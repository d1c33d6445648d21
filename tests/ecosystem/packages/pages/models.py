"""A page that tells its user, of the runs with Wagtail."""

from __future__ import annotations

from wagtail.models import Page


class WhoPage(Page):
    template = "who.html"
