"""Thumbnails and titles."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone
from PIL import Image

from demo_project.background import media
from demo_project.chat.models import Attachment, LinkPreview, Room
from demo_project.chat.services import attachments, messages


def stored(user: User, room: Room, content: bytes, name: str = "f") -> Attachment:
    return attachments.receive(user, room, SimpleUploadedFile(name, content))


def picture(size: tuple[int, int], **options: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "teal").save(out, "JPEG", **options)
    return out.getvalue()


def test_picture_gets_a_small_one(ana: User, lobby: Room) -> None:
    attachment = stored(ana, lobby, picture((2000, 1000)))
    media.process_attachment(str(attachment.pk))
    attachment.refresh_from_db()

    assert (attachment.width, attachment.height) == (640, 320)
    with attachment.thumbnail.open() as file, Image.open(file) as thumbnail:
        assert (thumbnail.format, thumbnail.size) == ("WEBP", (640, 320))


def test_thumbnail_is_turned_upright_and_has_no_camera_data(
    ana: User, lobby: Room
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "A camera"
    attachment = stored(ana, lobby, picture((200, 100), exif=exif))
    media.process_attachment(str(attachment.pk))
    attachment.refresh_from_db()

    with attachment.thumbnail.open() as file, Image.open(file) as thumbnail:
        assert thumbnail.size == (100, 200)
        assert not thumbnail.getexif()


def test_message_is_sent_again_when_its_picture_is_ready(
    ana: User, lobby: Room
) -> None:
    attachment = stored(ana, lobby, picture((20, 10)))
    message = messages.post(ana, lobby, "", attachment_ids=[attachment.pk])
    media.process_attachment(str(attachment.pk))
    media.process_attachment(str(attachment.pk))
    message.refresh_from_db()

    assert (message.position, message.version) == (1, 2)


def test_file_that_cannot_be_processed_is_given_up(ana: User, lobby: Room) -> None:
    attachment = stored(ana, lobby, picture((20, 10)))
    attachment.file.storage.delete(attachment.file.name or "")
    media.process_attachment(str(attachment.pk))
    attachment.refresh_from_db()

    assert attachment.state == "failed"


def test_picture_that_its_decoder_chokes_on_is_given_up(ana: User, lobby: Room) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "cam"
    # A height in letters: Pillow raises struct.error for it.
    content = picture((20, 10), exif=exif)
    content = content.replace(b"\x01\x0f\x00\x02", b"\x01\x01\x00\x02")
    attachment = stored(ana, lobby, content)
    media.process_attachment(str(attachment.pk))
    attachment.refresh_from_db()

    assert attachment.state == "failed"


def test_text_is_titled_by_its_first_line(ana: User, lobby: Room) -> None:
    attachment = stored(ana, lobby, b"\n\n# Shopping list\n- tea")
    media.process_attachment(str(attachment.pk))
    attachment.refresh_from_db()

    assert attachment.title == "Shopping list"


@pytest.mark.parametrize(
    ("url", "title"),
    [
        ("http://testserver/rooms/lobby/", "Lobby"),
        ("http://testserver/rooms/vault/", ""),
        ("http://testserver/rooms/nowhere/", ""),
        ("http://testserver/people/", ""),
        ("http://testserver/no/such/page", ""),
        ("http://elsewhere.example/rooms/lobby/", ""),
        ("http://169.254.169.254/rooms/lobby/", ""),
    ],
)
def test_only_links_to_what_everyone_here_may_see_get_a_title(
    lobby: Room, vault: Room, url: str, title: str
) -> None:
    assert media.local_title(url, lobby) == title


def test_private_room_is_titled_within_itself(vault: Room) -> None:
    assert media.local_title("http://testserver/rooms/vault/", vault) == "Vault"


def test_private_file_is_titled_within_its_room_alone(
    ana: User, lobby: Room, vault: Room
) -> None:
    attachment = stored(ana, vault, b"The plan", "plan.txt")
    messages.post(ana, vault, "", attachment_ids=[attachment.pk])
    media.process_attachment(str(attachment.pk))
    url = f"http://testserver/attachments/{attachment.pk}/plan.txt"

    assert media.local_title(url, vault) == "The plan"
    assert media.local_title(url, lobby) == ""


def test_title_shows_in_the_message(ana: User, lobby: Room) -> None:
    message = messages.post(ana, lobby, "come to http://testserver/rooms/lobby/ !")
    preview = LinkPreview.objects.get()
    media.find_preview_title(preview.pk)
    message.refresh_from_db()
    preview.refresh_from_db()

    assert (preview.title, preview.state) == ("Lobby", "done")
    assert message.version == 2


def test_upload_that_was_never_sent_is_dropped(ana: User, lobby: Room) -> None:
    attachment = stored(ana, lobby, b"draft")
    past = timezone.now() - media.UNSENT_AFTER - timedelta(minutes=1)
    Attachment.objects.update(created_at=past)
    media.requeue()

    assert not Attachment.objects.exists()
    assert not attachment.file.storage.exists(attachment.file.name or "")
