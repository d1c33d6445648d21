"""One process of the site, as a place that messages are sent to and from.

No process is a broker, and nothing is kept outside of those that use it. Each process
holds the queues of its own channels and the memberships of its own channels in groups;
the others need not know either, so there is nothing that they could lose or that could
be out of date. What they have to know stands in shared memory.

**Who is there.** A process that receives, or makes a channel, opens a unix socket in
the site's folder, and next to it a register: a file that the others map (``register``).
A sender looks at the folder's time of change before each message, one system call, and
reads it when that is new. A process that only sends leaves no trace there.

**A message to a channel of a process** (``specific.PROCESS!abc``) goes to the process
that its name holds, over a connection that only this sender writes to and only that
process reads: at most once, and in order.

**A message to a group** goes once to each process whose register has the group's slot.
Membership is the owner's own, in its own memory, and its byte is set before
``group_add`` returns. Hence no message is lost to a member while other processes come,
go, stop or are killed: nothing that they do touches the path from a sender to it. A
``group_add`` for another process's channel is a frame to it, on the same connection as
the messages that follow.

**A message to a plain name** goes to one process that waits for it, else to one that
receives from it and is busy, in turns; processes whose loop has not run for some
seconds are left out. If there is none, it stays with the sender until there is, or
until it expires; a process that ends hands over what it still has. Such a name's
membership of a group belongs to no process and is a file in the folder.

**No one waits for another.** A sender writes what the kernel takes at once; the rest
stays in a buffer with a limit, of that peer alone (``peer``). A peer that is stopped
gets what the limit holds when it goes on, less what has expired. A peer that has been
killed refuses the connection and is taken out of the folder.

**Loops and threads.** Sending needs no loop: any thread writes to the sockets, under
one lock. Reading is attached to the loop that receives, and moves on when that ends
(``intake``). Memory, files and sockets of a process are not those of its forked child,
which begins as a separate process with no channels.

One lock for everything is enough: what is done under it takes microseconds, and none of
it waits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
import weakref

from channels.exceptions import ChannelFull
from django.core.exceptions import ImproperlyConfigured

from djserve.channels.errands import Errands
from djserve.channels.folder import LayerFolder
from djserve.channels.frames import Frame, FrameKind, frame_size, pack_frame
from djserve.channels.intake import Intake
from djserve.channels.options import Options
from djserve.channels.peers import Peers
from djserve.channels.queues import Queue, Queues
from djserve.channels.register import Groups, OwnRegister, State
from djserve.system import CAN_FORK

logger = logging.getLogger("djserve")

_BEAT = 1.0
# How long after the last beat a process is taken to read what it gets.
_TRUST = 3.5
# How long a receiver of a plain name may be at work on one message and still be sent
# the next ones.
_BUSY = 5.0
_SWEEP = 5.0
_CHECK_FOLDER = 5.0
# How long a process that ends waits for its peers to take what it has for them.
_LAST_MOMENT = 2.0


class LayerNode:
    """Send and receive for one layer of one process."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._begin()
        _nodes.add(self)

    def _begin(self) -> None:
        self.name = os.urandom(8).hex()
        # Reentrant, for the collector may close the node of a layer at any line.
        self.lock = threading.RLock()
        self.queues = Queues()
        self.groups = Groups()
        self._peers_made: Peers | None = None
        self._register: OwnRegister | None = None
        self._intake: Intake | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        # Whether it has lost its place in the folder, and cannot take it again.
        self._is_out = False
        self._watching: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
        # When each plain name was last received from.
        self._received: dict[str, float] = {}
        # Plain names with messages that nobody here receives.
        self._held: set[str] = set()
        self._errands = Errands(self._do_errands)
        self._swept_at = time.monotonic()
        self._checked_at = self._swept_at

    @property
    def _peers(self) -> Peers:
        """The peers, in the folder of this moment: settings change until first use."""
        peers = self._peers_made
        if peers is None:
            peers = self._peers_made = Peers(
                LayerFolder(self._options.folder()),
                self.name,
                self._options.peer_limit,
                self._errands.start,
            )
        return peers

    @property
    def _folder(self) -> LayerFolder:
        return self._peers.folder

    # Messages

    def send(self, channel: str, owner: str | None, data: bytes) -> int:
        """Send to a channel; return how many messages wait before a receiver here.

        ``owner`` is the process that the name holds. Raises ChannelFull.
        """
        self._require_size(channel, data)
        now = time.monotonic()
        expires = now + self._options.expiry
        with self.lock:
            if owner is None:
                return self._send_plain(channel, data, expires, now)
            if owner == self.name:
                return self._put(channel, data, expires, now)
            peer = self._peers.find(owner)
            if peer is None:
                # Its process has ended, and the channel with it.
                return 0
            if peer.register.state(channel) == State.FULL:
                raise ChannelFull(channel)
            frame = pack_frame(FrameKind.CHANNEL, channel, expires, data)
            self._peers.push(peer, frame, expires)
            return 0

    def send_group(self, group: str, data: bytes) -> bool:
        """Send to each member of a group; True if some are here and need a turn."""
        self._require_size(group, data)
        now = time.monotonic()
        expires = now + self._options.expiry
        with self.lock:
            self._sweep(now)
            self._peers.look()
            self._peers.push_group(group, data, expires, now)
            group_expiry = self._options.group_expiry
            for channel in self._folder.current_members(group, group_expiry):
                try:
                    self._send_plain(channel, data, expires, now)
                except ChannelFull:
                    _log_full(1, 1, group)
            if group not in self.groups:
                return False
            self._deliver_group(group, data, expires, now)
            return True

    async def receive(self, channel: str, is_plain: bool) -> bytes:
        """Return the next message of a channel."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._intake is None:
            self.attend(loop)
        while True:
            now = time.monotonic()
            with self.lock:
                self._sweep(now)
                data = self._take(channel, now, is_plain)
                if data is not None:
                    return data
                queue = self._queue(channel)
                waiter = queue.wait(loop)
                if is_plain:
                    self._show(channel, queue)
            try:
                await waiter
            except BaseException:
                with self.lock:
                    self._forget(channel, queue, waiter, is_plain)
                raise

    def new_channel(self, prefix: str) -> str:
        """Return the name of a new channel of this process."""
        with self.lock:
            self.open()
        return f"{prefix}.{self.name}!{os.urandom(8).hex()}"

    # Groups

    def join_group(self, group: str, channel: str) -> None:
        """Add a channel to a group, or renew its time of joining."""
        with self.lock:
            owner = owner_of(channel)
            if owner is None:
                self._folder.add_member(group, channel)
            elif owner == self.name:
                self.open()
                self.groups.join(group, channel, time.monotonic())
            elif (peer := self._peers.find(owner)) is not None:
                expires = time.monotonic() + self._options.expiry
                peer.invite(group, expires)
                self._peers.tell(peer, FrameKind.JOIN, group, channel)

    def leave_group(self, group: str, channel: str) -> None:
        """Take a channel out of a group."""
        with self.lock:
            owner = owner_of(channel)
            if owner is None:
                self._folder.discard_member(group, channel)
            elif owner == self.name:
                self.groups.leave(group, channel)
            elif (peer := self._peers.find(owner)) is not None:
                self._peers.tell(peer, FrameKind.LEAVE, group, channel)

    def flush(self) -> None:
        """Forget all messages and memberships, in all processes."""
        with self.lock:
            self._flush_here()
            self._folder.clear_members()
            self._peers.look()
            for peer in self._peers:
                self._peers.tell(peer, FrameKind.FLUSH, "", "")

    # Presence

    def open(self) -> None:
        """Be where others find this process. The caller holds the lock."""
        if self._intake is None and not self._is_out:
            self._enter_folder()

    def _enter_folder(self) -> Intake:
        folder = self._folder
        owner = folder.make()
        folder.look()
        folder.clean()
        path = folder.register_of(self.name)
        register = OwnRegister(folder.new(path), owner)
        try:
            intake = Intake(folder, self.name, self._frame_limit, self._deliver)
        except (OSError, ImproperlyConfigured):
            register.close()
            os.unlink(folder.new(path))
            raise
        self.groups.show(register)
        self._register, self._intake = register, intake
        # With it the process is there.
        folder.publish(path)
        return intake

    def attend(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read on this loop, which runs, unless another one does."""
        with self.lock:
            self.open()
            if self._loop is loop:
                return
            if self._loop is not None and self._loop.is_running():
                if loop not in self._watching:
                    self._watching.add(loop)
                    loop.call_later(_BEAT, self._watch, loop)
                return
            if self._intake is not None:
                self._intake.attach(loop)
            self._loop = loop
            self._beat(time.monotonic())
        loop.call_later(_BEAT, self._tick, loop)

    def close(self) -> None:
        """Leave, having handed over what others can still use."""
        self._errands.close()
        with self.lock:
            self._hand_over()
            self._leave_folder()
        if self._peers_made is not None:
            self._write_out()
        with self.lock:
            if self._peers_made is not None:
                self._peers_made.close()
            self._begin()

    def _leave_folder(self) -> None:
        register, self._register = self._register, None
        intake, self._intake = self._intake, None
        self.groups.show(None)
        self._loop = None
        if intake is not None and register is not None:
            try:
                self._folder.remove(self.name)
            finally:
                intake.close()
                register.close()

    def abandon(self) -> None:
        """Be a separate process: this is a forked child, with the parent's files."""
        register, intake, peers = self._register, self._intake, self._peers_made
        self._begin()
        if intake is not None:
            intake.abandon()
        if peers is not None:
            peers.close()
        if register is not None:
            register.close()

    # Below, the caller holds the lock.

    @property
    def _frame_limit(self) -> int:
        return self._options.peer_limit

    def _require_size(self, name: str, data: bytes) -> None:
        size = frame_size(name, data)
        if size > self._frame_limit:
            raise ValueError(
                f"A message of {size} bytes is too long for the channel layer, whose "
                f"'peer_buffer' is {self._frame_limit} bytes."
            )

    def _queue(self, channel: str) -> Queue:
        queue = self.queues.get(channel)
        if queue is None:
            queue = self.queues[channel] = Queue(self._options.capacity(channel))
        return queue

    def _put(self, channel: str, data: bytes, expires: float, now: float) -> int:
        queue = self._queue(channel)
        if not queue.put(expires, data, now):
            raise ChannelFull(channel)
        if queue.is_full:
            self._show(channel, queue)
        return len(queue.messages)

    def _take(self, channel: str, now: float, is_plain: bool) -> bytes | None:
        queue = self.queues.get(channel)
        if is_plain:
            self._received[channel] = now
            self._held.discard(channel)
        if queue is None:
            return None
        data = queue.take(now)
        if is_plain or queue.is_shown_full:
            self._show(channel, queue)
        if queue.is_idle:
            del self.queues[channel]
        return data

    def _forget(
        self,
        channel: str,
        queue: Queue,
        waiter: asyncio.Future[None],
        is_plain: bool,
    ) -> None:
        """Take back a receiver that was cancelled."""
        queue.forget(waiter)
        if is_plain and not queue.waiters:
            # It may come back, or this may be its end: then others get what is left.
            self._received.pop(channel, None)
            self._show(channel, queue)
            self._hold(channel, queue)
        if queue.is_idle and self.queues.get(channel) is queue:
            del self.queues[channel]

    def _show(self, channel: str, queue: Queue) -> None:
        """Let the peers see what is done with a channel."""
        queue.is_shown_full = queue.is_full
        if self._register is None:
            return
        if queue.is_full:
            state = State.FULL
        elif queue.waiters:
            state = State.WAITING
        elif channel in self._received:
            state = State.BUSY
        else:
            state = State.NONE
        if not self._register.set_state(channel, state):
            logger.error("Channel layer: too many channels at once to show %s", channel)

    def _deliver_group(
        self, group: str, data: bytes, expires: float, now: float
    ) -> bool:
        """Put a message before each member here; True if some lag behind."""
        members = self.groups[group]
        cutoff = now - self._options.group_expiry
        queues = self.queues
        over: list[str] = []
        old: list[str] = []
        lags = False
        for channel, joined in members.items():
            if joined <= cutoff:
                old.append(channel)
                continue
            queue = queues.get(channel)
            if queue is None:
                queue = self._queue(channel)
            if not queue.put(expires, data, now):
                over.append(channel)
                continue
            waiting = len(queue.messages)
            if waiting + waiting > queue.capacity:
                lags = True
                if waiting >= queue.capacity:
                    self._show(channel, queue)
        if over:
            _log_full(len(over), len(members), group)
        for channel in old:
            self.groups.leave(group, channel)
        return lags

    def _deliver(self, frame: Frame) -> bool:
        """Take what a peer has sent; True if its receivers lag behind."""
        kind, name, expires, data = frame
        now = time.monotonic()
        if expires <= now:
            return False
        with self.lock:
            if kind is FrameKind.GROUP:
                if name not in self.groups:
                    return False
                return self._deliver_group(name, data, expires, now)
            if kind is FrameKind.CHANNEL:
                return self._deliver_to_channel(name, data, expires, now)
            if kind is FrameKind.FLUSH:
                self._flush_here()
            elif kind is FrameKind.JOIN:
                self.groups.join(name, data.decode("ascii"), now)
            else:
                self.groups.leave(name, data.decode("ascii"))
        return False

    def _deliver_to_channel(
        self, channel: str, data: bytes, expires: float, now: float
    ) -> bool:
        owner = owner_of(channel)
        if owner not in (None, self.name):
            return False
        try:
            waiting = self._put(channel, data, expires, now)
        except ChannelFull:
            logger.info("Channel layer: channel %s is over capacity", channel)
            return True
        if owner is None:
            self._show(channel, self.queues[channel])
            self._hold(channel, self.queues[channel])
        return 2 * waiting > self._options.capacity(channel)

    def _flush_here(self) -> None:
        self.groups.leave_all()
        for channel, queue in list(self.queues.items()):
            queue.messages.clear()
            self._show(channel, queue)
            if queue.is_idle:
                del self.queues[channel]
        self._held.clear()

    # Plain names

    def _send_plain(self, channel: str, data: bytes, expires: float, now: float) -> int:
        """Give a message to one of those who receive from a plain name."""
        self._peers.look()
        if channel in self._held:
            # Those before it go first.
            self._reroute(channel, now)
        if channel not in self._held:
            here = self.queues.get(channel)
            is_here = bool(here is not None and here.waiters)
            for state in (State.WAITING, State.BUSY):
                if is_here:
                    break
                if self._peers.push_plain(channel, data, expires, now, state):
                    return 0
                is_here = self._is_received(channel, now) and not (
                    here is not None and here.is_full
                )
        waiting = self._put(channel, data, expires, now)
        self._show(channel, self.queues[channel])
        self._hold(channel, self.queues[channel])
        return waiting

    def _is_received(self, channel: str, now: float) -> bool:
        """Return whether somebody here receives from a plain name."""
        moment = self._received.get(channel)
        if moment is None:
            return False
        queue = self.queues.get(channel)
        return now - moment <= _BUSY or bool(queue is not None and queue.waiters)

    def _hold(self, channel: str, queue: Queue) -> None:
        """Have the messages of a plain name brought to a receiver, if it has none."""
        if queue.messages and not self._is_received(channel, time.monotonic()):
            self._held.add(channel)
            self._errands.start()

    def _reroute(self, channel: str, now: float) -> None:
        """Send on what is held for a plain name, as far as there are receivers."""
        queue = self.queues.get(channel)
        while queue is not None:
            queue.drop_expired(now)
            if not queue.messages or self._is_received(channel, now):
                break
            expires, data = queue.messages[0]
            if not any(
                self._peers.push_plain(channel, data, expires, now, state)
                for state in (State.WAITING, State.BUSY)
            ):
                return
            queue.messages.popleft()
        self._held.discard(channel)
        if queue is not None and queue.is_idle:
            self._show(channel, queue)
            del self.queues[channel]

    def _hand_over(self) -> None:
        """Give the messages of plain names to peers, receivers or not."""
        now = time.monotonic()
        self._received.clear()
        held = [name for name in self.queues if owner_of(name) is None]
        if not any(self.queues[name].messages for name in held):
            return
        self._peers.look()
        for channel in held:
            self._reroute(channel, now)
            queue = self.queues.get(channel)
            keeper = next(self._peers.attended(now), None)
            while keeper is not None and queue is not None and queue.messages:
                expires, data = queue.messages.popleft()
                frame = pack_frame(FrameKind.CHANNEL, channel, expires, data)
                self._peers.push(keeper, frame, expires)

    # What is done in time

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is not loop:
            return
        now = time.monotonic()
        with self.lock:
            self._beat(now)
            self._sweep(now)
            for channel, moment in list(self._received.items()):
                queue = self.queues.get(channel)
                if now - moment > _BUSY and not (queue and queue.waiters):
                    self._rest(channel, queue)
            if now - self._checked_at > _CHECK_FOLDER:
                self._checked_at = now
                self._stay_in_folder(loop)
        loop.call_later(_BEAT, self._tick, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Take the reading over if the loop that did it has ended."""
        self._watching.discard(loop)
        if self._intake is not None or self._is_out:
            self.attend(loop)

    def _beat(self, now: float) -> None:
        if self._register is not None:
            self._register.beat(now + _TRUST)

    def _rest(self, channel: str, queue: Queue | None) -> None:
        """Get no more messages of a plain name: none has been asked for lately."""
        del self._received[channel]
        queue = self._queue(channel) if queue is None else queue
        self._show(channel, queue)
        if queue.is_idle:
            self.queues.pop(channel, None)
        else:
            self._hold(channel, queue)

    def _sweep(self, now: float) -> None:
        if now - self._swept_at < min(_SWEEP, self._options.expiry):
            return
        self._swept_at = now
        for channel in self.queues.sweep(now):
            queue = self.queues[channel]
            self._show(channel, queue)
            if queue.is_idle:
                del self.queues[channel]

    def _stay_in_folder(self, loop: asyncio.AbstractEventLoop) -> None:
        """Come back if something has cleaned the folder, as is done in /tmp."""
        if self._intake is not None and self._folder.has(self.name):
            return
        try:
            self._leave_folder()
            self._loop = loop
            self._enter_folder().attach(loop)
        except (OSError, ImproperlyConfigured) as error:
            # The folder may be for another to make, as systemd makes that of a unit.
            # It is tried again at each check; until then this process is by itself.
            self._loop = loop
            if not self._is_out:
                logger.error("Channel layer: cut off from other processes: %s", error)
            self._is_out = True
            return
        if self._is_out:
            logger.info("Channel layer: no longer cut off from other processes")
            self._is_out = False
        self._show_all()
        self._beat(time.monotonic())

    def _show_all(self) -> None:
        """Show all channels again."""
        for channel, queue in self.queues.items():
            if owner_of(channel) is None or queue.is_full:
                self._show(channel, queue)

    def _do_errands(self) -> list[int] | None:
        """Do what was left to be done; return the sockets to wait for, None at the end.

        The thread of ``errands`` calls this, without the lock.
        """
        now = time.monotonic()
        with self.lock:
            if self._held:
                self._peers.look()
            for channel in list(self._held):
                self._reroute(channel, now)
            waiting = self._peers.flush(now)
            if not waiting and not self._held:
                return None
            return [peer.sock.fileno() for peer in waiting if peer.sock is not None]

    def _write_out(self) -> None:
        """Give peers a moment for what is kept for them."""
        end = time.monotonic() + _LAST_MOMENT
        while time.monotonic() < end:
            with self.lock:
                if not self._peers.flush(time.monotonic()):
                    return
            time.sleep(0.005)


def owner_of(channel: str) -> str | None:
    """Return the process that a channel's name holds, None for a plain name."""
    head, bang, _ = channel.partition("!")
    return head.rpartition(".")[2] if bang else None


def _log_full(number: int, of: int, group: str) -> None:
    # As channels_redis words it, for those who look for it in their logs.
    logger.info("%d of %d channels over capacity in group %s", number, of, group)


_nodes: weakref.WeakSet[LayerNode] = weakref.WeakSet()


def _abandon_all() -> None:
    for node in list(_nodes):
        node.abandon()


if CAN_FORK:
    os.register_at_fork(after_in_child=_abandon_all)
