"""What a service refuses, in words for the person and a code for the client."""

from __future__ import annotations


class Refused(Exception):
    """The service did nothing, and says why."""

    code = "refused"
    status = 400

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Forbidden(Refused):
    """The user may not do this."""

    code = "forbidden"
    status = 403


class Invalid(Refused):
    """What was sent is not acceptable as it is."""

    code = "invalid"


class TooMany(Refused):
    """The user's rate limit is reached."""

    code = "rate"
    status = 429
