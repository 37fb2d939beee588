"""Passwords: argon2id hashes, made and checked on threads of their own, never on the event loop."""

from __future__ import annotations

import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mlhost.auth.threads import Threads
from mlhost.errors import Invalid

THREADS = 2  # hashing at once: each takes 64 MiB and a core for a quarter of a second
MIN_LENGTH = 8  # characters, as the original's
MAX_BYTES = 1024  # of a password; hashing time must not be the caller's choice
GENERATED_BYTES = 15  # of randomness in a generated password: 20 characters


class Passwords:
    """Hashes and checks passwords; `hasher` sets the cost (argon2-cffi's default is RFC 9106's second choice)."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = Threads(THREADS, "password")
        self._nobody = ""  # the hash an unknown user's password is checked against

    async def hash(self, password: str) -> str:
        """The hash to keep; Invalid if the password is too short or too long."""
        try:
            length = len(password.encode())
        except UnicodeEncodeError:
            raise Invalid("The password holds something that is no text.", field="password") from None
        if len(password) < MIN_LENGTH or length > MAX_BYTES:
            raise Invalid(
                f"A password has at least {MIN_LENGTH} characters and at most {MAX_BYTES} bytes.", field="password"
            )
        return await self._threads.run(self._hasher.hash, password)

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether the password fits the hash; for an unknown user (None) it takes as long and is False."""
        if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            return False
        return await self._threads.run(self._verify, kept, password)

    def close(self) -> None:
        """End the threads."""
        self._threads.close()

    def _verify(self, kept: str | None, password: str) -> bool:
        if kept is None:
            self._nobody = self._nobody or self._hasher.hash(secrets.token_urlsafe())
        try:
            return self._hasher.verify(kept or self._nobody, password) and kept is not None
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False


def generate() -> str:
    """A random password to print once."""
    return secrets.token_urlsafe(GENERATED_BYTES)
