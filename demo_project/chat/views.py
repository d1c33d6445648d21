"""The chat's pages, and what its scripts ask for over HTTP."""

from __future__ import annotations

import uuid
from typing import Any

from django.conf import settings
from django.contrib import messages as flash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.files.base import File
from django.db.models.fields.files import FieldFile
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    JsonResponse,
)
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from demo_project.chat import events, forms, permissions
from demo_project.chat.models import Attachment, Invitation, Membership, Room
from demo_project.chat.presence import people_in
from demo_project.chat.services import attachments, messages, reading, rooms
from demo_project.realtime.errors import Invalid, Refused

# A file that somebody sent is shown or downloaded, never run as a page of this site.
_FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """Show the rooms that the viewer may read, and open invitations."""
    context = {
        "invitations": _invitations(request),
        "lately": reading.lately(request.user),
    }
    return render(request, "chat/home.html", context)


@require_safe
def room(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a room with its latest messages, or those before a position."""
    room = _readable_room(request, slug)
    form = forms.HistoryForm(request.GET)
    before = form.cleaned_data["before"] if form.is_valid() else None
    # The version is read with the room, before the page: a message that comes in
    # between is sent again by the socket and replaces itself.
    page = messages.history(room, before)
    context = {
        "room": room,
        "title": _title(request, room),
        "page": page,
        "older": page.messages[0].position if page.has_more else None,
        "can_post": permissions.can_post(request.user, room),
        "is_owner": permissions.is_owner(request.user, room),
        "membership": _membership(request, room),
        "members": _members(room),
        "present": people_in(room.pk),
        "invite_form": forms.InviteForm(),
        "upload_limit": settings.DEMO_UPLOAD_LIMIT,
        "text_limit": messages.TEXT_LIMIT,
    }
    return render(request, "chat/room.html", context)


@require_safe
def history(request: HttpRequest, slug: str) -> JsonResponse:
    """Return the page of messages before a position, rendered.

    A client whose socket is refused also asks here why: 404 says that the room is no
    longer there for it.
    """
    room = _readable_room(request, slug)
    form = forms.HistoryForm(request.GET)
    if not form.is_valid():
        return JsonResponse({"detail": "before must be a position."}, status=400)
    page = messages.history(room, form.cleaned_data["before"])
    return JsonResponse(
        {
            "messages": [events.payload(message) for message in page.messages],
            "more": page.has_more,
            "version": room.version,
        }
    )


@login_required
@require_POST
def post(request: HttpRequest, slug: str) -> HttpResponse:
    """Send a message from the plain form, for browsers without scripts."""
    room = _readable_room(request, slug)
    form = forms.PlainMessageForm(request.POST)
    if form.is_valid():
        try:
            messages.post(_user(request), room, form.cleaned_data["text"])
        except Refused as refusal:
            flash.error(request, refusal.detail)
    return redirect(room)


@require_POST
def upload(request: HttpRequest, slug: str) -> JsonResponse:
    """Take a file for a message that is yet to be sent; answer with its id."""
    room = _readable_room(request, slug)
    if not permissions.can_post(request.user, room):
        return JsonResponse({"detail": "Sign in to send files."}, status=403)
    form = forms.UploadForm(request.POST, request.FILES)
    try:
        if not form.is_valid():
            raise Invalid(_upload_problem(request))
        attachment = attachments.receive(
            _user(request), room, form.cleaned_data["file"]
        )
    except Refused as refusal:
        return JsonResponse({"detail": refusal.detail}, status=refusal.status)
    return JsonResponse(
        {"id": str(attachment.pk), "name": attachment.name, "size": attachment.size},
        status=201,
    )


@require_safe
def attachment(
    request: HttpRequest, attachment_id: uuid.UUID, name: str = ""
) -> HttpResponseBase:
    """Serve a file to those who may read its room; before it is sent, to its sender."""
    attachment = _readable_attachment(request, attachment_id)
    response = FileResponse(
        _open_stored(attachment.file),
        as_attachment=not attachment.is_image,
        filename=attachment.name,
        content_type=attachment.content_type,
    )
    return _private_file(response)


@require_safe
def thumbnail(request: HttpRequest, attachment_id: uuid.UUID) -> HttpResponseBase:
    """Serve a picture's thumbnail, as ``attachment`` does the picture."""
    attachment = _readable_attachment(request, attachment_id)
    if not attachment.thumbnail:
        raise Http404("There is no thumbnail.")
    file = _open_stored(attachment.thumbnail)
    response = FileResponse(file, content_type="image/webp")
    return _private_file(response)


@login_required
def create(request: HttpRequest) -> HttpResponse:
    """Make a room."""
    form = forms.RoomForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            return redirect(rooms.create(_user(request), **form.cleaned_data))
        except Refused as refusal:
            flash.error(request, refusal.detail)
    return render(request, "chat/create.html", {"form": form})


@login_required
@require_safe
def people(request: HttpRequest) -> HttpResponse:
    """Show everybody, to start a direct conversation with."""
    others = User.objects.filter(is_active=True).exclude(pk=_user(request).pk)
    return render(
        request, "chat/people.html", {"people": others.order_by("username")[:200]}
    )


@login_required
@require_POST
def direct(request: HttpRequest, user_id: int) -> HttpResponse:
    """Open the direct conversation with a person."""
    other = get_object_or_404(User, pk=user_id, is_active=True)
    try:
        return redirect(rooms.direct(_user(request), other))
    except Refused as refusal:
        flash.error(request, refusal.detail)
        return redirect("chat:people")


@login_required
@require_POST
def invite(request: HttpRequest, slug: str) -> HttpResponse:
    """Invite a person into the room."""
    room = _readable_room(request, slug)
    form = forms.InviteForm(request.POST)
    if form.is_valid():
        name = form.cleaned_data["username"]
        try:
            rooms.invite(_user(request), room, name)
            flash.success(request, f"Invited {name}.")
        except Refused as refusal:
            flash.error(request, refusal.detail)
    return redirect(room)


@login_required
@require_POST
def answer(request: HttpRequest, invitation_id: int) -> HttpResponse:
    """Accept or decline one's own invitation."""
    own = Invitation.objects.select_related("room", "user")
    invitation = get_object_or_404(own, pk=invitation_id, user=request.user)
    if "accept" in request.POST:
        return redirect(rooms.accept(invitation))
    rooms.decline(invitation)
    return redirect("chat:home")


@login_required
@require_POST
def leave(request: HttpRequest, slug: str) -> HttpResponse:
    """Leave the room."""
    room = _readable_room(request, slug)
    try:
        rooms.leave(_user(request), room)
    except Refused as refusal:
        flash.error(request, refusal.detail)
        return redirect(room)
    return redirect("chat:home")


@login_required
@require_POST
def remove(request: HttpRequest, slug: str, user_id: int) -> HttpResponse:
    """Take a person out of the room."""
    room = _readable_room(request, slug)
    try:
        rooms.remove(_user(request), room, get_object_or_404(User, pk=user_id))
    except Refused as refusal:
        flash.error(request, refusal.detail)
    return redirect(room)


def _readable_room(request: HttpRequest, slug: str) -> Room:
    """Return the room, 404 to those who may not read it, as if it did not exist."""
    return get_object_or_404(permissions.readable_rooms(request.user), slug=slug)


def _readable_attachment(request: HttpRequest, attachment_id: uuid.UUID) -> Attachment:
    readable = permissions.readable_rooms(request.user)
    found = get_object_or_404(Attachment, pk=attachment_id, room__in=readable)
    if found.message_id is None and found.uploader_id != request.user.pk:
        raise Http404("It has not been sent.")
    return found


def _open_stored(file: FieldFile) -> File:
    """Open a file; a row that outlived it, as in a restored database, is 404."""
    try:
        return file.open("rb")
    except FileNotFoundError as error:
        raise Http404("The file is gone.") from error


def _private_file(response: FileResponse) -> FileResponse:
    response["Content-Security-Policy"] = _FILE_POLICY
    response["Cache-Control"] = "private, max-age=86400"
    return response


def _upload_problem(request: HttpRequest) -> str:
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isdigit() and int(length) > settings.DEMO_UPLOAD_LIMIT:
        return attachments.too_large()
    return "Choose a file."


def _user(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the views that ask require a sign-in
    return request.user


def _invitations(request: HttpRequest) -> Any:
    if not request.user.is_authenticated:
        return []
    own = Invitation.objects.filter(user=request.user)
    return own.select_related("room", "invited_by")


def _title(request: HttpRequest, room: Room) -> str:
    if room.kind == Room.Kind.DIRECT and isinstance(request.user, User):
        titles = reading.direct_titles(request.user, [room])
        return titles.get(room.pk, room.name)
    return room.name


def _membership(request: HttpRequest, room: Room) -> Membership | None:
    if not isinstance(request.user, User):
        return None
    return room.memberships.filter(user=request.user).first()


def _members(room: Room) -> list[Membership]:
    if room.is_public:
        return []
    return list(room.memberships.select_related("user").order_by("user__username"))
