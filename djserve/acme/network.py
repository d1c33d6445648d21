"""The library's HTTP client, with what an authority may say of its limits.

Imports the library: for the process of an order alone.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from acme import client, messages

if TYPE_CHECKING:
    import requests

# RFC 8555 section 6.5: a nonce may be refused at any time, and the request is to be
# sent again with the new one. Each try is two of the library's.
NONCE_TRIES = 5

# RFC 8555 section 6.6, RFC 9110 section 10.2.3.
_LIMITED = (429, 503)


class Network(client.ClientNetwork):
    """A client that repeats what is refused for its nonce, and notes Retry-After."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.retry_after: float | None = None
        """The seconds that the last refusal has asked for, None if it has not."""
        self.session.hooks["response"].append(self._note)

    def post(self, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(NONCE_TRIES - 1):
            try:
                return super().post(*args, **kwargs)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*args, **kwargs)

    def _note(self, response: requests.Response, *args: Any, **kwargs: Any) -> None:
        if response.status_code in _LIMITED:
            text = response.headers.get("Retry-After", "")
            self.retry_after = read_retry_after(text, time.time())


def read_retry_after(text: str, now: float) -> float | None:
    """Return the seconds to wait: of a number, or until a date (RFC 9110 10.2.3)."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except ValueError:
        return None
