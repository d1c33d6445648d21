"""What a process wants sent to it, in memory that the other processes read.

A file of fixed size, mapped by its owner for writing and by every peer for reading:

- a heartbeat: until when the process is taken to read what it gets;
- one byte for each slot of groups: whether it has a member of a group in that slot;
- a table of channels: who waits for messages of a plain name, and which are full.

A sender looks here before it writes to the process. No message announces a member, so
none can be lost, late or out of order: once ``group_add`` has returned, every process
sees the byte. Two groups that share a slot cost a message that the owner drops.
"""

# How a sender and a member agree without a message
#
# The question that a layer has to answer is whether a message that is sent after
# ``group_add`` has returned reaches the member, in whatever processes the two are. With
# messages for joining and leaving, the answer depends on how far those have come in
# each process. Here joining is a store to memory that all processes map, and sending
# begins with a load from it:
#
# - ``group_add`` stores 1 to the byte of the group's slot, then returns. A sender that
#   begins after that sees the 1 (one machine has one memory) and writes the message to
#   the process. There it meets the exact membership, which only that process has.
# - ``group_discard`` clears the byte when the last member of any group in the slot has
#   left (``_members`` counts). A sender that saw the 1 just before sends a message that
#   the process drops: no one can tell that from a message sent a moment earlier.
#
# A byte or an aligned word is stored by one instruction, so a reader sees either value
# and nothing in between. Two things that belong together are put into one word for the
# same reason: the table of channels has the key and the state of a channel in 64 bits.
# There is one writer for each register, its owner, so there is nothing to lock.
#
# 65,536 slots for any number of groups: two groups may share one, which costs a message
# to a process without a member, and never loses one.
#
# A process that is killed cannot take itself out. Its lock on the register ends with
# it, by the kernel's doing, which is what ``is_abandoned`` asks for; a process number
# could have been given to another process by then. The heartbeat answers another
# question: whether its loop reads at all. A process that is stopped has its lock and no
# heartbeat.

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from enum import IntEnum
from functools import lru_cache
from typing import Any

from djserve.system import NO_FOLLOW, READ

fcntl: Any
try:
    import fcntl
except ImportError:
    # Windows, whose processes cannot meet in a folder.
    fcntl = None

_READ: int = getattr(mmap, "PROT_READ", 0)
_WRITE: int = getattr(mmap, "PROT_WRITE", 0)

SLOTS = 65536
ENTRIES = 4096
_HEAD = 64
_SIZE = _HEAD + SLOTS + 8 * ENTRIES
# How far from its own place an entry may stand.
_REACH = 16


class State(IntEnum):
    """What a process does with a channel, as its peers see it."""

    NONE = 0
    BUSY = 1
    """It receives from the channel, and is at work on a message."""
    WAITING = 2
    FULL = 3


def slot_of(group: str) -> int:
    """Return the slot of a group, the same in each process."""
    return zlib.crc32(group.encode("ascii")) & (SLOTS - 1)


@lru_cache(maxsize=8192)
def _key_of(channel: str) -> int:
    digest = hashlib.blake2b(channel.encode("ascii"), digest_size=7).digest()
    # Nought stands for an entry that has never been used.
    return int.from_bytes(digest, "big") or 1


class Register:
    """A register, mapped for reading."""

    _FLAGS = os.O_RDONLY
    _PROT = _READ

    def __init__(self, path: str) -> None:
        """Raises OSError if there is none, or another user's."""
        self._file = os.open(path, self._FLAGS | READ | NO_FOLLOW, 0o600)
        try:
            self._prepare()
            self._map = mmap.mmap(self._file, _SIZE, mmap.MAP_SHARED, self._PROT)
        except (OSError, ValueError) as error:
            os.close(self._file)
            raise OSError(f"{path} cannot be mapped: {error}") from error
        self._view = memoryview(self._map)
        self._beat = self._view[:8].cast("d")
        self._slots = self._view[_HEAD : _HEAD + SLOTS]
        self._table = self._view[_HEAD + SLOTS :].cast("Q")

    def _prepare(self) -> None:
        """Check or make the file before it is mapped."""
        if os.fstat(self._file).st_size != _SIZE:
            raise OSError("it has another size")

    def close(self) -> None:
        """Give the mapping back."""
        for view in (self._beat, self._slots, self._table, self._view):
            view.release()
        self._map.close()
        os.close(self._file)

    def is_at(self, path: str) -> bool:
        """Return whether the file there still is the one that was mapped."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(path))
        except FileNotFoundError:
            return False

    def is_attended(self, now: float) -> bool:
        """Return whether a loop of the process reads what comes."""
        return self._beat[0] > now

    def has_slot(self, slot: int) -> int:
        """Return something true if a group of this slot has a member there."""
        return self._slots[slot]

    def state(self, channel: str) -> int:
        """Return what the process does with a channel."""
        key = _key_of(channel)
        table = self._table
        for step in range(_REACH):
            # Key and state are one number, so that they are read together.
            entry = table[(key + step) % ENTRIES]
            if entry >> 8 == key:
                return entry & 0xFF
            if not entry:
                break
        return State.NONE


class OwnRegister(Register):
    """The register of this process. Its lock on the file ends with the process."""

    _FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL
    _PROT = _READ | _WRITE

    def __init__(self, path: str, owner: int) -> None:
        """Make it for a folder's owner. Raises OSError."""
        self._members: dict[int, int] = {}
        self._owner = owner
        super().__init__(path)

    def _prepare(self) -> None:
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.geteuid() != self._owner:
            # Root among the site's processes; these must be able to read it.
            os.fchown(self._file, self._owner, -1)
        # A page of a sparse file that a full disk cannot hold would be a SIGBUS.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(self._file, 0, _SIZE)
        else:
            os.ftruncate(self._file, _SIZE)

    def beat(self, until: float) -> None:
        """Promise to read what comes until a moment; 0 takes the promise back."""
        self._beat[0] = until

    def add_group(self, group: str) -> None:
        """Have messages of a group sent here, for it has its first member."""
        slot = slot_of(group)
        self._members[slot] = self._members.get(slot, 0) + 1
        self._slots[slot] = 1

    def discard_group(self, group: str) -> None:
        """Have messages of a group not sent here, for its last member has left."""
        slot = slot_of(group)
        left = self._members.pop(slot, 1) - 1
        if left:
            self._members[slot] = left
        else:
            self._slots[slot] = 0

    def set_state(self, channel: str, state: State) -> bool:
        """Show what is done with a channel; False if there is no room to do so."""
        key = _key_of(channel)
        table = self._table
        free: int | None = None
        for step in range(_REACH):
            place = (key + step) % ENTRIES
            entry = table[place]
            if entry >> 8 == key:
                table[place] = key << 8 | state
                return True
            if free is None and not entry & 0xFF:
                free = place
            if not entry:
                break
        if state is State.NONE:
            return True
        if free is None:
            return False
        table[free] = key << 8 | state
        return True


def is_abandoned(path: str) -> bool:
    """Return whether the process that a register belongs to has ended."""
    try:
        file = os.open(path, READ | NO_FOLLOW)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(file)
    return True


class Groups(dict[str, dict[str, float]]):
    """The channels of this process in each group, with the time of joining.

    No group is empty. The caller holds the node's lock.
    """

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
