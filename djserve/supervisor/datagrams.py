"""UDP sockets of HTTP/3 for the workers, other ones for each.

A worker gets them when it is ready, and has its datagrams from then on: none wait for
one that still starts. They are closed at its end, however it ends, and the kernel then
chooses others for its clients.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING

from djserve.errors import ListenError
from djserve.net.quic.sockets import check_address, open_datagram_socket
from djserve.supervisor.messages import ServeDatagrams, encode_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djserve.supervisor.processes import Worker

logger = logging.getLogger("djserve")

_PREFIX = "djserve-http3-"

# The path of a unix socket has 107 bytes, of which the folder and what is in it need
# some 30.
_LONGEST_PLACE = 70


class DatagramSockets:
    """What workers need for HTTP/3 on some addresses. Raises ListenError.

    ``folder`` is that of a predecessor, whose workers have sockets of the same
    addresses; else one is made, for ``owner`` (user id, group id).
    """

    def __init__(
        self, addresses: Sequence[str], owner: tuple[int, int], folder: str = ""
    ) -> None:
        self._addresses = addresses
        for address in addresses:
            # Other programs share with none, and are found by this.
            check_address(address, is_shared=bool(folder))
        self.folder = folder or _make_folder(owner)
        """Where the workers hand datagrams on to each other."""

    def hand_out(self, worker: Worker) -> None:
        """Give a worker its sockets."""
        order = encode_order(ServeDatagrams(self.folder))
        for address in self._addresses:
            try:
                sock = open_datagram_socket(address, is_shared=True)
            except ListenError as error:
                logger.error("%s serves no HTTP/3: %s", worker, error)
                return
            with sock:
                worker.channel.send(order, (sock.fileno(),))

    def remove_folder(self) -> None:
        """Remove the folder: no worker of this server is left, nor a successor."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _make_folder(owner: tuple[int, int]) -> str:
    try:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_choose_place(owner[0]))
        os.chown(folder, *owner)
    except OSError as error:
        raise ListenError(
            "The folder of HTTP/3's workers", error.strerror or str(error)
        ) from error
    return folder


def _choose_place(user: int) -> str:
    """Return a folder for temporary ones that a user, -1 for our own, can use."""
    place = tempfile.gettempdir()
    is_short = len(os.fsencode(place)) <= _LONGEST_PLACE
    return place if is_short and _can_enter(place, user) else "/tmp"


def _can_enter(folder: str, user: int) -> bool:
    """Return whether a user may open what is in a folder; groups are left aside."""
    if user in (-1, os.geteuid()):
        return True
    path = os.path.realpath(folder)
    while True:
        status = os.stat(path)
        needed = stat.S_IXUSR if status.st_uid == user else stat.S_IXOTH
        if not status.st_mode & needed:
            return False
        if path == (path := os.path.dirname(path)):
            return True
