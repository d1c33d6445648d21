"""Addresses -> listening sockets: bound, adopted, and taken away again.

Knows no event loop; a supervisor of workers may bind here and pass the sockets on. What
a connection's socket can be asked and told below its transport is here, too.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import stat
import struct
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from djserve.errors import ListenError
from djserve.net.address import EndpointAddress, FDAddress, TCPAddress, UnixAddress
from djserve.system import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator

    from djserve.net.address import Address

logger = logging.getLogger("djserve.net")

UNIX: int | None = getattr(socket, "AF_UNIX", None)
"""The family of unix sockets; None for a system without them (Windows)."""

_SocketName: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
_Resolved: TypeAlias = tuple[socket.AddressFamily, _SocketName]

# With no time to linger, closing drops what is buffered and sends a reset.
_RESET_ON_CLOSE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

LOOKUP_NOTICE = 2.0
"""Seconds after which a name that is looked up is told."""

_BIND_OPTION: int = getattr(socket, "SO_EXCLUSIVEADDRUSE", socket.SO_REUSEADDR)

# Names such as "localhost" may resolve to a family that this machine has switched off.
_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})

_REASONS = {
    errno.EADDRINUSE: (
        "the address is in use",
        "Stop the other server or choose another port",
    ),
    errno.EADDRNOTAVAIL: (
        "it is not an address of this machine",
        "Use 127.0.0.1 for this machine alone, or * for all its interfaces",
    ),
    errno.EAFNOSUPPORT: ("this machine does not support the address family", ""),
    errno.EISDIR: ("the path is a directory", ""),
    errno.ENOENT: ("the directory does not exist", "Create the directory first"),
    errno.ENOTDIR: ("a part of the path is not a directory", ""),
    errno.EROFS: ("the file system is read-only", ""),
}

# Bytes that the kernel takes ahead of what it can send. Without a limit these are
# several MiB, and each urgent byte waits until they are through. Linux and macOS.
UNSENT_LIMIT = 128 * 1024
_UNSENT_OPTION: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)

# Bytes that wait in the transport; a loop's TLS transports take 512 KiB by default.
BUFFER_LIMIT = 64 * 1024


def open_sockets(
    address: Address,
    *,
    backlog: int,
    mode: int = 0o666,
    owner: tuple[int, int] = (-1, -1),
) -> list[socket.socket]:
    """Open the listening sockets of an address: several if a name has several.

    ``mode`` and ``owner`` (user id, group id) are for a unix socket's file. A name is
    looked up here, which blocks. Raises ListenError; then none stays open.
    """
    match address:
        case TCPAddress():
            return _bind_tcp(address, backlog)
        case UnixAddress():
            return [_bind_unix(address, backlog, mode, owner)]
        case FDAddress():
            return [_adopt(address)]
        case EndpointAddress():
            raise ValueError("an endpoint string is opened by Twisted's reactor")


def socket_address(sock: socket.socket) -> str:
    """Return a bound socket's address as text, with the real port."""
    name = sock.getsockname()
    if sock.family == UNIX:
        return str(UnixAddress(unix_path(name)))
    return str(TCPAddress(name[0], name[1]))


def unix_path(name: str | bytes) -> str:
    """Return a unix socket's name as text; Linux gives abstract names as bytes."""
    return os.fsdecode(name)


def socket_inode(sock: socket.socket) -> tuple[int, int] | None:
    """Return the identity of a unix socket's file, for ``unlink_socket``."""
    if sock.family != UNIX:
        return None
    try:
        info = os.stat(sock.getsockname())
    except (OSError, ValueError):
        return None
    return info.st_dev, info.st_ino


def unlink_socket(path: str, inode: tuple[int, int]) -> None:
    """Remove a unix socket's file, unless another server has put its own there."""
    try:
        info = os.stat(path)
        if (info.st_dev, info.st_ino) == inode:
            os.unlink(path)
    except OSError:
        # The file is gone or no longer ours to remove: there is nothing left to do.
        return


