"""The content of a request on a stream: held back, delivered, and credited to the peer.

Flow control is what bounds it. A peer may send as much as its credit allows, and gets
new credit only for what the application has read, so that what waits here is never more
than one window (RFC 9113 section 5.2, RFC 9000 section 4).
"""

# Who gets the content, and when
#
# It goes to the exchange, or after an upgrade to the tunnel's receiver. Until then it
# is held, and there are two reasons for that, which are independent of each other:
#
#   paused    the receiver has asked for it, and ends it by ``resume``
#   waiting   there is no receiver yet: the request has not been handed on, or asks for
#             an upgrade that the application has not accepted. Clients may send ahead
#             of the answer, and these bytes belong to the protocol behind the upgrade,
#             not to the exchange. ``start`` ends it.
#
# An exchange's content is credited when the application asks for more, not when it is
# delivered: the exchange keeps what it has not handed out, and this is what
# ``request_content`` on the stream reports. A tunnel's receiver pauses if it has too
# much, so its bytes are credited as they are delivered.
#
# The end of the content is delivered once, behind its last byte. To deliver may do
# anything to the stream: pause it, upgrade it, end it. So everything is looked at again
# after each delivery, and what was held is taken out before it is handed over.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from djserve.interfaces import Exchange, WireProtocol
    from djserve.protocols.multiplexed.tunnel import Tunnel


# Parts that wait are joined up to this: a part of two bytes takes thirty times as much,
# and a client may send a whole window of them.
_PART_SIZE = 4096


class ContentStream(Protocol):
    """What the content asks of its stream."""

    exchange: Exchange | None
    tunnel: Tunnel | None

    @property
    def may_receive(self) -> bool:
        """Whether the peer has not ended its side."""

    def give_credit(self, size: int, /) -> None:
        """Let the peer send so many bytes more."""


class RequestContent:
    """Deliver the content of one request to what uses the stream.

    ``is_waiting``: ``start`` follows. A request that is complete with its head needs
    none of this: its stream delivers the end itself.
    """

    __slots__ = (
        "_held",
        "_is_end_delivered",
        "_is_paused",
        "_is_waiting",
        "_stream",
        "_unread",
    )

    def __init__(self, stream: ContentStream, is_waiting: bool) -> None:
        self._stream = stream
        self._is_waiting = is_waiting
        self._is_paused = False
        self._is_end_delivered = False
        self._held: list[bytes] = []
        self._unread = 0

    @property
    def is_unread(self) -> bool:
        """Whether the peer need not send: the receiver has to read, or to come, first.

        An upgrade comes once the application has accepted, which may wait for a thread.
        """
        return self._is_paused or self._is_waiting or self._unread > 0

    @property
    def held_size(self) -> int:
        return sum(map(len, self._held))

    def receive(self, data: bytes, credit: int) -> None:
        """Take the next part, which took ``credit`` of the peer's window."""
        self._unread += credit
        if self._is_paused or self._is_waiting:
            held = self._held
            if held and len(data) + len(held[-1]) <= _PART_SIZE:
                held[-1] += data
            elif data:
                held.append(data)
        else:
            self._deliver(data)

    def deliver_end(self) -> None:
        """Tell the receiver that the content is complete, once it is."""
        stream = self._stream
        if (
            stream.may_receive
            or self._is_paused
            or self._is_waiting
            or self._is_end_delivered
        ):
            return
        self._is_end_delivered = True
        if stream.tunnel is not None:
            stream.tunnel.receiver.eof_received()
        elif stream.exchange is not None:
            stream.exchange.eof_received()

    def start(self) -> None:
        """Deliver from now on: there is a receiver."""
        self._is_waiting = False
        if not self._is_paused:
            self.resume()

    def pause(self) -> None:
        """Deliver no more; the peer's credit bounds what may still come."""
        self._is_paused = True

    def resume(self) -> None:
        """Deliver again, beginning with what has come in the meantime."""
        self._is_paused = False
        if self._is_waiting:
            return
        held, self._held = self._held, []
        if held or not self._stream.may_receive:
            self._deliver(b"".join(held))

    def credit_read(self) -> None:
        """Give credit for what the exchange has read; it has read all that it got."""
        if self._unread and not self._held:
            self._stream.give_credit(self.take_unread())

    def take_unread(self) -> int:
        """Return the size for which no credit was given, and forget it."""
        unread, self._unread = self._unread, 0
        return unread

    def stop(self) -> None:
        """Drop what is held, and deliver nothing more, not even the end."""
        self._held.clear()
        self._unread = 0
        self._is_end_delivered = True

    def _deliver(self, data: bytes) -> None:
        stream = self._stream
        receiver: WireProtocol | None = stream.exchange
        if stream.tunnel is not None:
            receiver = stream.tunnel.receiver
            stream.give_credit(self.take_unread())
            if stream.tunnel.is_closing:
                return
        if data and receiver is not None:
            receiver.data_received(data)
        self.deliver_end()
