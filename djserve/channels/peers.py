"""The other processes of the site, as far as this one has seen them.

The caller holds the node's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from djserve.channels.folder import LayerFolder
from djserve.channels.frames import FrameKind, pack_frame
from djserve.channels.peer import Peer
from djserve.channels.register import State, slot_of


class Peers:
    """Find and write to them; ``on_backlog`` is called when one takes no more."""

    def __init__(
        self, folder: LayerFolder, name: str, limit: int, on_backlog: Callable[[], None]
    ) -> None:
        self.folder = folder
        self._name = name
        self._limit = limit
        self._on_backlog = on_backlog
        self._peers: dict[str, Peer] = {}
        self._turn = 0

    def __iter__(self) -> Iterator[Peer]:
        return iter(list(self._peers.values()))

    def look(self) -> None:
        """See who is there, if that has changed."""
        if not self.folder.look():
            return
        names = self.folder.names
        for name, peer in list(self._peers.items()):
            # One that came back to a cleaned folder has its name and new files.
            if name not in names or not peer.register.is_at(
                self.folder.register_of(name)
            ):
                self._peers.pop(name).close()
        for name in names - self._peers.keys() - {self._name}:
            try:
                self._peers[name] = Peer(self.folder, name, self._limit)
            except FileNotFoundError:
                # It leaves at this moment.
                continue
            except OSError:
                # Such as no descriptor being left: it is missed until there is one.
                self.folder.look_again()

    def find(self, name: str) -> Peer | None:
        """Return a process, None if it has ended."""
        self.look()
        return self._peers.get(name)

    def push(self, peer: Peer, frame: bytes, expires: float) -> bool:
        """Send a frame to a peer; False if it was dropped."""
        is_taken = peer.push(frame, expires)
        if peer.is_gone:
            self._lose(peer)
        elif peer.has_backlog:
            self._on_backlog()
        return is_taken

    def tell(self, peer: Peer, kind: FrameKind, group: str, channel: str) -> None:
        """Send what does not expire."""
        frame = pack_frame(kind, group, float("inf"), channel.encode("ascii"))
        self.push(peer, frame, float("inf"))

    def push_group(self, group: str, data: bytes, expires: float, now: float) -> None:
        """Send a group's message once to each process with members of it."""
        if not self._peers:
            return
        slot = slot_of(group)
        frame: bytes | None = None
        for peer in self:
            if peer.wants(group, slot, now):
                if frame is None:
                    frame = pack_frame(FrameKind.GROUP, group, expires, data)
                self.push(peer, frame, expires)

    def push_plain(
        self, channel: str, data: bytes, expires: float, now: float, state: State
    ) -> bool:
        """Send to the next process with this state; False if there is none."""
        found = [
            peer for peer in self.attended(now) if peer.register.state(channel) == state
        ]
        if not found:
            return False
        self._turn += 1
        frame = pack_frame(FrameKind.CHANNEL, channel, expires, data)
        return self.push(found[self._turn % len(found)], frame, expires)

    def attended(self, now: float) -> Iterator[Peer]:
        """Yield those that read what they get."""
        for peer in self:
            if peer.register.is_attended(now) and not peer.has_backlog:
                yield peer

    def flush(self, now: float) -> list[Peer]:
        """Write what peers had no room for; return those that still have none."""
        for peer in self:
            if peer.has_backlog:
                peer.flush(now)
                if peer.is_gone:
                    self._lose(peer)
        return [peer for peer in self if peer.has_backlog]

    def close(self) -> None:
        """Close all connections, which works in a forked child too."""
        for peer in self:
            peer.close()
        self._peers.clear()

    def _lose(self, peer: Peer) -> None:
        """Forget a peer that has ended, or has hung up and is to be tried again."""
        peer.close()
        self._peers.pop(peer.name, None)
        self.folder.clean()
        self.folder.look_again()