def stop_listening(sock: socket.socket) -> None:
    """Have the kernel refuse connections on a listening socket, in all its copies."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # Closed already, or a system that only closing stops (macOS).
        return


def shut_down(sock: socket.socket) -> None:
    """End a connection for both sides; a thread that reads from it reads the end."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # The peer has gone already.
        return


def set_option(sock: Any, level: int, option: int, value: int | bytes) -> None:
    """Set an option, if the socket is open and of a family that has it."""
    if _takes(sock, level):
        sock.setsockopt(level, option, value)


def reset_on_close(sock: Any) -> None:
    """Let a socket's close drop what its peer has not taken, and tell the peer.

    Else the kernel keeps all that for as long as the peer answers, in FIN-WAIT-1 and
    with no process to blame: megabytes for each client that reads nothing.
    """
    set_option(sock, *_RESET_ON_CLOSE)


def reset_connection(transport: Any) -> None:
    """Drop a connection at once, with what waits in its transport and in the kernel.

    Transports that are not the loop's own do as their ``abort`` does.
    """
    get_extra_info = getattr(transport, "get_extra_info", None)
    sock = None if get_extra_info is None else get_extra_info("socket")
    if sock is not None:
        reset_on_close(sock)
    transport.abort()


def get_option(sock: Any, level: int, option: int) -> bool:
    """Return whether an option is on."""
    return _takes(sock, level) and bool(sock.getsockopt(level, option))


def _takes(sock: Any, level: int) -> bool:
    is_unix = sock.family == UNIX
    return sock.fileno() >= 0 and not (is_unix and level == socket.IPPROTO_TCP)


def _bind_tcp(address: TCPAddress, backlog: int) -> list[socket.socket]:
    candidates = _resolve(address)
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    port = address.port
    for family, name in candidates:
        try:
            sock = _listen_tcp(family, (name[0], port, *name[2:]), backlog)
        except OSError as error:
            if error.errno in _ABSENT and len(candidates) > 1:
                absent = error
                continue
            _close_all(sockets)
            raise _listen_error(address, error) from error
        sockets.append(sock)
        # Port 0: all sockets of one address get the port chosen for the first.
        port = sock.getsockname()[1]
    if absent is not None and not sockets:
        raise _listen_error(address, absent) from absent
    return sockets


def _resolve(address: TCPAddress) -> list[_Resolved]:
    host = address.host or None
    try:
        try:
            found = _look_up(host, address.port, socket.AI_NUMERICHOST)
        except socket.gaierror:
            with _notice_of_lookup(host):
                found = _look_up(host, address.port)
    except (OSError, UnicodeError) as error:
        reason = f"the host name {address.host!r} cannot be resolved"
        raise ListenError(str(address), reason) from error
    resolved = [(family, name) for family, _, _, _, name in found]
    return list(dict.fromkeys(resolved))


def _look_up(host: str | None, port: int, flags: int = 0) -> list[Any]:
    # Text is encoded as IDNA, whose tables are long to import.
    name = host.encode() if host is not None and host.isascii() else host
    return socket.getaddrinfo(
        name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | flags
    )


@contextmanager
def _notice_of_lookup(host: str | None) -> Iterator[None]:
    """Log what is waited for: a name server that does not answer takes ten seconds."""
    text = "Still looking up the host name %r: its name server does not answer"
    timer = threading.Timer(LOOKUP_NOTICE, logger.warning, (text, host))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        # No thread is left for a fork.
        timer.join()


