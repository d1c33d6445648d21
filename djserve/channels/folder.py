"""The folder that the processes of one site meet in: who is there, and where.

It belongs to one user, and no other may look into it. A process is a socket and a
register of its name; a file ``=group=channel`` is a plain name's membership of a group,
which belongs to no process.
"""

# What is trusted, and how a change is seen
#
# Messages of a layer are the application's own, and who can send one can call its
# handlers. So the folder is the border: mode 0700, one owner, checked with ``lstat``
# before use and whenever its time of change is new. In /tmp others can make a folder of
# any name first, therefore its owner is compared and not only its mode. Peers on a
# socket are asked for their user as well (``is_trusted``), where the system tells: the
# folder may have been moved away and replaced between the check and the connection.
#
# The list of processes is a folder because a folder has the one property that is
# needed: the kernel changes its time with each entry that comes or goes. A sender
# compares that time with the one it knows, which is one system call, and reads the
# folder only if it differs. The clock of files ticks every few milliseconds, and two
# changes within one tick bear the same time. For ``_TICK`` seconds after a change the
# folder is therefore read each time: the second change would otherwise never be seen.
#
# Entries appear complete. A socket and a register are made under a name that begins
# with a dot and renamed; the register last, since it is what others list. They go with
# the register last, too: as long as it stands, others can find that its owner has
# ended. What a killed process leaves under such a name is removed after a minute by any
# other.

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import socket
import stat
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from django.conf import ENVIRONMENT_VARIABLE, settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured

from djserve.channels.frames import VERSION
from djserve.channels.register import is_abandoned
from djserve.system import NO_FOLLOW

TEST_FOLDER = "DJSERVE_CHANNELS_TEST_FOLDER"
"""Names the folder of a test run to the processes that the run starts."""

REGISTER = ".map"
_NEW = "."
_MEMBER = "="

# Two changes of one folder may bear the same time: the kernel's clock for files ticks
# every 4 to 10 ms. For so long after a change the folder is read each time.
_TICK = 0.1
_ABANDONED_AFTER = 60.0
# The shortest that a system allows for a socket's path: that of macOS, with the zero.
_LONGEST_PATH = 103
_NAME_LENGTH = 16
# Process, user and group, as SO_PEERCRED has them.
_CREDENTIALS = struct.Struct("3i")
_ROOT = 0


