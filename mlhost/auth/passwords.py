"""Passwords: argon2id hashes, made and checked on threads of their own, never on the event loop."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from mlhost.errors import Invalid, Throttled

THREADS = 2  # hashing at once: each takes 64 MiB and a core for a quarter of a second
MAX_WAITING = 20  # logins in the queue before the next is told to come back
MIN_LENGTH = 8  # characters, as the original's
MAX_BYTES = 1024  # of a password; hashing time must not be the caller's choice
GENERATED_BYTES = 15  # of randomness in a generated password: 20 characters

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Passwords:
    """Hashes and checks passwords; `hasher` sets the cost (argon2-cffi's default is RFC 9106's second choice)."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="password")
        self._waiting = 0
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
        return await self._on_thread(self._hasher.hash, password)

    async def verify(self, kept: str | None, password: str) -> bool:
        """Whether the password fits the hash; for an unknown user (None) it takes as long and is False."""
        if len(password.encode("utf-8", "surrogatepass")) > MAX_BYTES:
            return False
        return await self._on_thread(self._verify, kept, password)

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verify(self, kept: str | None, password: str) -> bool:
        if kept is None:
            self._nobody = self._nobody or self._hasher.hash(secrets.token_urlsafe())
        try:
            return self._hasher.verify(kept or self._nobody, password) and kept is not None
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    async def _on_thread(self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        if self._waiting >= MAX_WAITING:
            raise Throttled("Too many logins at once; try again in a few seconds.", retry_after_seconds=5)
        self._waiting += 1
        try:
            return await asyncio.wrap_future(self._threads.submit(function, *args, **kwargs))
        finally:
            self._waiting -= 1


def generate() -> str:
    """A random password to print once."""
    return secrets.token_urlsafe(GENERATED_BYTES)
