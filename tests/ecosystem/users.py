"""The users of the runs: what each sends, and what its answers must show."""

from __future__ import annotations

from dataclasses import dataclass

REQUESTS = 96
SOCKETS = 12
MESSAGES = 4
AT_A_TIME = 16

# Some send none, so that another user's would be seen in its place.
LANGUAGES = ["", "de", "fr", "", "es", "it", "pt"]
ZONES = ["", "Europe/Berlin", "Asia/Tokyo", "", "America/Lima"]

DEFAULT_LANGUAGE = "en"
DEFAULT_ZONE = "UTC"


@dataclass(frozen=True)
class User:
    """One person, known by a session, with a language and a time zone."""

    number: int

    @property
    def name(self) -> str:
        return f"user{self.number:03}"

    @property
    def session(self) -> str:
        return f"session-of-{self.name}-00000000"

    @property
    def language(self) -> str:
        return LANGUAGES[self.number % len(LANGUAGES)]

    @property
    def zone(self) -> str:
        return ZONES[self.number % len(ZONES)]

    @property
    def headers(self) -> dict[str, str]:
        """Return the fields that every request of this user has."""
        headers = {
            "Cookie": f"sessionid={self.session}",
            "X-Who": self.name,
            "Correlation-ID": self.name,
        }
        if self.language:
            headers["Accept-Language"] = self.language
        if self.zone:
            headers["X-Zone"] = self.zone
        return headers


USERS = [User(number) for number in range(REQUESTS)]
