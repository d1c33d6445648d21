"""Each request for a file is answered as nginx answers it, but for what is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.file_requests import (
    REQUESTS,
    SECRET,
    Client,
    Request,
    make_files,
    serve,
)

pytestmark = pytest.mark.e2e

# Our status and nginx's, by the name of the request.
DIFFERENCES = {
    "If-Modified-Since: a later one": (304, 200),
    "two ranges": (200, 206),
    "HEAD with bytes=0-9": (200, 206),
    "Accept-Encoding: *": (200, 200),
    "Accept-Encoding: br, zstd": (200, 200),
    "gzip with bytes=0-9": (206, 200),
    "a NUL": (404, 400),
    "two slashes": (404, 200),
    "a folder and ..": (404, 200),
    "a folder and .": (404, 200),
    "a folder": (404, 301),
    "a folder's slash": (404, 403),
    "a dotfile": (404, 200),
    "a link out of the folder": (404, 200),
    "HEAD with bytes=5000-": (200, 416),
    "its tag, an earlier date": (200, 412),
    "If-Unmodified-Since: no date": (200, 412),
    "a variant of older content": (200, 200),
    "broken percent-encoding": (404, 400),
    "an encoded slash": (404, 200),
}

# What nginx 1.22 does, and 1.30 no longer.
OF_OLD_RELEASES = {"gzip with bytes=0-9"}


@pytest.fixture(scope="module")
def clients(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Client, Client]]:
    """Clients of djserve and of nginx."""
    folder = tmp_path_factory.mktemp("requests")
    make_files(folder)
    with serve(folder) as (port, other):
        yield Client(port, folder), Client(other, folder)


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.name)
def test_answer_is_nginxs(clients: tuple[Client, Client], request_: Request) -> None:
    ours, theirs = (client.ask(request_) for client in clients)

    assert SECRET not in ours.content
    expected = DIFFERENCES.get(request_.name)
    if request_.name in OF_OLD_RELEASES and theirs.status == ours.status:
        expected = None
    if expected is None:
        assert ours == theirs
    else:
        assert ours != theirs
        assert (ours.status, theirs.status) == expected


def test_every_difference_is_a_request() -> None:
    names = [each.name for each in REQUESTS]

    assert len(names) == len(set(names)) >= 40
    assert OF_OLD_RELEASES <= set(DIFFERENCES) <= set(names)
