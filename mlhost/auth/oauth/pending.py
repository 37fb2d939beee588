"""What is under way between a program and its user: for minutes, in memory, gone with the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from mlhost.auth.oauth.clients import SCOPE
from mlhost.errors import Busy

CODE_SECONDS = 60.0
DEVICE_SECONDS = 600.0
POLL_SECONDS = 5.0  # between two questions of a device
MAX_PENDING = 1000  # of either kind

Entry = TypeVar("Entry")


class Pending(Generic[Entry]):
    """A bounded table whose entries end after some time."""

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._entries: dict[str, tuple[float, Entry]] = {}  # all live equally long: the oldest come first

    def add(self, key: str, entry: Entry) -> None:
        """Keep an entry; Busy when there are too many."""
        now = self._clock()
        while self._entries and next(iter(self._entries.values()))[0] <= now:
            del self._entries[next(iter(self._entries))]
        if len(self._entries) >= MAX_PENDING:
            raise Busy(
                "Too many programs wait for their users to sign in; try again in a minute.", retry_after_seconds=60
            )
        self._entries[key] = (now + self._seconds, entry)

    def get(self, key: str) -> Entry | None:
        """The entry, if it is there and has not ended."""
        ends_at, entry = self._entries.get(key, (0.0, None))
        return entry if ends_at > self._clock() else None

    def pop(self, key: str) -> Entry | None:
        """The same, and it is gone: good once."""
        entry = self.get(key)
        self._entries.pop(key, None)
        return entry


@dataclass(frozen=True, slots=True)
class Code:
    """An authorization code that a user has allowed."""

    client_id: str
    redirect_uri: str
    user: str
    code_challenge: str
    code_challenge_method: str

    def get_redirect_uri(self) -> str:
        """Where it was sent, which must be told again."""
        return self.redirect_uri

    def get_scope(self) -> str:
        """The only scope there is."""
        return SCOPE


@dataclass(slots=True)
class Device:
    """A device that waits for a user to type its code."""

    client_id: str
    device_code: str
    user_code: str
    polled_at: float = 0.0
    user: str | None = None  # who has decided
    is_allowed: bool = False

    def get_client_id(self) -> str:
        """The program that asks."""
        return self.client_id

    def get_scope(self) -> str:
        """The only scope there is."""
        return SCOPE

    def get_user_code(self) -> str:
        """What the user types."""
        return self.user_code

    def is_expired(self) -> bool:
        """False: one that has ended is not found."""
        return False
