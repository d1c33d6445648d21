"""A process of the site that reads only when a test has it read."""

from __future__ import annotations

import os
import socket

from djserve.channels.folder import LayerFolder, find_folder
from djserve.channels.register import OwnRegister


class OtherEnd:
    """The register and the socket of a process named ``other``."""

    def __init__(self, folder: str) -> None:
        self.place = LayerFolder(find_folder(folder, "asgi"))
        self.place.make()
        self.register = OwnRegister(self.place.register_of("other"), os.geteuid())
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.place.place_of("other"))
        self.listener.listen()
        self.listener.settimeout(60)
        self.sock: socket.socket | None = None

    def read(self, size: int) -> bytes:
        if self.sock is None:
            self.sock, _ = self.listener.accept()
            self.sock.settimeout(60)
        return self.sock.recv(size, socket.MSG_WAITALL)

    def end(self) -> None:
        self.listener.close()
        if self.sock is not None:
            self.sock.close()
