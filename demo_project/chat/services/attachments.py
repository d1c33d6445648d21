"""Taking files in: their size, and their type by content and never by claim."""

from __future__ import annotations

from typing import IO

from django.conf import settings
from django.contrib.auth.models import User
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils import timezone
from django.utils.text import get_valid_filename

from demo_project.background.media import enqueue_attachment
from demo_project.chat import permissions, pictures
from demo_project.chat.models import Attachment, Room
from demo_project.chat.services.messages import RATE_WINDOW
from demo_project.realtime.errors import Forbidden, Invalid, TooMany

RATE_UPLOADS = 8


@transaction.atomic
def receive(uploader: User, room: Room, upload: UploadedFile) -> Attachment:
    """Store a file for a message that is yet to be sent.

    Raises Forbidden, TooMany, or Invalid for a file that is too large or of no allowed
    type.
    """
    if not permissions.can_post(uploader, room):
        raise Forbidden("You cannot write in this room.")
    _check_rate(uploader)
    size = upload.size or 0
    if size > settings.DEMO_UPLOAD_LIMIT:
        raise Invalid(too_large())
    attachment = Attachment(
        room=room,
        uploader=uploader,
        name=_clean_name(upload.name or ""),
        content_type=detect_type(upload),
        size=size,
    )
    upload.seek(0)
    attachment.file.save(attachment.name, upload, save=False)
    attachment.save(force_insert=True)
    enqueue_attachment(attachment)
    return attachment


def too_large() -> str:
    """Say what the limit is."""
    return f"A file has at most {settings.DEMO_UPLOAD_LIMIT // (1024 * 1024)} MB."


def detect_type(upload: IO[bytes] | UploadedFile) -> str:
    """Return the media type that the content shows; raise Invalid for others."""
    upload.seek(0)
    start = upload.read(8192)
    if start.startswith(b"%PDF-"):
        return "application/pdf"
    if not start:
        raise Invalid("The file is empty.")
    image_type = _image_type(upload)
    if image_type is not None:
        return image_type
    if _is_text(upload):
        return "text/plain"
    raise Invalid("Only pictures, PDF and text files can be sent.")


def _clean_name(name: str) -> str:
    """Return what can be shown of a name; of some, like "?" or "…", nothing can."""
    try:
        return get_valid_filename(name)[-120:]
    except SuspiciousFileOperation:
        return "file"


def _image_type(upload: IO[bytes] | UploadedFile) -> str | None:
    try:
        return pictures.identify(upload)
    except pictures.TooManyPixels as error:
        raise Invalid("The picture has too many pixels.") from error
    except pictures.BadPicture:
        return None


def _is_text(upload: IO[bytes] | UploadedFile) -> bool:
    upload.seek(0)
    content = upload.read()
    if b"\x00" in content:
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_rate(uploader: User) -> None:
    since = timezone.now() - RATE_WINDOW
    recent = Attachment.objects.filter(uploader=uploader, created_at__gt=since)
    if recent.count() >= RATE_UPLOADS:
        raise TooMany("You are uploading too fast. Wait a few seconds.")
