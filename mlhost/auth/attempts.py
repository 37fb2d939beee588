"""Attempts to sign in: whoever fails too often waits, longer after each failure, and nobody else waits with them.

Failures are counted for a name at an address, and for an address whatever the names. Guessing a user's password from
elsewhere therefore keeps the user out of nothing, and no wait is longer than its bound. What is kept is bounded too:
the entry that failed longest ago makes room for the next, and each costs whoever makes it the hashing of a password.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from time import monotonic
from unicodedata import normalize

from mlhost.errors import Throttled, Unauthenticated

MAX_ENTRIES = 10_000  # names at addresses, and as many addresses: some 4 MB in all
IPV6_SITE_BITS = 64  # one customer has as many addresses as that leaves


@dataclass(frozen=True, slots=True)
class Patience:
    """How many failures are free, and how long one waits after the next, twice as long each time."""

    free: int
    first_seconds: float
    longest_seconds: float
    forget_seconds: float  # after the last failure and the wait that followed it

    def wait_seconds(self, failures: int) -> float:
        """The wait after so many failures in a row."""
        beyond = failures - self.free
        return min(self.first_seconds * 2.0 ** min(beyond, 32), self.longest_seconds) if beyond >= 0 else 0.0


# Fourteen guesses in the first quarter of an hour, then three in each.
WITH_A_NAME = Patience(free=5, first_seconds=2.0, longest_seconds=300.0, forget_seconds=900.0)
# Many people may share an address, so it has more patience and waits are short; but it must not take all the hashing.
FROM_AN_ADDRESS = Patience(free=50, first_seconds=1.0, longest_seconds=30.0, forget_seconds=120.0)


class Attempts:
    """Who failed to sign in of late; `clock` counts seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._pairs = _Failures(WITH_A_NAME, clock)
        self._addresses = _Failures(FROM_AN_ADDRESS, clock)

    @contextmanager
    def attempt(self, name: str, address: str | None) -> Iterator[None]:
        """Around the check of a password: Throttled while there is a wait; Unauthenticated inside counts as a failure.

        A success ends the wait of the name at this address. That of the address only runs out: else a password of
        one's own would buy any number of guesses at those of others.
        """
        site = _site(address)
        pair = sha256(f"{site} {_folded(name)}".encode("utf-8", "surrogatepass")).digest()  # as long, whatever the name
        for failures, key in ((self._pairs, pair), (self._addresses, site)):
            if seconds := failures.seconds_left(key):
                message = f"Too many failed attempts to sign in; try again in {seconds} seconds."
                raise Throttled(message, retry_after_seconds=seconds)
        claims = (self._pairs.claim(pair), self._addresses.claim(site))
        try:
            yield
        except Unauthenticated:
            self._pairs.add(pair)
            self._addresses.add(site)
            raise
        except BaseException:  # nothing was found out: the attempt does not count
            self._pairs.give_back(pair, claims[0])
            self._addresses.give_back(site, claims[1])
            raise
        self._pairs.forget(pair)
        self._addresses.give_back(site, claims[1])


@dataclass(slots=True)
class _Entry:
    failures: int
    until: float  # the end of its wait
    forgotten: float  # when all this no longer counts


class _Failures:
    """Failures by key, bounded in number and time."""

    def __init__(self, patience: Patience, clock: Callable[[], float]) -> None:
        self._patience = patience
        self._clock = clock
        self._entries: OrderedDict[bytes | str, _Entry] = OrderedDict()  # the one that failed longest ago first

    def seconds_left(self, key: bytes | str) -> int:
        """Whole seconds that the key still waits."""
        entry = self._known(key)
        return max(0, ceil(entry.until - self._clock())) if entry else 0

    def claim(self, key: bytes | str) -> float:
        """Begin an attempt. Once failures are no longer free it waits as if it had failed: none goes beside it."""
        entry = self._known(key)
        if entry is None or entry.failures < self._patience.free:
            return 0.0
        entry.until = self._clock() + self._patience.wait_seconds(entry.failures)
        return entry.until

    def give_back(self, key: bytes | str, claimed: float) -> None:
        """The attempt said nothing about the key: take back the wait that `claim` returned, if there is no other."""
        entry = self._entries.get(key)
        if entry is not None and entry.until == claimed:
            entry.until = 0.0

    def add(self, key: bytes | str) -> None:
        """One more failure."""
        entry = self._known(key) or _Entry(0, 0.0, 0.0)
        entry.failures += 1
        entry.until = self._clock() + self._patience.wait_seconds(entry.failures)
        entry.forgotten = entry.until + self._patience.forget_seconds
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popitem(last=False)

    def forget(self, key: bytes | str) -> None:
        """All is well."""
        self._entries.pop(key, None)

    def _known(self, key: bytes | str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is not None and entry.forgotten <= self._clock():
            del self._entries[key]
            return None
        return entry


def _folded(name: str) -> str:
    """The same for all spellings that a directory takes for one name: else each would have its free guesses."""
    return " ".join(normalize("NFKC", name).casefold().split())


def _site(address: str | None) -> str:
    """What stands for all addresses that one customer has: an IPv4 address, or the network of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:
        return address or ""
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, IPV6_SITE_BITS), strict=False))
    return str(parsed)
