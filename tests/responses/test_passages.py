"""Which settings put something between exchange and stream."""

from __future__ import annotations

from pathlib import Path

import pytest

from djserve.conf.parser import parse
from djserve.errors import ProtocolError
from djserve.interfaces import RequestHead
from djserve.responses import open_passages
from tests.server.sites import GET, Site, on_loop


@on_loop
async def test_nothing_stands_between_without_a_setting() -> None:
    site = Site()
    assert open_passages(parse({}), site.calls.loop) is None
    assert b"ok" in (await site.send(GET)).data


@on_loop
async def test_internal_files_do(tmp_path: Path) -> None:
    config = parse({"FILES_INTERNAL": {"/private/": str(tmp_path)}})
    site = Site(config)
    passages = open_passages(config, site.calls.loop)
    assert passages is not None
    with pytest.raises(ProtocolError):
        passages.check_request(RequestHead("GET", b"/private/a", b"", [], "1.1"))
    assert b"ok" in (await site.send(GET)).data
