"""`mlhost serve`: starts the server, tells what a person needs next, and ends it in order."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import click

from mlhost import __version__, demo, logs
from mlhost.cli import memory
from mlhost.cli.options import config_option, data_option, data_path, run
from mlhost.config import Loaded, load
from mlhost.errors import Conflict, Invalid, MlhostError
from mlhost.host import Admin, Host, ensure_admin, open_host
from mlhost.http.server import serve as serve_http
from mlhost.http.tls import Certificate
from mlhost.remote import errors_in_words
from mlhost.store.folder import DataFolder

log = logging.getLogger(__name__)


@click.command()
@click.option("--demo", "with_demo", is_flag=True, help="Train, publish and score the Iris service.")
@click.option("--host", help="Listen on this address.")
@click.option("--port", type=int, help="Listen on this port; 0 takes any free one.")
@click.option(
    "--tls-cert", type=click.Path(dir_okay=False), help="Speak TLS with this certificate (PEM, with its chain)."
)
@click.option("--tls-key", type=click.Path(dir_okay=False), help="The certificate's key, if it is in another file.")
@click.option("--insecure-http", is_flag=True, default=None, help="Listen without TLS on other than 127.0.0.1.")
@click.option("--allowed-hosts", metavar="NAMES", help="Names to answer to besides, separated by commas.")
@data_option
@click.option("--ephemeral", is_flag=True, help="Keep everything in a temporary folder, removed at the end.")
@config_option
@click.option(
    "--admin-password-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Give admin the password in this file (or else the one in MLHOST_ADMIN_PASSWORD).",
)
def serve(
    *,
    with_demo: bool,
    host: str | None,
    port: int | None,
    data: str | None,
    ephemeral: bool,
    config_file: Path | None,
    admin_password_file: Path | None,
    **of_the_door: object,
) -> None:
    """Start the server; Ctrl-C or SIGTERM ends it after the requests that run.

    It prints where it listens, where its console and its data are, and how to log in.

    SIGHUP ends it too, but with TLS makes it read the certificate anew.
    """
    if ephemeral and data:
        raise click.UsageError("--ephemeral keeps nothing, so it does not go together with --data.")
    with errors_in_words():
        flags: dict[str, object] = {"server.host": host, "server.port": port, "server.data": data}
        flags |= {f"server.{name}": value for name, value in of_the_door.items()}
        loaded = load(config_file, os.environ, flags)
        logs.configure(loaded.config.logs.level, loaded.config.logs.format, sys.stderr)
        if os.geteuid() == 0:
            log.warning("Running as root, and so does the code that users run: start the server as a user of its own.")
        memory.give_back()
        password = _given_password(admin_password_file)
        with DataFolder.ephemeral() if ephemeral else DataFolder.open(data_path(loaded)) as folder:
            run(_serve(loaded, folder, password, with_demo=with_demo))
        _end_of_process()


async def _serve(loaded: Loaded, folder: DataFolder, password: str | None, *, with_demo: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    certificate = Certificate.of(loaded.config.server)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, _stop_once, stop)
    if certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, _reload, certificate)
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(open_host(loaded.config, folder))
        admin = await ensure_admin(host, password)
        if with_demo and admin.is_shut_out:
            raise Conflict("--demo publishes as admin, which a directory shuts out: set auth.keep_admin, or leave it.")
        url = await stack.enter_async_context(serve_http(host, certificate))
        folder.tell_address(url)
        click.echo(_announcement(host, url, admin))
        if with_demo:
            click.echo(await demo.run(host, url))
        memory.keep_out_of_collections()
        click.echo("Ready. Ctrl-C stops the server.")
        await stop.wait()
        _say("Stopping: running requests may finish. Once more to stop at once.")


def _end_of_process() -> None:
    """Where user code runs on in a thread of the server, do not wait for it."""
    if threading.active_count() > 1:
        _say("Code that did not stop was still running in the server; it ends with it.")
        os._exit(0)


def _say(text: str) -> None:
    """Print it, if whoever read what the server prints is still there."""
    with suppress(OSError):
        click.echo(text)
        sys.stdout.flush()
        sys.stderr.flush()


def _stop_once(stop: asyncio.Event) -> None:
    if stop.is_set():
        os._exit(1)  # asked a second time: at once; workers end with this process
    stop.set()


def _reload(certificate: Certificate) -> None:
    try:
        certificate.reload()
    except MlhostError as fault:
        log.error("The certificate stays as it was: %s", fault.message)  # noqa: TRY400
    else:
        log.warning("The certificate was read anew.")


def _announcement(host: Host, url: str, admin: Admin) -> str:
    lines = [f"mlhost {__version__} at {url}", f"Console at {url}/console", f"Data in {host.folder.path}"]
    if admin.is_shut_out:
        lines.append(
            f"Sign in as a user of {host.config.ldap.url or host.config.oidc.issuer}; admin does not (auth.keep_admin)."
        )
    elif admin.is_new and admin.password and admin.password_file.exists():
        lines.append(f"Log in as admin with the password {admin.password}")
        lines.append(f"(made for this first start; kept in {admin.password_file})")
    elif admin.password_file.exists():
        lines.append(f"Log in as admin; the password of the first start is in {admin.password_file}")
    else:
        lines.append("Log in as admin with the password you have set.")
    lines.append(f"For commands and notebooks: mlhost login {url}")
    return "\n".join(lines)


def _given_password(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get("MLHOST_ADMIN_PASSWORD") or None
    try:
        password = file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        raise Invalid(f"{file} cannot be read as text: {fault}") from fault
    if not password:
        raise Invalid(f"{file} holds no password.")
    return password
