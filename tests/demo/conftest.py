"""People, rooms and sockets for the demo's tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from asgiref.sync import async_to_sync
from asgiref.testing import ApplicationCommunicator
from channels.layers import channel_layers
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore

from demo_project.chat import consumers
from demo_project.chat.models import Membership, Room
from demo_project.routing import websocket_urlpatterns

T = TypeVar("T")

# These clients give up after a second, which a busy machine needs at times.
PATIENCE = 60
for _name in ("connect", "receive_from", "receive_json_from", "receive_output", "wait"):
    getattr(WebsocketCommunicator, _name).__defaults__ = (PATIENCE,)
ApplicationCommunicator.receive_output.__defaults__ = (PATIENCE,)
WebsocketCommunicator.disconnect.__defaults__ = (1000, PATIENCE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all: the channel layer of a demo without Redis opens a socket."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(autouse=True)
def database(transactional_db: None) -> None:
    """Real commits: what the demo sends, it sends after them."""


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"


@pytest.fixture(autouse=True)
def channel_layer(settings: Any) -> Iterator[None]:
    """A channel layer of one's own for each test, on whichever loop that uses."""
    channel_layers.backends.clear()
    yield
    channel_layers.backends.clear()


@pytest.fixture(autouse=True)
def unused_limits() -> None:
    """Users have the same numbers in each test."""
    consumers.edits.clear()


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Run a coroutine function; what it does in threads happens in the test's own.

    One thread, one database connection: asyncio.run() would query from another.
    """

    def run_in_test_thread(function: Callable[[], Awaitable[T]]) -> T:
        return async_to_sync(function)()

    return run_in_test_thread


@pytest.fixture
def ana() -> User:
    return User.objects.create_user("ana")


@pytest.fixture
def ben() -> User:
    return User.objects.create_user("ben")


@pytest.fixture
def lobby() -> Room:
    return Room.objects.create(name="Lobby", slug="lobby")


@pytest.fixture
def vault(ana: User) -> Room:
    """A private room of ana's."""
    room = Room.objects.create(name="Vault", slug="vault", kind=Room.Kind.PRIVATE)
    Membership.objects.create(room=room, user=ana, role=Membership.Role.OWNER)
    return room


@pytest.fixture
def whisper(ana: User) -> Room:
    """Direct messages of ana and a third person."""
    room = Room.objects.create(
        name="ana, eve", slug="dm-1", kind=Room.Kind.DIRECT, direct_key="1-2"
    )
    eve = User.objects.create_user("eve")
    Membership.objects.create(room=room, user=ana)
    Membership.objects.create(room=room, user=eve)
    return room


class Socket(WebsocketCommunicator):
    """A client of one of the site's WebSockets, signed in as somebody or nobody."""

    def __init__(self, path: str, user: User | AnonymousUser, session: Any) -> None:
        super().__init__(URLRouter(websocket_urlpatterns), path)
        self.scope["user"] = user
        self.scope["session"] = session

    async def open(self) -> bool:
        connected, _ = await self.connect()
        return bool(connected)

    async def frame(self, type: str) -> dict[str, Any]:
        """Return the next frame of a type; others before it are passed over."""
        while True:
            frame: dict[str, Any] = await self.receive_json_from(timeout=60)
            if frame["type"] == type:
                return frame

    async def close_code(self) -> int:
        """Return the code of the close; frames before it are passed over."""
        while True:
            message = await self.receive_output(timeout=60)
            if message["type"] == "websocket.close":
                code: int = message["code"]
                return code


@pytest.fixture
def socket() -> Callable[..., Socket]:
    """Give ``socket(path, user=None)``."""

    def make(path: str, user: User | None = None) -> Socket:
        session = SessionStore()
        if user is not None:
            session.create()
        return Socket(path, user or AnonymousUser(), session)

    return make
