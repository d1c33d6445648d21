"""The whole exception tree, divided by whose fault it is.

DjserveError
├── ConfigError          the operator's: refuse to start (exit code 2)
├── ListenError          the system's: an address cannot be bound (exit code 1)
├── ProtocolError        the peer's: carries the HTTP status that answers it
├── ApplicationError     the application's: it broke ASGI; logged with a traceback
│   └── UnexpectedMessage
├── LifespanError        the application's: its start-up failed (exit code 3)
└── ClientDisconnected   no one's: the peer went away (also an OSError, ASGI 2.4)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CHANNELS_HINT = 'Install it: python -m pip install "djserve[channels]"'
"""What is added to an error that comes from the lack of Channels."""


class DjserveError(Exception):
    """Base of every exception that djserve raises on purpose."""


class ConfigError(DjserveError):
    """One or more settings or options are wrong.

    ``problems`` holds one line for each, so that all can be shown together.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(self.problems))


class ListenError(DjserveError):
    """An address cannot be listened on: says which, why, and what may help."""

    def __init__(self, address: str, reason: str, hint: str = "") -> None:
        self.address = address
        self.reason = reason
        self.hint = hint
        message = f"Cannot listen on {address}: {reason}"
        super().__init__(f"{message}. {hint}" if hint else message)


class ProtocolError(DjserveError):
    """The peer broke the protocol.

    ``status`` is the HTTP status to answer with (RFC 9110 section 15).
    ``headers`` are fields that this answer needs in addition to the usual ones.
    ``setting`` is the one that refuses it, for the log: its value is for the operator.
    ``is_recorded`` is set by the exchange that it ended, if there was one: the
    request log has the request then.
    """

    def __init__(
        self,
        reason: str,
        status: int = 400,
        headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        setting: str = "",
    ) -> None:
        self.reason = reason
        self.status = status
        self.headers = list(headers)
        self.setting = setting
        self.is_recorded = False
        super().__init__(reason)


class ApplicationError(DjserveError):
    """The application broke the ASGI contract."""


class UnexpectedMessage(ApplicationError):
    """The application sent a message that its conversation's state does not allow."""

    def __init__(self, message_type: object, state: object) -> None:
        super().__init__(f"Unexpected ASGI message {message_type!r} in state {state}")


class SendAfterClose(UnexpectedMessage):
    """The application sent on a WebSocket that it had closed."""


class LifespanError(DjserveError):
    """The lifespan's start-up failed, or there is none and one is required."""


class ClientDisconnected(DjserveError, OSError):
    """The client is gone; ``send`` raises this (ASGI HTTP 2.4)."""

    def __init__(self) -> None:
        super().__init__("The client has disconnected")
