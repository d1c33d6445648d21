"""Static files during development: served from disk, in parts, the rest passed on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from djserve.asgi.application import takes_websockets
from djserve.handlers.channels import refuse_websockets
from djserve.handlers.responses import PATHSEND
from djserve.handlers.static import StaticFilesHandler
from tests.handlers.conversation import Conversation

CONTENT = bytes(range(256)) * 4096


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b"the project"})


@pytest.fixture(autouse=True)
def path(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "film.webm"
    path.write_bytes(CONTENT)
    with override_settings(
        STATIC_URL="/static/",
        STATICFILES_DIRS=[tmp_path],
        STATICFILES_FINDERS=["django.contrib.staticfiles.finders.FileSystemFinder"],
        ROOT_URLCONF="no.such.urls",
        DEBUG=False,
    ):
        yield path


def ask(path: str, **options: Any) -> Conversation:
    client = Conversation(path, **options)
    client.run(StaticFilesHandler(application))
    return client


def test_file_is_sent_whole() -> None:
    client = ask("/static/film.webm")

    assert (client.status, client.content) == (200, CONTENT)


def test_file_is_not_collected_in_memory() -> None:
    sizes = [len(m.get("body", b"")) for m in ask("/static/film.webm").sent[1:]]

    assert max(sizes) <= StaticFilesHandler.chunk_size < len(CONTENT)


def test_part_of_a_file_is_sent() -> None:
    client = ask("/static/film.webm", headers=[(b"range", b"bytes=1000-2000")])

    assert (client.status, client.content) == (206, CONTENT[1000:2001])


def test_file_is_left_to_a_server_that_can_send_it(path: Path) -> None:
    client = ask("/static/film.webm", extensions={PATHSEND: {}})

    assert client.sent[1] == {"type": PATHSEND, "path": str(path)}


def test_file_that_has_not_changed_is_not_sent(path: Path) -> None:
    modified = dict(ask("/static/film.webm").headers)[b"Last-Modified"]
    fields = [(b"if-modified-since", modified), (b"range", b"bytes=0-1")]

    assert ask("/static/film.webm", headers=fields).status == 304


def test_missing_file_is_not_found() -> None:
    with override_settings(ROOT_URLCONF="tests.handlers.test_handler"):
        assert ask("/static/missing.webm").status == 404


def test_everything_else_is_the_applications() -> None:
    assert ask("/film.webm").content == b"the project"


def test_websockets_are_taken_by_the_project_or_not_at_all() -> None:
    assert takes_websockets(StaticFilesHandler(application))
    assert not takes_websockets(StaticFilesHandler(refuse_websockets(application)))