class LayerFolder:
    """The meeting place, made when a process first has something to show in it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.names: frozenset[str] = frozenset()
        self.members: Mapping[str, tuple[str, ...]] = {}
        """The plain names in each group."""
        self._seen = -1
        self._is_settled = False
        if len(os.fsencode(self.place_of("x" * _NAME_LENGTH))) > _LONGEST_PATH:
            raise ImproperlyConfigured(
                f"The folder of the channel layer, {path!r}, is too long for the path "
                f"of a unix socket: at most {_LONGEST_PATH - _NAME_LENGTH - 2} bytes."
            )

    def place_of(self, name: str) -> str:
        """Return the path of the socket of a process."""
        return f"{self.path}/{name}"

    def register_of(self, name: str) -> str:
        """Return the path of the register of a process."""
        return f"{self.path}/{name}{REGISTER}"

    def new(self, path: str) -> str:
        """Return the path that a file has until ``publish`` gives it its own."""
        folder, _, name = path.rpartition("/")
        return f"{folder}/{_NEW}{name}"

    def publish(self, path: str) -> None:
        """Show a file that is complete."""
        os.rename(self.new(path), path)

    def make(self) -> int:
        """Make the folder if it is missing; return its owner.

        Raises ImproperlyConfigured if another user could read or change it.
        """
        Path(self.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.mkdir(self.path, 0o700)
        except FileExistsError:
            pass
        return self.owner()

    def owner(self) -> int:
        """Return the owner of the folder, having verified that it is to be trusted."""
        status = os.lstat(self.path)
        own = os.geteuid()
        if not stat.S_ISDIR(status.st_mode):
            problem = "is not a folder"
        elif own not in (0, status.st_uid):
            problem = f"belongs to user {status.st_uid}, and this process is user {own}"
        elif stat.S_IMODE(status.st_mode) & 0o077:
            problem = f"has mode {stat.S_IMODE(status.st_mode):04o} instead of 0700"
        else:
            return status.st_uid
        raise ImproperlyConfigured(f"{self.path!r}, of the channel layer, {problem}.")

    def look(self) -> bool:
        """Read the folder if it has changed; return whether it was read."""
        try:
            changed = os.stat(self.path).st_mtime_ns
        except FileNotFoundError:
            changed = -1
        if changed == self._seen and self._is_settled:
            return False
        if changed != self._seen and changed >= 0:
            self.owner()
        is_settled = abs(time.time() - changed / 1e9) > _TICK
        # This raises if no descriptor is left; the next look then tries again.
        self._read()
        self._is_settled = is_settled
        self._seen = changed
        return True

    def look_again(self) -> None:
        """Read the folder at the next look, changed or not."""
        self._seen = -2

    def _read(self) -> None:
        names = set()
        members: dict[str, list[str]] = {}
        for entry in self._entries():
            if entry.startswith(_MEMBER):
                _, group, channel = entry.split(_MEMBER, 2)
                members.setdefault(group, []).append(channel)
            elif entry.endswith(REGISTER) and not entry.startswith(_NEW):
                names.add(entry.removesuffix(REGISTER))
        self.names = frozenset(names)
        self.members = {group: tuple(found) for group, found in members.items()}

    def _entries(self) -> list[str]:
        try:
            return os.listdir(self.path)
        except FileNotFoundError:
            return []

    def has(self, name: str) -> bool:
        """Return whether a process can be found here, and connected to."""
        # Programs that clean folders of temporary files may leave only the sockets.
        return os.path.exists(self.place_of(name)) and os.path.exists(
            self.register_of(name)
        )

    def remove(self, name: str) -> None:
        """Take a process out that has ended, its register last."""
        for path in (self.place_of(name), self.register_of(name)):
            _unlink(path)

    def clean(self) -> None:
        """Take out what processes have left that were killed."""
        for name in self.names:
            if is_abandoned(self.register_of(name)):
                self.remove(name)
        for path in self._unfinished():
            _unlink(path)

    def _unfinished(self) -> Iterator[str]:
        cutoff = time.time() - _ABANDONED_AFTER
        for entry in self._entries():
            path = f"{self.path}/{entry}"
            if entry.startswith(_NEW) and _mtime(path) < cutoff:
                yield path

    def add_member(self, group: str, channel: str) -> None:
        """Put a plain name into a group, again if it is there."""
        self.make()
        path = self._member(group, channel)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | NO_FOLLOW, 0o600))
        os.utime(path)

    def discard_member(self, group: str, channel: str) -> None:
        """Take a plain name out of a group."""
        _unlink(self._member(group, channel))

    def current_members(self, group: str, expiry: float) -> Iterable[str]:
        """Return the plain names in a group that joined it less than ``expiry`` ago."""
        # Asked for each message to a group, and few groups have any.
        return self._current_members(group, expiry) if group in self.members else ()

    def _current_members(self, group: str, expiry: float) -> Iterator[str]:
        cutoff = time.time() - expiry
        for channel in self.members[group]:
            if _mtime(self._member(group, channel)) > cutoff:
                yield channel
            else:
                self.discard_member(group, channel)

    def clear_members(self) -> None:
        """Take all plain names out of all groups."""
        self.look()
        for group, channels in self.members.items():
            for channel in channels:
                self.discard_member(group, channel)

    def _member(self, group: str, channel: str) -> str:
        return f"{self.path}/{_MEMBER}{group}{_MEMBER}{channel}"


def find_folder(configured: str | os.PathLike[str] | None, prefix: str) -> str:
    """Return the folder for a prefix, in the one configured or in the site's own."""
    base = os.path.abspath(configured) if configured else default_folder()
    return os.path.join(base, f"{prefix}.{VERSION}")


def default_folder() -> str:
    """Return a folder that the processes of this site, and of no other, arrive at.

    Of one site are those with the same user, settings module, secret key and database.
    A test run has its own, so that what it sends does not reach a running server.
    """
    name = f"djserve-{os.geteuid()}-{_site()}"
    if not hasattr(mail, "outbox"):
        return os.path.join(tempfile.gettempdir(), name)
    # Django's mark of a test run. Processes that the tests start belong to it.
    if TEST_FOLDER not in os.environ:
        # Short, for macOS has long names for temporary folders.
        path = tempfile.mkdtemp(prefix="djserve-")
        atexit.register(shutil.rmtree, path, ignore_errors=True)
        os.environ[TEST_FOLDER] = path
    return os.environ[TEST_FOLDER]


def _site() -> str:
    database: Mapping[str, Any] = settings.DATABASES.get("default", {})
    place = str(database.get("NAME", ""))
    if "sqlite" in str(database.get("ENGINE", "")):
        place = os.path.abspath(place)
    parts = (
        os.environ.get(ENVIRONMENT_VARIABLE, ""),
        str(settings.SECRET_KEY),
        place,
        str(database.get("HOST", "")),
        str(database.get("PORT", "")),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _mtime(path: str) -> float:
    try:
        return os.lstat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def is_trusted(sock: socket.socket, owner: int) -> bool:
    """Return whether the peer runs as the folder's owner, as this user or as root.

    Systems that do not tell it have the folder's mode alone, which is enough unless the
    folder was moved away and replaced.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    try:
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    except OSError:
        return False
    user: int = _CREDENTIALS.unpack(data)[1]
    return user in (owner, os.geteuid(), _ROOT)
