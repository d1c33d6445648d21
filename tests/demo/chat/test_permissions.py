"""What each kind of visitor gets in each kind of room, over HTTP and WebSocket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from demo_project.chat.models import Attachment, Membership, Message, Room
from demo_project.chat.services import attachments, messages
from tests.demo.chat.test_pictures import claim_size

# Visitor and room -> status of reading, of posting by the plain form, of an upload, and
# whether the WebSocket opens. 302 leads to the room after a post, to the login before.
CASES = [
    ("guest", "lobby", 200, 302, 403, True),
    ("guest", "vault", 404, 302, 404, False),
    ("guest", "dm-1", 404, 302, 404, False),
    ("stranger", "lobby", 200, 302, 201, True),
    ("stranger", "vault", 404, 404, 404, False),
    ("stranger", "dm-1", 404, 404, 404, False),
    ("staff", "vault", 404, 404, 404, False),
    ("staff", "dm-1", 404, 404, 404, False),
    ("former", "vault", 404, 404, 404, False),
    ("inactive", "vault", 404, 302, 404, False),
    ("ana", "vault", 200, 302, 201, True),
    ("ana", "dm-1", 200, 302, 201, True),
]
POSTED = {("stranger", "lobby"), ("ana", "vault"), ("ana", "dm-1")}
IDS = [f"{case[0]} in {case[1]}" for case in CASES]


@pytest.fixture
def visitors(ana: User, lobby: Room, vault: Room, whisper: Room) -> dict[str, Any]:
    former = User.objects.create_user("former")
    Membership.objects.create(room=vault, user=former).delete()
    inactive = User.objects.create_user("inactive")
    Membership.objects.create(room=vault, user=inactive)
    return {
        "guest": None,
        "stranger": User.objects.create_user("stranger"),
        "staff": User.objects.create_superuser("staff"),
        "former": former,
        "inactive": inactive,
        "ana": ana,
    }


def client_of(user: User | None) -> Client:
    client = Client()
    if user is not None:
        client.force_login(user)
        if user.username == "inactive":
            user.is_active = False
            user.save()
    return client


@pytest.mark.parametrize(
    ("who", "slug", "read", "post", "upload", "opens"), CASES, ids=IDS
)
def test_http(
    visitors: dict[str, Any],
    who: str,
    slug: str,
    read: int,
    post: int,
    upload: int,
    opens: bool,
) -> None:
    client = client_of(visitors[who])
    file = SimpleUploadedFile("note.txt", b"text")

    assert client.get(f"/rooms/{slug}/").status_code == read
    assert client.get(f"/rooms/{slug}/messages/").status_code == read
    assert client.post(f"/rooms/{slug}/post/", {"text": "hi"}).status_code == post
    response = client.post(f"/rooms/{slug}/attachments/", {"file": file})
    assert response.status_code == upload
    assert Message.objects.exists() is ((who, slug) in POSTED)


@pytest.mark.parametrize(
    ("who", "slug", "read", "post", "upload", "opens"), CASES, ids=IDS
)
def test_websocket(
    visitors: dict[str, Any],
    run: Callable[..., Any],
    socket: Callable[..., Any],
    who: str,
    slug: str,
    read: int,
    post: int,
    upload: int,
    opens: bool,
) -> None:
    user = visitors[who]
    client_of(user)
    client = socket(f"/ws/rooms/{slug}/", user)

    async def scenario() -> bool:
        opened: bool = await client.open()
        await client.disconnect()
        return opened

    assert run(scenario) is opens


@pytest.mark.parametrize("who", ["guest", "stranger", "staff", "former"])
def test_files_of_a_private_room_are_not_found_by_outsiders(
    visitors: dict[str, Any], ana: User, vault: Room, who: str
) -> None:
    note = SimpleUploadedFile("note.txt", b"secret")
    stored = attachments.receive(ana, vault, note)
    messages.post(ana, vault, "", attachment_ids=[stored.pk])
    url = f"/attachments/{stored.pk}/note.txt"

    assert client_of(visitors[who]).get(url).status_code == 404
    assert client_of(ana).get(url).getvalue() == b"secret"


def test_unsent_file_is_its_senders_alone(
    visitors: dict[str, Any], ana: User, lobby: Room
) -> None:
    stored = attachments.receive(ana, lobby, SimpleUploadedFile("n.txt", b"draft"))
    url = f"/attachments/{stored.pk}/n.txt"

    assert client_of(visitors["stranger"]).get(url).status_code == 404
    assert client_of(ana).get(url).getvalue() == b"draft"


def test_text_file_is_downloaded_and_never_run(ana: User, lobby: Room) -> None:
    page = b"<script>alert(1)</script>"
    stored = attachments.receive(ana, lobby, SimpleUploadedFile("a.html", page))
    response = client_of(ana).get(f"/attachments/{stored.pk}/a.html")

    assert response.getvalue() == page
    assert response["Content-Type"] == "text/plain"
    assert response["Content-Disposition"].startswith("attachment")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]


def test_upload_over_the_limit_is_stopped_on_its_way(
    ana: User, lobby: Room, settings: Any
) -> None:
    settings.DEMO_UPLOAD_LIMIT = 100_000
    large = SimpleUploadedFile("large.txt", b"x" * 300_000)
    response = client_of(ana).post("/rooms/lobby/attachments/", {"file": large})

    assert response.status_code == 400
    assert "at most" in response.json()["detail"]
    assert not Attachment.objects.exists()


@pytest.mark.parametrize("path", ["", "thumbnail/"], ids=["file", "thumbnail"])
def test_file_that_is_gone_from_the_disk_is_not_found(
    ana: User, lobby: Room, path: str
) -> None:
    stored = attachments.receive(ana, lobby, SimpleUploadedFile("n.txt", b"text"))
    Attachment.objects.update(thumbnail="thumbnails/none.webp")
    stored.file.storage.delete(stored.file.name or "")
    client = client_of(ana)

    assert client.get(f"/attachments/{stored.pk}/{path or 'n.txt'}").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/rooms/lobby/", "/rooms/lobby/messages/", "/people/"]
)
def test_head_is_answered_like_get(ana: User, lobby: Room, path: str) -> None:
    client = client_of(ana)
    head = client.head(path)

    assert head.status_code == client.get(path).status_code == 200
    assert head.content == b""


def test_unsent_picture_that_claims_to_be_huge_is_refused_politely(
    ana: User, lobby: Room
) -> None:
    huge = SimpleUploadedFile("huge.png", claim_size(60_000, 60_000))
    answer = client_of(ana).post("/rooms/lobby/attachments/", {"file": huge})

    assert answer.status_code == 400
    assert answer.json() == {"detail": "The picture has too many pixels."}
