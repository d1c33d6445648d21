"""The status page."""

from __future__ import annotations

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


@staff_member_required
def index(request: HttpRequest) -> HttpResponse:
    """Show the charts; a WebSocket fills them."""
    return render(request, "status/index.html", {"has_tasks": settings.DEMO_TASKS})