def _listen_tcp(
    family: socket.AddressFamily, name: tuple[object, ...], backlog: int
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        # A restarted server may bind at once, past connections in TIME_WAIT. That is
        # so on Windows anyway, where SO_REUSEADDR lets two servers have one port.
        sock.setsockopt(socket.SOL_SOCKET, _BIND_OPTION, 1)
        # Accepted sockets inherit it, on any loop.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            # Each family has its own socket, so that IPv4 clients keep IPv4 addresses.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(name)
        sock.listen(backlog)
    except (OSError, OverflowError):
        sock.close()
        raise
    return sock


def _bind_unix(
    address: UnixAddress, backlog: int, mode: int, owner: tuple[int, int]
) -> socket.socket:
    if UNIX is None:
        reason = f"{SYSTEM} has no unix sockets that Python can use"
        raise ListenError(str(address), reason, "Use host:port")
    _remove_stale(address)
    sock = socket.socket(UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address.path)
        # By default as Twisted and Daphne do: the directory says who may connect.
        # Nobody can before listen(), so there is no moment with another mode.
        os.chmod(address.path, mode)
        if owner != (-1, -1):
            os.chown(address.path, *owner)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _listen_error(address, error) from error
    return sock


def _remove_stale(address: UnixAddress) -> None:
    """Remove a socket file that a dead server left; refuse everything else there."""
    try:
        mode = os.lstat(address.path).st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        reason = "the path exists and is not a socket"
        raise ListenError(str(address), reason, "Choose another path")
    if _is_live(address.path):
        reason = "another server listens on this socket"
        raise ListenError(str(address), reason, "Stop the other server")
    try:
        os.unlink(address.path)
    except OSError as error:
        raise _listen_error(address, error) from error


def _is_live(path: str) -> bool:
    with socket.socket(UNIX or 0, socket.SOCK_STREAM) as probe:
        # A live server with a full backlog would block a blocking connect.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _adopt(address: FDAddress) -> socket.socket:
    try:
        # A duplicate, so that stopping leaves the inherited descriptor to its owner.
        sock = _duplicate(address.number)
    except OSError as error:
        is_open = error.errno == errno.ENOTSOCK
        reason = "it is not a socket" if is_open else "it is not an open descriptor"
        raise ListenError(str(address), reason) from error
    reason = _refuse_adopted(sock)
    if reason:
        sock.close()
        raise ListenError(str(address), reason)
    sock.setblocking(False)
    return sock


def _duplicate(number: int) -> socket.socket:
    # Not by os.dup(): on Windows a socket is a handle, and no file descriptor.
    held = socket.socket(fileno=number)
    try:
        return held.dup()
    finally:
        held.detach()


def _refuse_adopted(sock: socket.socket) -> str:
    if sock.family not in (socket.AF_INET, socket.AF_INET6, UNIX):
        return "it is neither an internet nor a unix socket"
    if sock.type != socket.SOCK_STREAM:
        return "it is not a stream socket"
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return "it is a socket that does not listen"
    return ""


def _listen_error(address: Address, error: OSError) -> ListenError:
    code = error.errno
    if code in (errno.EACCES, errno.EPERM):
        return _permission_error(address)
    reason, hint = _REASONS.get(code or 0, (error.strerror or str(error), ""))
    return ListenError(str(address), reason, hint)


def _permission_error(address: Address) -> ListenError:
    hint = ""
    if isinstance(address, TCPAddress) and 0 < address.port < 1024:
        hint = (
            "Ports below 1024 need privileges: use a higher port or socket activation"
        )
    return ListenError(str(address), "permission denied", hint)


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def shorten_queues(transport: Any) -> None:
    """Let little wait in a transport and its socket, so that order can be chosen late.

    Transports that are not the loop's own are left as they are (benchmark:
    http2_mixed_download).
    """
    get_extra_info = getattr(transport, "get_extra_info", None)
    sock = None if get_extra_info is None else get_extra_info("socket")
    if sock is None:
        return
    transport.set_write_buffer_limits(BUFFER_LIMIT)
    if _UNSENT_OPTION is not None:
        set_option(sock, socket.IPPROTO_TCP, _UNSENT_OPTION, UNSENT_LIMIT)


def has_input(transport: Any) -> bool:
    """Return whether the kernel holds bytes for a connection, or its peer's end.

    The loop reads them in its next turn. False if that cannot be seen: transports
    that are not the loop's own, and systems without poll().
    """
    get_extra_info = getattr(transport, "get_extra_info", None)
    sock = None if get_extra_info is None else get_extra_info("socket")
    if sock is None or sock.fileno() < 0 or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))
