"""Pools of service versions: how many workers are kept started for one, and how many it may have (contract 1.5).

They are the warm workers every version has; a dedicated pool only bounds them, and lives as long as its version.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlhost.auth.principal import Principal
from mlhost.errors import Invalid
from mlhost.executors.pool import Times, Usage
from mlhost.services import Services
from mlhost.store import Store

SET = """
insert into pools (service, least, most)
select id, :least, :most from services where name = :name and version = :version
on conflict (service) do update set least = excluded.least, most = excluded.most
"""
DELETE = "delete from pools where service = (select id from services where name = ? and version = ?)"
FIND = "select least from pools join services on service = services.id where name = ? and version = ?"
KEPT_BY_OTHERS = """
select coalesce(sum(least), 0) from pools join services on service = services.id where name <> ? or version <> ?
"""
ALL = "select name, version, least, most from pools join services on service = services.id"

# Workers that no pool may keep: a session needs one, the try-out of a version, and the look that /readyz takes.
LEFT = 2


@dataclass(frozen=True, slots=True)
class PoolState:
    """The workers of a version, and what they are bounded by."""

    is_dedicated: bool
    least: int
    most: int
    usage: Usage
    times: Times

    @property
    def is_filled(self) -> bool:
        """Whether all workers that are to be kept live."""
        return self.usage.busy + self.usage.idle >= self.least


class Pools:
    """The dedicated pools of one server's services."""

    def __init__(self, store: Store, services: Services, default: int, most: int) -> None:
        self._store = store
        self._services = services
        self._default = default  # workers a version may have without a dedicated pool
        self._most = most  # workers of all sessions and services together

    async def load(self) -> None:
        """Begin to fill the pools there are."""
        for row in await self._store.read(ALL):
            self._services.ready(row["name"], row["version"]).pool.resize(row["least"], row["most"])

    async def set(self, who: Principal, name: str, version: str, least: int, most: int | None) -> None:
        """Keep at least so many workers started and allow at most so many.

        Without `most`, and with one of 0 (a version that nobody could call), it is the server's own bound, or `least`
        if that is more.
        """
        self._check(least, least if most is None else most)
        bound = most or max(least, self._default)
        async with self._services.editing(who, name, version):
            async with self._store.write() as db:
                [[others]] = await db.execute_fetchall(KEPT_BY_OTHERS, (name, version))
                self._check_room(least, others)
                await db.execute(SET, {"least": least, "most": bound, "name": name, "version": version})
            self._services.ready(name, version).pool.resize(least, bound)

    async def get(self, name: str, version: str) -> PoolState:
        """How the workers of a version are; NotFound if there is no such version."""
        pool = self._services.ready(name, version).pool
        row = await self._store.read_one(FIND, (name, version))
        return PoolState(row is not None, pool.settings.least, pool.settings.workers, pool.usage(), pool.times)

    async def delete(self, who: Principal, name: str, version: str) -> bool:
        """Go back to the server's defaults; whether there was a dedicated pool."""
        async with self._services.editing(who, name, version):
            async with self._store.write() as db:
                gone = await db.execute(DELETE, (name, version))
            self._services.ready(name, version).pool.resize(0, self._default)
        return gone.rowcount > 0

    def _check(self, least: int, most: int) -> None:
        for field, size in (("InitialPoolSize", least), ("MaxPoolSize", most)):
            if size < 0:
                raise Invalid(f"{field}: {size} is less than no worker at all.", field=field)
        if least > most:
            raise Invalid(
                f"InitialPoolSize, {least}, must not be larger than MaxPoolSize, {most}.", field="InitialPoolSize"
            )
        if most > self._most:
            raise Invalid(
                f"MaxPoolSize: {most} is more than the {self._most} workers there may be in all (pool.max).",
                field="MaxPoolSize",
            )

    def _check_room(self, least: int, others: int) -> None:
        if least and least + others > (free := max(0, self._most - LEFT)):
            raise Invalid(
                f"InitialPoolSize: all pools together may keep {free} workers started, {LEFT} fewer than there may be"
                f" in all (pool.max); those of other services keep {others}.",
                field="InitialPoolSize",
            )
