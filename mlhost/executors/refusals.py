"""Which modules refuse to load in subinterpreters, found out by a throw-away process that tries them."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Collection, Iterable, Mapping

from mlhost.runtime.imports import package_of

log = logging.getLogger(__name__)

TRY_SECONDS = 60.0  # for all modules of one trial


class Refusals:
    """What is known of modules; whatever is asked and not known is tried, once."""

    def __init__(self) -> None:
        self._reasons: dict[str, str] = {}  # module -> why it refuses, or ""
        self._trying = asyncio.Lock()
        self._first: asyncio.Task[Mapping[str, str]] | None = None

    def learn(self, modules: Collection[str]) -> None:
        """Begin to try these modules and their packages."""
        wanted = {*modules, *map(package_of, modules)}
        self._first = asyncio.get_running_loop().create_task(self.among(wanted))

    def known(self) -> Mapping[str, str]:
        """The modules known to refuse, and why."""
        return {module: reason for module, reason in self._reasons.items() if reason}

    async def among(self, modules: Iterable[str]) -> Mapping[str, str]:
        """Those of the modules that refuse, and why."""
        wanted = set(modules)
        if wanted - self._reasons.keys():
            async with self._trying:
                if unknown := wanted - self._reasons.keys():
                    self._reasons |= await _tried(sorted(unknown))
        return {module: reason for module, reason in self.known().items() if module in wanted}

    async def close(self) -> None:
        """Give up a trial that is on its way."""
        if self._first is not None:
            self._first.cancel()
            await asyncio.wait([self._first])


async def _tried(modules: list[str]) -> dict[str, str]:
    """What the probe says; a probe that fails is taken to mean that nothing refuses, and importing will tell."""
    command = [sys.executable, "-P", "-m", "mlhost.executors.probe", *modules]
    try:
        reasons: dict[str, str] = json.loads(await _output_of(command))
    except (OSError, ValueError) as fault:  # a timeout is an OSError
        log.warning("it is not known what refuses subinterpreters: the probe failed (%r)", fault)
        return dict.fromkeys(modules, "")
    for module, reason in reasons.items():
        if reason:
            log.info("%s does not load in subinterpreters: %s", module, reason)
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
