"""Tokens checked before: a bounded table, so that a call costs one lookup; whatever ends a token edits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mlhost.auth.principal import Principal
from mlhost.auth.users import Users

MAX_REMEMBERED = 10_000  # checked tokens

Mark = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Checked:
    who: Principal
    source: str  # id of the grant or the personal token
    expires_on: float


class Known:
    """Who the tokens checked before belong to."""

    def __init__(self, users: Users, clock: Callable[[], float]) -> None:
        self._users = users
        self._clock = clock
        self._checked: dict[str, _Checked] = {}
        self._users_seen = users.changes
        self._ended = 0  # how often something was forgotten

    def get(self, token: str) -> Principal | None:
        """Who a token belongs to; None if it must be checked."""
        if self._users.changes != self._users_seen:
            self._checked.clear()
            self._users_seen = self._users.changes
        checked = self._checked.get(token)
        return checked.who if checked is not None and checked.expires_on > self._clock() else None

    def mark(self) -> Mark:
        """How things are before the store is asked; `remember` keeps nothing if they changed meanwhile."""
        return self._ended, self._users.changes

    def remember(self, token: str, who: Principal, source: str, expires_on: float, mark: Mark) -> None:
        """Keep what was found out about a token, unless it may have ended since `mark`."""
        if mark != self.mark():
            return
        if len(self._checked) >= MAX_REMEMBERED:
            self._checked.pop(next(iter(self._checked)))
        self._checked[token] = _Checked(who, source, expires_on)

    def forget(self, source: str) -> None:
        """A grant was renewed or ended, or a personal token revoked."""
        self._ended += 1
        for token in [token for token, checked in self._checked.items() if checked.source == source]:
            del self._checked[token]
