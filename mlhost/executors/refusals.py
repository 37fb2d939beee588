"""Which packages refuse to load in subinterpreters, found out by a throw-away process that tries them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Iterable, Mapping

log = logging.getLogger(__name__)

TRY_SECONDS = 60.0  # for all packages of one trial


class Refusals:
    """What is known of packages; whatever is asked and not known is tried, once."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}  # package -> why it refuses, or ""
        self._trying = asyncio.Lock()
        self._first: asyncio.Task[Mapping[str, str]] | None = None

    def learn(self, modules: Iterable[str]) -> None:
        """Begin to try the packages of these modules."""
        packages = sorted({module.partition(".")[0] for module in modules})
        self._first = asyncio.get_running_loop().create_task(self.among(packages))

    def known(self) -> Mapping[str, str]:
        """The packages known to refuse, and why."""
        return {package: reason for package, reason in self._reasons.items() if reason}

    async def among(self, packages: Iterable[str]) -> Mapping[str, str]:
        """Those of the packages that refuse, and why."""
        wanted = set(packages)
        if wanted - self._reasons.keys():
            async with self._trying:
                if unknown := wanted - self._reasons.keys():
                    self._reasons |= await _tried(sorted(unknown))
        return {package: reason for package, reason in self.known().items() if package in wanted}

    async def close(self) -> None:
        """Give up a trial that is on its way."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])


async def _tried(packages: list[str]) -> dict[str, str]:
    """What the probe says; a probe that fails is taken to mean that nothing refuses, and importing will tell."""
    command = [sys.executable, "-P", "-m", "mlhost.executors.probe", *packages]
    try:
        reasons: dict[str, str] = json.loads(await _output_of(command))
    except (OSError, ValueError) as fault:  # a timeout is an OSError
        log.warning("it is not known which packages refuse subinterpreters: the probe failed (%r)", fault)
        return dict.fromkeys(packages, "")
    for package, reason in reasons.items():
        if reason:
            log.info("%s does not load in subinterpreters: %s", package, reason)
    return reasons


async def _output_of(command: list[str]) -> bytes:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        async with asyncio.timeout(TRY_SECONDS):
            return (await process.communicate())[0]
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
