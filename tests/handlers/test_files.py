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
    plan_file,
)

GET: dict[str, Any] = {"method": "GET", "headers": []}
BOTH: dict[str, Any] = {**GET, "extensions": {PATHSEND: {}, ZEROCOPYSEND: {}}}
ZERO_COPY: dict[str, Any] = {**GET, "extensions": {ZEROCOPYSEND: {}}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(b"0123456789")
    return path


def plan(scope: dict[str, Any], response: HttpResponseBase) -> Any:
    try:
        return plan_file(scope, response)
    finally:
        close(response)


def close(response: HttpResponseBase) -> None:
    # Not response.close(): its signal looks after the database, too.
    for close in response._resource_closers:  # type: ignore[attr-defined]
        close()


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
    assert plan(GET, FileResponse(path.open("rb"))) is None


def ask_for(part: bytes, scope: dict[str, Any]) -> dict[str, Any]:
    return {**scope, "headers": [(b"range", b"bytes=" + part)]}


def test_part_of_a_file_is_sent_by_its_descriptor(path: Path) -> None:
    file = path.open("rb")
    message = plan(ask_for(b"3-5", BOTH), FileResponse(file))

    assert message == {"type": ZEROCOPYSEND, "file": file, "offset": 3, "count": 3}


def test_part_counts_from_where_the_response_begins(path: Path) -> None:
    file = path.open("rb")
    file.seek(4)
    message = plan(ask_for(b"1-2", BOTH), FileResponse(file))

    assert (message["offset"], message["count"]) == (5, 2)


@pytest.mark.parametrize("scope", [GET, {**GET, "extensions": {PATHSEND: {}}}])
def test_part_goes_through_python_if_the_server_sends_no_parts(
    path: Path, scope: Any
) -> None:
    response = FileResponse(path.open("rb"))
    response.block_size = 2

    assert plan_file(ask_for(b"3-7", scope), response) is None
    assert list(response) == [b"34", b"56", b"7"]
    file = response._resource_closers[0].__self__  # type: ignore[attr-defined]
    close(response)
    assert file.closed


def test_part_ends_with_a_file_that_became_shorter(path: Path) -> None:
    response = FileResponse(path.open("rb"))
    plan_file(ask_for(b"3-7", GET), response)
    path.write_bytes(b"01234")

    assert b"".join(response) == b"34"
    close(response)


def test_refused_range_has_no_content(path: Path) -> None:
    response = FileResponse(path.open("rb"))

    assert plan_file(ask_for(b"10-", BOTH), response) is None
    assert (response.status_code, list(response)) == (416, [])
    close(response)


def test_file_in_memory_has_no_parts() -> None:
    response = FileResponse(io.BytesIO(b"0123456789"))

    assert plan(ask_for(b"0-1", BOTH), response) is None
    assert response.status_code == 200
