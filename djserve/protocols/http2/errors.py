"""What a peer can do wrong, with the HTTP/2 error code that tells it."""

# Why allowances
#
# A frame of a few bytes can cost us a stream, an exchange and a call of the
# application: a stream that is opened and reset at once (CVE-2023-44487), and PING,
# SETTINGS and their like, each of which has to be answered (CVE-2019-9512, -9515).
# None of them is against the protocol, and every client sends some, so what counts is
# how many of them come without honest work in between.
#
# A limit for the life of a connection would end the long ones, which are the best; a
# limit for each second would end a client that does much in a short time once. So an
# allowance is a bucket: full at first, refilled over ``PERIOD`` by the server's sweep,
# and filled up by what the peer earns with work that pays for itself. An honest peer
# never sees the bottom; another one gets there in a time that does not depend on how
# long it has behaved before.

from __future__ import annotations

from h2.errors import ErrorCodes

from djserve.errors import ProtocolError


class HTTP2Error(ProtocolError):
    """A connection error or, with a ``stream_id``, a stream error (RFC 9113 5.4)."""

    def __init__(
        self,
        reason: str,
        code: ErrorCodes = ErrorCodes.PROTOCOL_ERROR,
        stream_id: int = 0,
        *,
        setting: str = "",
    ) -> None:
        super().__init__(reason, setting=setting)
        self.code = code
        self.stream_id = stream_id


class Allowance:
    """How often a peer may do what costs it less than us.

    It begins full. ``refill`` gives it back over ``PERIOD`` seconds, ``earn`` when the
    peer did honest work. ``spend`` raises HTTP2Error once nothing is left, with the
    ``setting`` that the limit is from.
    """

    __slots__ = ("_left", "_limit", "_setting", "_what")

    PERIOD = 10.0

    def __init__(self, what: str, limit: int, setting: str = "") -> None:
        self._what = what
        self._setting = setting
        self._limit = limit
        self._left = float(limit)

    def spend(self) -> None:
        self._left -= 1.0
        if self._left < 0.0:
            raise HTTP2Error(
                f"Too many {self._what}",
                ErrorCodes.ENHANCE_YOUR_CALM,
                setting=self._setting,
            )

    def earn(self, count: float) -> None:
        left = self._left + count
        self._left = left if left < self._limit else self._limit

    def refill(self, seconds: float) -> None:
        self.earn(self._limit * seconds / self.PERIOD)
