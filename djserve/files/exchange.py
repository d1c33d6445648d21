"""One request for a file, from its head to the response's end, without a task.

What is in the page cache is read at once; what is not is read in a thread, so the event
loop never waits for a disk (preadv2(2), RWF_NOWAIT). No more than one piece of a file
waits in memory for its client, and after each the other connections have their turn.
"""

# How a file is read without stopping the loop
#
# Reading a file blocks if its bytes are on a disk, and asyncio has no other way to read
# one. A thread for each piece would cost more than the read itself when the bytes are
# in the page cache, which is nearly always. So each piece is first read with
# RWF_NOWAIT: the kernel returns what it has at hand, and goes to no disk. Only if it
# has nothing (or the system has no such flag) is the piece read in a thread, from a
# duplicate of the descriptor, because the client may go in the meantime and the
# descriptor's number may then belong to another file.
#
# A long file goes to a cleartext HTTP/1.1 socket without being read at all, if the
# kernel has the next piece in its cache and can say so (``sendfile``): less than half
# of the CPU time of 5 MiB (benchmark: static_files). When the socket is full a short
# piece is read and written, for the transport to tell when it takes more. The last one
# is written as well, and with it the response ends.
#
# One piece a turn. After each the loop serves others, and the peer is asked whether it
# takes more (``is_writable``): a slow client has one piece in memory and an open file,
# not the file. The number of responses in one turn is limited as well (``take_turn``):
# a client that pipelines requests for small files would keep the loop otherwise.
#
# Fields and content are of one state of the file. The fields come from the table's last
# look, so what was opened is compared with them by ``fstat``. If it is another file,
# the answer is made again from the beginning, conditions and ranges too, and if that
# fails once more the answer is 500: such a file changes all the time. After the first
# byte nothing can be corrected any more. A file that becomes shorter then ends in an
# aborted response, which the client can see, and never in a padded one.

from __future__ import annotations

import errno
import logging
import os
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol

from djserve.files.answers import answer
from djserve.files.sendfile import DirectSender, is_cached
from djserve.files.table import CACHED_FILE_SIZE, is_current_at
from djserve.instrumentation.notes import RESPONSE
from djserve.system import READ, read_at

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from djserve.files.answers import Answer
    from djserve.files.table import File, Representation
    from djserve.interfaces import RequestHead, Stream

logger = logging.getLogger("djserve.error")

PIECE_SIZE = 256 * 1024
"""Bytes that are read, and written, in one turn of the loop."""

SHORT_SIZE = 80 * 1024
"""Bytes of a piece that waits for a full socket; more than a transport's buffer."""

AT_ONCE_LIMIT = 32
"""Responses in one turn of the loop: a peer that sends many requests ahead would leave
none to others."""

_NOWAIT = getattr(os, "RWF_NOWAIT", None) if hasattr(os, "preadv") else None
_HAS_SENDFILE = hasattr(os, "sendfile")


class Source(Protocol):
    """Where an exchange's file comes from."""

    def keep(self, file: File, representation: Representation, content: bytes) -> None:
        """Keep a representation's content in memory, if it is wanted there."""

    def refresh(self, file: File) -> bool:
        """Describe a file that has changed; return whether it is still there."""


class FileService:
    """What the exchanges of a process share: the files, the loop, turns.

    ``open_limit`` is how many files may stay open for clients that do not read; those
    beyond are opened again for each piece. One connection of HTTP/2 has a hundred.
    """

    def __init__(
        self,
        table: Source,
        loop: asyncio.AbstractEventLoop,
        open_limit: int | None = None,
    ) -> None:
        self.table = table
        self.loop = loop
        self.open_files = 0
        self.room = memoryview(bytearray(PIECE_SIZE))
        """What pieces are read into, before they are copied to bytes of their size.

        A new buffer for each piece would be filled with zeros first, and two blocks of
        this size make the allocator give memory back to the system after each piece,
        and fault it in again (5 MiB: 1,900 faults, benchmark: static_files).
        """
        self._open_limit = float("inf") if open_limit is None else open_limit
        self._at_once = 0

    @property
    def has_too_many_open(self) -> bool:
        """Whether a file that waits for its client is to be closed."""
        return self.open_files > self._open_limit

    def take_turn(self) -> bool:
        """Return whether one more response may be sent in this turn of the loop."""
        if not self._at_once:
            self.loop.call_soon(self._begin_turn)
        self._at_once += 1
        return self._at_once <= AT_ONCE_LIMIT

    def _begin_turn(self) -> None:
        self._at_once = 0


