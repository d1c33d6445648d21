"""Which settings put something between exchange and stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from djserve.conf.parser import parse
from djserve.conf.schema import CompressionConfig, FilesConfig
from djserve.errors import ProtocolError
from djserve.interfaces import RequestHead
from djserve.responses import open_filters
from tests.server.sites import GET, Site, on_loop

TEXT = b"a text that is long enough\n" * 100


@on_loop
async def test_nothing_stands_between_without_a_setting() -> None:
    site = Site()
    assert open_filters(FilesConfig(), CompressionConfig(), site.calls.loop) is None
    assert b"ok" in (await site.send(GET)).data


@on_loop
async def test_internal_files_do(tmp_path: Path) -> None:
    config = parse({"FILES_INTERNAL": {"/private/": str(tmp_path)}})
    site = Site(config)
    filters = open_filters(config.files, config.compression, site.calls.loop)
    assert filters is not None
    with pytest.raises(ProtocolError):
        filters.check_request(RequestHead("GET", b"/private/a", b"", [], "1.1"))
    assert b"ok" in (await site.send(GET)).data


@pytest.mark.parametrize("target", [b"/private/a.txt", b"/private/none"])
def test_file_of_a_site_that_compresses_is_sent_as_it_is(
    target: bytes, tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        fields = [(b"content-type", b"text/plain")]
        if scope["path"] == "/file":
            fields.append((b"x-accel-redirect", target))
        start = {"type": "http.response.start", "status": 200, "headers": fields}
        await send(start)
        await send({"type": "http.response.body", "body": TEXT})

    @on_loop
    async def run() -> None:
        folders = {"/private/": str(tmp_path)}
        config = parse({"FILES_INTERNAL": folders, "COMPRESSION": True})
        site = Site(config, application=application)
        ask = b"GET %b HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n"
        file = await site.send(ask % b"/file")
        page = await site.send(ask % b"/page")

        is_found = target.endswith(b"a.txt")
        assert b"content-encoding" not in file.data
        assert file.data.endswith(TEXT) is is_found
        assert b"content-encoding: gzip" in page.data
        assert site.log.statuses == [200 if is_found else 404, 200]

    run()
