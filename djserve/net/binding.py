"""Sockets that the supervisor binds once and its workers accept from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from djserve.errors import ConfigError, ListenError
from djserve.net.address import EndpointAddress, UnixAddress, parse_address
from djserve.net.listeners import Listener
from djserve.net.sockets import (
    open_sockets,
    socket_address,
    socket_inode,
    unix_path,
    unlink_socket,
)
from djserve.system import SYSTEM

grp: Any
pwd: Any
try:
    import grp
    import pwd
except ImportError:
    # Windows: its users and groups are not those of unix sockets.
    grp = pwd = None

if TYPE_CHECKING:
    import socket
    from collections.abc import Collection, Iterable

    from djserve.conf.schema import BindConfig, RedirectConfig, UnixSocketConfig


class BoundSocket:
    """A listening socket that this process holds and others accept from."""

    def __init__(
        self, sock: socket.socket, *, tls: bool, unlink: bool, redirects: bool = False
    ) -> None:
        self._sock = sock
        self.redirects = redirects
        """Whether it is one of REDIRECT_HTTP."""
        self._inode: tuple[int, int] | None = None
        self._path = ""
        if unlink:
            self.own_file()
        listener = Listener(socket_address(sock), sock.close, tls=tls)
        self.address = listener.address
        self.port = listener.port
        self.url = listener.url
        self.place = listener.place

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._sock.fileno()

    def own_file(self) -> None:
        """Remove the unix socket's file when this socket is closed."""
        self._inode = socket_inode(self._sock)
        self._path = unix_path(self._sock.getsockname())

    @property
    def owns_file(self) -> bool:
        """Whether a unix socket's file goes with this socket."""
        return self._inode is not None

    def close(self, *, keep_file: bool = False) -> None:
        """Close this process's copy, and remove a unix socket's file."""
        self._sock.close()
        if self._inode is not None and not keep_file:
            unlink_socket(self._path, self._inode)


def bind_all(
    bind: BindConfig, redirect: RedirectConfig, unix: UnixSocketConfig, *, tls: bool
) -> list[BoundSocket]:
    """Bind or adopt every address. With ``tls`` those of BIND are named https.

    Raises ListenError, and ConfigError for what several processes cannot share; then
    none stays open.
    """
    bound: list[BoundSocket] = []
    try:
        for text in bind.bind:
            bound += _bind(text, "BIND", bind.backlog, unix, tls=tls)
        for text in redirect.redirect_http:
            bound += _bind(text, "REDIRECT_HTTP", bind.backlog, unix, tls=False)
    except (ConfigError, ListenError):
        for one in bound:
            one.close()
        raise
    return bound


def use_descriptors(
    bind: BindConfig,
    redirect: RedirectConfig,
    numbers: Iterable[int],
    redirecting: Collection[int] = (),
) -> tuple[BindConfig, RedirectConfig]:
    """Return both groups with open sockets instead of their addresses.

    ``redirecting`` are those of REDIRECT_HTTP among the ``numbers``.
    """
    numbers = tuple(numbers)
    bound = tuple(f"fd://{one}" for one in numbers if one not in redirecting)
    redirected = tuple(f"fd://{one}" for one in numbers if one in redirecting)
    return replace(bind, bind=bound), replace(redirect, redirect_http=redirected)


def unix_file(config: UnixSocketConfig) -> tuple[int, tuple[int, int]]:
    """Return the mode and the owner's ids for unix sockets. Raises ConfigError."""
    return int(config.unix_mode, 8), find_ids(config.unix_owner or "")


def find_ids(owner: str) -> tuple[int, int]:
    """Return the ids of "user:group", -1 for what is not named. Raises ConfigError."""
    user, _, group = owner.partition(":")
    if not owner:
        return -1, -1
    if pwd is None:
        problem = f"{owner!r} cannot be looked up: {SYSTEM} has no such users"
        raise ConfigError([f"UNIX_OWNER: {problem}"])
    try:
        uid = pwd.getpwnam(user).pw_uid if user else -1
        gid = grp.getgrnam(group).gr_gid if group else -1
    except KeyError as error:
        raise ConfigError([f"There is no such user or group: {owner!r}"]) from error
    return uid, gid


def _bind(
    text: str, key: str, backlog: int, unix: UnixSocketConfig, *, tls: bool
) -> list[BoundSocket]:
    try:
        address = parse_address(text)
    except ValueError as error:
        raise ListenError(text, str(error)) from error
    if isinstance(address, EndpointAddress):
        problem = "workers cannot share a Twisted endpoint; use host:port or unix:/path"
        raise ConfigError([f"{key} {text!r}: {problem}"])
    mode, owner = unix_file(unix)
    is_unix = isinstance(address, UnixAddress)
    redirects = key == "REDIRECT_HTTP"
    return [
        BoundSocket(sock, tls=tls, unlink=is_unix, redirects=redirects)
        for sock in open_sockets(address, backlog=backlog, mode=mode, owner=owner)
    ]
