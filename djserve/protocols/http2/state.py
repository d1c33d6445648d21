"""Who may send on a stream, and how much (RFC 9113 sections 5.1 and 5.2)."""

from __future__ import annotations

from h2.windows import WindowManager


class StreamState:
    """A stream that the peer has opened, or that it was promised.

    It is open if it may receive and send, half-closed if one of them, closed if none. A
    promised one is reserved until its head is sent. h2 finds it among its streams and
    adjusts ``outbound_flow_control_window`` and ``max_outbound_frame_size`` when the
    peer's settings change.
    """

    __slots__ = (
        "expected_size",
        "is_head_sent",
        "max_outbound_frame_size",
        "may_receive",
        "may_send",
        "outbound_flow_control_window",
        "receive_window",
        "received_size",
        "stream_id",
    )

    def __init__(
        self, stream_id: int, send_window: int, size: int | None, is_complete: bool
    ) -> None:
        """``size`` is the content's, as far as the peer says it.

        ``is_complete``: the peer has ended its side.
        """
        self.stream_id = stream_id
        self.may_receive = not is_complete
        self.may_send = True
        self.is_head_sent = False
        self.outbound_flow_control_window = send_window
        self.expected_size = size
        self.received_size = 0
        # Most requests have no content, and need none.
        self.receive_window: WindowManager | None = None

    @property
    def is_closed(self) -> bool:
        return not (self.may_receive or self.may_send)

    @property
    def is_reserved(self) -> bool:
        """Whether it was promised, and its response has not begun."""
        return self.stream_id % 2 == 0 and not self.is_head_sent

    def close(self) -> None:
        """End both sides: the stream was reset."""
        self.may_receive = self.may_send = False

    def consume(self, size: int, window_size: int) -> None:
        """Take content off the peer's window, which began with ``window_size``.

        Raises h2's FlowControlError if it is larger than that.
        """
        if self.receive_window is None:
            self.receive_window = WindowManager(window_size)
        self.receive_window.window_consumed(size)