class FileExchange:
    """Answer one request with a file (interfaces.Exchange).

    ``finish`` is called once, with the ``time.perf_counter`` of the beginning, the
    response's status (0 if the client went before it had one) and its content's size.
    ``method`` is the request's, unless it is answered as if it had another.
    """

    __slots__ = (
        "_answer",
        "_began",
        "_descriptor",
        "_direct",
        "_file",
        "_finish",
        "_has_ended",
        "_head",
        "_is_reading",
        "_may_go_directly",
        "_method",
        "_position",
        "_sent",
        "_service",
        "_stream",
        "_was_replaced",
    )

    held_size = 0

    def __init__(
        self,
        service: FileService,
        file: File,
        head: RequestHead,
        stream: Stream,
        finish: Callable[[float, int, int], object] | None = None,
        method: str = "",
    ) -> None:
        self._method = method or head.method
        self._service = service
        self._file = file
        self._head = head
        self._stream = stream
        self._finish = finish
        self._began = perf_counter() if finish is not None else 0.0
        self._answer: Answer | None = None
        self._descriptor = -1
        self._direct: DirectSender | None = None
        self._may_go_directly = _HAS_SENDFILE
        self._position = 0
        self._sent = 0
        self._is_reading = False
        self._has_ended = False
        self._was_replaced = False

    def note_fields(self, notes: dict[str, Any]) -> None:
        """Have the response's fields noted before ``finish`` is called."""
        finish = self._finish
        assert finish is not None

        def finish_noted(began: float, status: int, size: int) -> None:
            if self._answer is not None:
                notes[RESPONSE] = list(self._answer.fields)
            finish(began, status, size)

        self._finish = finish_noted

    # Upward: the stream calls these.

    @property
    def is_running(self) -> bool:
        """Whether the response has not ended."""
        return not self._has_ended

    def start(self) -> None:
        """Answer, or do so in the next turn if this one has answered enough."""
        if self._service.take_turn():
            self._respond()
        else:
            self._service.loop.call_soon(self._respond)

    def data_received(self, data: bytes) -> None:
        """Drop a request's content: nothing here takes any."""

    def eof_received(self) -> None:
        """Nothing to do: the content has no use."""

    def pause_writing(self) -> None:
        """The way down is full; the stream is asked before each piece."""

    def resume_writing(self) -> None:
        """Send on, if the response has begun."""
        if self._answer is not None and not self._has_ended:
            self._send_on()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone before the response's end."""
        self._end(self._answer.status if self._answer and self._sent else 0)

    def tick(self, now: float) -> None:
        """Nothing to do: the connection ends what its client does not read."""

    def drain(self) -> None:
        """Nothing to do: the response may finish."""

    # Private.

    def _respond(self) -> None:
        if self._has_ended:
            return
        head = self._head
        self._answer = chosen = answer(
            self._file, self._method, head.headers, head.query
        )
        representation = chosen.representation
        if representation is None or not chosen.part:
            self._send_whole(b"")
        elif representation.content is not None:
            part = chosen.part
            content = representation.content
            if len(part) != len(content):
                content = content[part.start : part.stop]
            self._send_whole(content)
        else:
            self._open()

    def _send_whole(self, content: bytes) -> None:
        chosen = self._answer
        assert chosen is not None
        self._sent = len(content)
        # First: the next request may begin before this returns.
        self._end(chosen.status)
        self._stream.send_response(chosen.status, chosen.fields, content, more=False)

    def _open(self) -> None:
        """Open the file; what has been replaced since the last tick is looked at again.

        Its fields are those of another file, so the answer is made again, once.
        """
        chosen = self._answer
        assert chosen is not None
        assert chosen.representation is not None
        try:
            is_current = self._take_descriptor(chosen.representation)
        except OSError as error:
            self._fail(error)
            return
        if not is_current:
            self._respond_anew()
            return
        self._position = chosen.part.start
        self._send_on()

    def _take_descriptor(self, representation: Representation) -> bool:
        """Open the file; return whether it is still what was described."""
        try:
            # A FIFO that has taken the file's place would block the open.
            self._descriptor = os.open(representation.path, READ)
        except FileNotFoundError:
            return False
        self._service.open_files += 1
        return is_current_at(representation, os.fstat(self._descriptor))

    def _open_again(self) -> bool:
        """Open a file that was closed for a client that did not read, if it stands."""
        assert self._answer is not None
        assert self._answer.representation is not None
        try:
            if self._take_descriptor(self._answer.representation):
                return True
        except OSError as error:
            self._break_off(error.strerror)
            return False
        if self._sent:
            self._break_off("it was replaced")
        else:
            self._respond_anew()
        return False

    def _respond_anew(self) -> None:
        self._close()
        if self._was_replaced:
            self._fail(OSError(errno.ESTALE, "it changes all the time"))
            return
        self._was_replaced = True
        if self._service.table.refresh(self._file):
            self._respond()
            return
        self._end(404)
        self._stream.send_response(404, [(b"content-length", b"0")], b"", more=False)

    def _fail(self, error: OSError) -> None:
        """Answer for a file that cannot be read: 500, the server's fault.

        403 if its mode says so, as nginx does and as for private files.
        """
        logger.error("Cannot send the file %s: %s", self._file.path, error.strerror)
        status = 403 if isinstance(error, PermissionError) else 500
        self._end(status)
        self._stream.send_response(status, [(b"content-length", b"0")], b"", more=False)

    def _send_on(self) -> None:
        """Send the next piece, if the peer takes it and none is being read."""
        if self._is_reading or self._has_ended:
            return
        if not self._stream.is_writable:
            if self._service.has_too_many_open:
                self._close()
            return
        if self._descriptor < 0 and not self._open_again():
            return
        assert self._answer is not None
        left = self._answer.part.stop - self._position
        size = min(PIECE_SIZE, left)
        if left > PIECE_SIZE and self._goes_directly():
            if self._send_directly():
                return
            size = SHORT_SIZE
        room = self._service.room[:size]
        data = _read_cached(self._descriptor, room, self._position)
        if data is not None:
            self._send_piece(data)
            return
        try:
            future = self._service.loop.run_in_executor(
                None, _read_and_close, os.dup(self._descriptor), size, self._position
            )
        except (OSError, RuntimeError):
            # No descriptor, or no thread, is left: the loop waits for the disk. The
            # copy is not closed here; the executor may have kept the job for later.
            self._read_here(size)
            return
        self._is_reading = True
        future.add_done_callback(self._was_read)

    def _read_here(self, size: int) -> None:
        try:
            data = read_at(self._descriptor, size, self._position)
        except OSError as error:
            self._break_off(error.strerror)
            return
        self._send_piece(data)

    def _goes_directly(self) -> bool:
        """Return whether the next piece may go to the socket unread."""
        if not (self._sent and self._may_go_directly):
            return False
        if not is_cached(self._descriptor, self._position, PIECE_SIZE):
            return False
        if self._direct is None:
            # HTTP/1.1 alone has one: what is sent there is the content itself.
            find = getattr(self._stream, "find_direct_socket", None)
            sock = None if find is None else find()
            if sock is not None:
                # Without a descriptor to spare, the file is read.
                with suppress(OSError):
                    self._direct = DirectSender(sock.fileno())
                    self._service.open_files += 1
            self._may_go_directly = self._direct is not None
        return self._may_go_directly

    def _send_directly(self) -> bool:
        """Send a piece to the socket; return whether it took any of it."""
        stream: Any = self._stream
        assert self._direct is not None
        if stream.get_write_buffer_size():
            return False
        count = self._direct.send(self._descriptor, self._position, PIECE_SIZE)
        if not count:
            return False
        stream.skip_content(count)
        self._position += count
        self._sent += count
        self._service.loop.call_soon(self._send_on)
        return True

    def _was_read(self, future: asyncio.Future[bytes]) -> None:
        self._is_reading = False
        try:
            data = future.result()
        except OSError as error:
            if not self._has_ended:
                self._break_off(error.strerror)
            return
        if not self._has_ended:
            self._send_piece(data)

    def _send_piece(self, data: bytes) -> None:
        chosen = self._answer
        assert chosen is not None
        assert chosen.representation is not None
        is_first = not self._sent
        self._position += len(data)
        self._sent += len(data)
        more = self._position < chosen.part.stop
        if not data:
            self._break_off("it has become shorter")
            return
        if not more:
            if len(data) == chosen.representation.size <= CACHED_FILE_SIZE:
                self._service.table.keep(self._file, chosen.representation, data)
            self._end(chosen.status)
        if is_first:
            self._stream.send_response(chosen.status, chosen.fields, data, more)
        else:
            self._stream.send_data(data, more)
        if more:
            self._service.loop.call_soon(self._send_on)

    def _break_off(self, reason: str | None) -> None:
        if not self._sent:
            self._fail(OSError(0, reason))
            return
        logger.error("Sending the file %s was aborted: %s", self._file.path, reason)
        self._end(self._answer.status if self._answer else 0)
        self._stream.abort()

    def _end(self, status: int) -> None:
        self._has_ended = True
        self._close()
        finish, self._finish = self._finish, None
        if finish is not None:
            finish(self._began, status, self._sent)

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._service.open_files -= 1
        if self._direct is not None:
            self._direct.close()
            self._direct = None
            self._service.open_files -= 1


def _read_cached(descriptor: int, room: memoryview, position: int) -> bytes | None:
    """Return what the page cache has there; None if a disk has to be asked."""
    if _NOWAIT is None:
        return None
    with suppress(OSError):
        count = os.preadv(descriptor, [room], position, _NOWAIT)
        # Nothing may be the end of the file as well, which the thread will find.
        if count:
            return bytes(room[:count])
    return None


def _read_and_close(descriptor: int, size: int, position: int) -> bytes:
    try:
        data: bytes = read_at(descriptor, size, position)
        return data
    finally:
        os.close(descriptor)
