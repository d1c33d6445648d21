"""The list of notifications, and their stream of server-sent events."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST, require_safe

from demo_project.notifications import services
from demo_project.notifications.forms import MarkReadForm
from demo_project.notifications.stream import events_for


@login_required
@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """Show the newest notifications; works without scripts."""
    assert isinstance(request.user, User)
    notes = services.latest(request.user)
    context = {
        "notes": notes,
        "newest": services.newest_serial(request.user),
        "unread": services.unread_count(request.user),
    }
    return render(request, "notifications/index.html", context)


@login_required
@require_POST
def mark_read(request: HttpRequest) -> HttpResponseRedirect:
    """Mark as read what the page showed."""
    form = MarkReadForm(request.POST)
    if form.is_valid() and isinstance(request.user, User):
        services.mark_read(request.user, form.cleaned_data["up_to"])
    return redirect("notifications:index")


@require_GET
async def stream(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Stream the user's notifications as server-sent events.

    Resumes after the Last-Event-ID that a browser sends when it reconnects.
    """
    user = await request.auser()
    if not isinstance(user, User):
        return HttpResponse("Sign in first.", status=401, content_type="text/plain")
    last = request.headers.get("Last-Event-ID", "")
    start = int(last) if last.isascii() and last.isdigit() and len(last) < 19 else None
    response = StreamingHttpResponse(
        events_for(user, request.session.session_key, start),
        content_type="text/event-stream",
    )
    response["Cache-Control"] = "no-cache"
    # Asks nginx, and those that follow it, to pass each event on at once.
    response["X-Accel-Buffering"] = "no"
    return response
