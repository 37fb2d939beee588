"""The server of `serve`: takes settings as its argument, tells where it is, and ends with its standard input."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from argon2.profiles import CHEAPEST

from mlhost import logs
from mlhost.auth.passwords import Passwords, generate
from mlhost.config import Config, load
from mlhost.errors import MlhostError
from mlhost.host import ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.places import ADMIN
from mlhost.store.folder import DataFolder

DEFAULTS = {"server.port": 0, "server.drain_seconds": 1.0, "runtime.preload": (), "audit.enabled": False}


def main() -> None:
    """Serve until nobody holds the other end of the standard input."""
    try:
        config = load(Path(os.devnull), {}, DEFAULTS | json.loads(sys.argv[1])).config
        logs.configure("warning", "text", sys.stderr)
        with DataFolder.ephemeral() as folder:
            asyncio.run(_serve(config, folder))
    except MlhostError as fault:
        _tell(fault=fault.message)
    sys.stdout.flush()
    os._exit(0)  # code that does not stop runs in threads here, and ends with this process


async def _serve(config: Config, folder: DataFolder) -> None:
    password = generate()
    async with AsyncExitStack() as stack:
        passwords = Passwords(PasswordHasher.from_parameters(CHEAPEST))  # nothing here is worth a guess
        host = await stack.enter_async_context(open_host(config, folder, passwords))
        await ensure_admin(host, password)
        url = await stack.enter_async_context(serve(host))
        _tell(url=url, user=ADMIN, password=password)
        await _end_of_input()


async def _end_of_input() -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()

    def look() -> None:
        if not os.read(sys.stdin.fileno(), 1024):
            loop.remove_reader(sys.stdin.fileno())
            ended.set()

    loop.add_reader(sys.stdin.fileno(), look)
    await ended.wait()


def _tell(**what: Any) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201 - the one line that is waited for


if __name__ == "__main__":
    main()
