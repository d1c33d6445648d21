"""Taking files in."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from demo_project.chat import pictures
from demo_project.chat.models import Attachment, Room
from demo_project.chat.services import attachments, messages
from demo_project.realtime.errors import Forbidden, Invalid, TooMany


def picture(name: str = "PNG", size: tuple[int, int] = (20, 10)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, name)
    return out.getvalue()


def upload(content: bytes, name: str = "file.png") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, content, "image/png")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (picture("PNG"), "image/png"),
        (picture("JPEG"), "image/jpeg"),
        (picture("GIF"), "image/gif"),
        (picture("WEBP"), "image/webp"),
        (b"%PDF-1.7 ...", "application/pdf"),
        ("Grüße".encode(), "text/plain"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text/plain"),
        (b"<html><script>alert(1)</script>", "text/plain"),
    ],
    ids=["png", "jpeg", "gif", "webp", "pdf", "text", "svg", "html"],
)
def test_type_is_that_of_the_content(content: bytes, expected: str) -> None:
    assert attachments.detect_type(upload(content)) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"MZ\x90\x00\x03", b"\xff\xfe\x00x", picture("PNG")[:40], picture("BMP")],
    ids=["empty", "program", "binary", "broken picture", "other picture"],
)
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(Invalid):
        attachments.detect_type(upload(content))


def test_picture_with_too_many_pixels_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pictures, "PIXEL_LIMIT", 100)

    with pytest.raises(Invalid, match="pixels"):
        attachments.detect_type(upload(picture(size=(11, 10))))


@pytest.mark.parametrize("name", ["?", "…", "(^^)", " . "])
def test_name_of_which_nothing_can_be_shown_is_replaced(
    ana: User, lobby: Room, name: str
) -> None:
    file = upload(b"text")
    # As the parser of forms lets it through.
    file._name = name  # type: ignore[attr-defined]

    assert attachments.receive(ana, lobby, file).name == "file"


def test_file_over_the_limit_is_refused(ana: User, lobby: Room, settings: Any) -> None:
    settings.DEMO_UPLOAD_LIMIT = 10

    with pytest.raises(Invalid, match="at most"):
        attachments.receive(ana, lobby, upload(b"eleven byte"))


def test_senders_name_does_not_reach_the_disk(ana: User, lobby: Room) -> None:
    stored = attachments.receive(ana, lobby, upload(picture(), "../../up & away.png"))

    assert stored.name == "up__away.png"
    assert stored.file.name == f"attachments/{stored.pk.hex[:2]}/{stored.pk.hex}"


def test_outsider_uploads_nothing(ben: User, vault: Room) -> None:
    with pytest.raises(Forbidden):
        attachments.receive(ben, vault, upload(picture()))


def test_guest_uploads_nothing(lobby: Room) -> None:
    guest: Any = AnonymousUser()

    with pytest.raises(Forbidden):
        attachments.receive(guest, lobby, upload(picture()))


def test_uploads_have_a_rate_limit(
    ana: User, lobby: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The slowest machine uploads too fast in it.
    monkeypatch.setattr(attachments, "RATE_WINDOW", timedelta(hours=1))
    for _ in range(attachments.RATE_UPLOADS):
        attachments.receive(ana, lobby, upload(b"text"))

    with pytest.raises(TooMany):
        attachments.receive(ana, lobby, upload(b"text"))


def test_file_of_somebody_else_is_not_sent(ana: User, ben: User, lobby: Room) -> None:
    stored = attachments.receive(ana, lobby, upload(picture()))

    with pytest.raises(Invalid, match="Attach it again"):
        messages.post(ben, lobby, "look", attachment_ids=[stored.pk])


def test_file_is_sent_once(ana: User, lobby: Room) -> None:
    stored = attachments.receive(ana, lobby, upload(picture()))
    messages.post(ana, lobby, "", attachment_ids=[stored.pk])

    with pytest.raises(Invalid):
        messages.post(ana, lobby, "again", attachment_ids=[stored.pk])


def test_deleting_the_message_deletes_its_files(ana: User, lobby: Room) -> None:
    stored = attachments.receive(ana, lobby, upload(picture()))
    message = messages.post(ana, lobby, "", attachment_ids=[stored.pk])
    messages.delete(ana, message)

    assert not Attachment.objects.exists()
    assert not stored.file.storage.exists(stored.file.name or "")
