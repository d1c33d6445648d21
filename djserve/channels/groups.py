"""Which channels of this process are in which groups, and since when.

The caller holds the node's lock.
"""

from __future__ import annotations

from djserve.channels.register import OwnRegister


class Groups(dict[str, dict[str, float]]):
    """The channels in each group with the time of joining; none is empty."""

    def __init__(self) -> None:
        super().__init__()
        self._register: OwnRegister | None = None

    def show(self, register: OwnRegister | None) -> None:
        """Let the peers see the groups in this register from now on."""
        self._register = register
        if register is not None:
            for group in self:
                register.add_group(group)

    def join(self, group: str, channel: str, now: float) -> None:
        """Add a channel, or renew its time of joining."""
        members = self.get(group)
        if members is None:
            members = self[group] = {}
            if self._register is not None:
                self._register.add_group(group)
        members[channel] = now

    def leave(self, group: str, channel: str) -> None:
        """Take a channel out, if it is there."""
        members = self.get(group)
        if members is None:
            return
        members.pop(channel, None)
        if not members:
            del self[group]
            if self._register is not None:
                self._register.discard_group(group)

    def leave_all(self) -> None:
        """Take all channels out of all groups."""
        for group, members in list(self.items()):
            for channel in list(members):
                self.leave(group, channel)
