"""Which files are left to the server, and how it is told."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from django.core.files import File
from django.http import FileResponse, HttpResponse, HttpResponseBase

from djserve.handlers.files import (
    PATHSEND,
    ZEROCOPYSEND,
    offers_file_sending,
    plan_file,
)

BOTH: dict[str, Any] = {"extensions": {PATHSEND: {}, ZEROCOPYSEND: {}}}
ZERO_COPY: dict[str, Any] = {"extensions": {ZEROCOPYSEND: {}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(b"0123456789")
    return path


def plan(scope: dict[str, Any], response: HttpResponseBase) -> Any:
    try:
        return plan_file(scope, response)
    finally:
        # Not response.close(): its signal looks after the database, too.
        for close in response._resource_closers:  # type: ignore[attr-defined]
            close()


@pytest.mark.parametrize(
    ("scope", "offered"),
    [({}, False), ({"extensions": None}, False), (BOTH, True), (ZERO_COPY, True)],
)
def test_offer_is_read_from_the_extensions(scope: Any, offered: bool) -> None:
    assert offers_file_sending(scope) is offered


def test_whole_file_is_sent_by_its_path(path: Path) -> None:
    message = plan(BOTH, FileResponse(path.open("rb")))

    assert message == {"type": PATHSEND, "path": str(path)}


def test_file_of_django_is_sent_too(path: Path) -> None:
    message = plan(BOTH, FileResponse(File(path.open("rb"))))

    assert message["path"] == str(path)


def test_open_file_is_sent_where_paths_are_not(path: Path) -> None:
    file = path.open("rb")
    message = plan(ZERO_COPY, FileResponse(file))

    assert message == {"type": ZEROCOPYSEND, "file": file, "offset": 0, "count": 10}


def test_rest_of_a_file_is_sent_from_its_position(path: Path) -> None:
    file = path.open("rb")
    file.seek(4)
    message = plan(BOTH, FileResponse(file))

    assert (message["type"], message["offset"], message["count"]) == (
        ZEROCOPYSEND,
        4,
        6,
    )


def test_file_that_was_replaced_is_not_sent_by_its_path(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    path.unlink()
    path.write_bytes(b"something else")

    assert plan(BOTH, response)["type"] == ZEROCOPYSEND


def test_file_that_is_gone_is_not_sent_by_its_path(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    path.unlink()

    assert plan(BOTH, response)["type"] == ZEROCOPYSEND


def test_content_that_is_not_the_files_own_goes_through_python(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    response.streaming_content = (part.upper() for part in [b"a"])

    assert plan(BOTH, response) is None


def test_part_of_a_file_goes_through_python(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    response["Content-Length"] = "3"

    assert plan(BOTH, response) is None


def test_compressed_file_that_is_unpacked_goes_through_python(tmp_path: Path) -> None:
    packed = tmp_path / "file.gz"
    packed.write_bytes(gzip.compress(b"0123456789" * 100))
    response = FileResponse(gzip.GzipFile(packed))
    response["Content-Length"] = str(packed.stat().st_size)

    assert plan(BOTH, response) is None


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(lambda: FileResponse(io.BytesIO(b"x")), id="memory"),
        pytest.param(lambda: FileResponse([b"x"]), id="no file"),
        pytest.param(lambda: HttpResponse(b"x"), id="no file response"),
    ],
)
def test_what_is_no_file_goes_through_python(response: Any) -> None:
    assert plan(BOTH, response()) is None


def test_nothing_is_planned_for_a_server_without_extensions(path: Path) -> None:
    assert plan({}, FileResponse(path.open("rb"))) is None
