"""WebSocket is imported beside a server that serves, if it may be needed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from djserve.handlers.consumers import refuse_websockets
from djserve.server.imports import import_websocket_beside

pytestmark = pytest.mark.e2e

TIMEOUT = 120

FORK = """
import os
import sys

from djserve.server.imports import import_websocket_beside

thread = import_websocket_beside(lambda *args: None)
assert thread is not None
child = os.fork()
if not child:
    # The import is over, so that no lock of it is held here.
    import autobahn.websocket.protocol
    os._exit(0 if not thread.is_alive() else 1)
assert os.waitpid(child, 0)[1] == 0
assert "djserve.protocols.websocket.handshake" in sys.modules
"""


async def application(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


def test_thread_is_for_those_who_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import djserve.protocols.websocket.handshake

    assert import_websocket_beside(application) is None
    monkeypatch.delitem(sys.modules, djserve.protocols.websocket.handshake.__name__)
    assert import_websocket_beside(refuse_websockets(application)) is None


def test_fork_waits_for_the_import() -> None:
    subprocess.run(
        [sys.executable, "-W", "error", "-c", FORK], check=True, timeout=TIMEOUT
    )
