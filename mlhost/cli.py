"""The `mlhost` command."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from mlhost import __version__, audit, bench, codegen, demo, doctor, logs, remote
from mlhost.auth.passwords import Passwords
from mlhost.auth.users import role_of, title_of
from mlhost.codegen.document import fetch
from mlhost.config import SETTINGS, Config, Loaded, load, toml_value
from mlhost.errors import Conflict, Invalid, MlhostError, NotFound
from mlhost.host import Admin, Host, ensure_admin, open_host, users_of
from mlhost.http.explain import explain
from mlhost.http.server import serve as serve_http
from mlhost.http.tls import Certificate, self_signed, write_pair
from mlhost.places import data_folder
from mlhost.store import Store
from mlhost.store.folder import DataFolder

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Command = TypeVar("Command", bound=Callable[..., Any])

config_option = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Read settings from this TOML file (default: mlhost.toml in the current folder, if there).",
)
data_option = click.option("--data", type=click.Path(file_okay=False), help="Keep everything in this folder.")


@click.group()
@click.version_option(__version__, prog_name="mlhost")
def main() -> None:
    """A small model server: from a Python variable to an authenticated, versioned REST service."""


@main.command()
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

    SIGHUP ends it too, but with TLS makes it read the certificate anew.
    """
    if ephemeral and data:
        raise click.UsageError("--ephemeral keeps nothing, so it does not go together with --data.")
    with _errors_in_words():
        flags: dict[str, object] = {"server.host": host, "server.port": port, "server.data": data}
        flags |= {f"server.{name}": value for name, value in of_the_door.items()}
        loaded = load(config_file, os.environ, flags)
        logs.configure(loaded.config.logs.level, loaded.config.logs.format, sys.stderr)
        if os.geteuid() == 0:
            log.warning("Running as root, and so does the code that users run: start the server as a user of its own.")
        password = _given_password(admin_password_file)
        with DataFolder.ephemeral() if ephemeral else DataFolder.open(_data_path(loaded)) as folder:
            _run(_serve(loaded, folder, password, with_demo=with_demo))
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
    lines = [f"mlhost {__version__} at {url}", f"Data in {host.folder.path}"]
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
    return "\n".join(lines)


# --- users ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Where:
    """The users of which server: of the stopped one in a data folder, or of the running one at a URL."""

    data: str | None
    config_file: Path | None
    url: str | None
    asker: str


def where_options(command: Command) -> Command:
    """The options that say which server, as one argument `where`."""

    @functools.wraps(command)
    def collected(*, data: str | None, config_file: Path | None, url: str | None, asker: str, **rest: Any) -> Any:
        return command(where=Where(data, config_file, url, asker), **rest)

    as_option = click.option(
        "--as", "asker", envvar="MLHOST_USER", default="admin", show_default=True, help="Sign in there as this Owner."
    )
    url_option = click.option("--url", help="Ask the running server at this address; MLHOST_PASSWORD or a prompt.")
    made: Any = data_option(config_option(url_option(as_option(collected))))
    return cast(Command, made)


@main.group()
def user() -> None:
    """Users: of a stopped server in its data folder, of a running one with --url (as an Owner)."""


@user.command("add")
@click.argument("name")
@click.option(
    "--role",
    default="Contributor",
    show_default=True,
    help="Owner, Contributor, Reader or None; Default leaves it to groups and the default rule.",
)
@click.password_option(help="Asked for if not given.")
@where_options
def user_add(name: str, role: str, password: str, where: Where) -> None:
    """Add a user."""
    _with_users(where, lambda users: users.add(name, password, role_of(role)))
    click.echo(f"{name} was added.")


@user.command("list")
@where_options
def user_list(where: Where) -> None:
    """List the users, their roles and their groups."""
    for each in _with_users(where, lambda users: users.list()):
        click.echo("\t".join([each.name, title_of(each.role), *each.groups]))


@user.command("passwd")
@click.argument("name")
@click.password_option(help="Asked for if not given.")
@where_options
def user_passwd(name: str, password: str, where: Where) -> None:
    """Change a user's password; their tokens end."""
    _with_users(where, lambda users: users.set_password(name, password))
    click.echo(f"The password of {name} was changed.")


@user.command("role")
@click.argument("name")
@click.argument("role")
@where_options
def user_role(name: str, role: str, where: Where) -> None:
    """Change a user's role; their tokens end. Default takes it away: groups or the default rule decide."""
    _with_users(where, lambda users: users.set_role(name, role_of(role)))
    click.echo(f"{name} is now {title_of(role_of(role))}.")


@user.command("groups")
@click.argument("name")
@click.argument("groups", nargs=-1, metavar="[GROUP]...")
@where_options
def user_groups(name: str, groups: tuple[str, ...], where: Where) -> None:
    """Put a user into groups, and out of all others; auth.owner_groups and its like say what these may do."""
    _with_users(where, lambda users: users.set_groups(name, groups))
    click.echo(f"{name} is in {', '.join(groups) or 'no group'}.")


@user.command("revoke")
@click.argument("name")
@where_options
def user_revoke(name: str, where: Where) -> None:
    """End every token of a user, personal access tokens included."""
    _with_users(where, lambda users: users.revoke(name))
    click.echo(f"Every token of {name} has ended.")


@main.group()
def auth() -> None:
    """Who may do what."""


@auth.command("explain")
@click.argument("name", metavar="USER")
@click.argument("method")
@click.argument("path")
@where_options
def auth_explain(name: str, method: str, path: str, where: Where) -> None:
    """Print the rule that decides whether USER may ask METHOD PATH: mlhost auth explain carol POST /services/iris/1.0

    Ends with 0 if they may, with 1 if not.
    """
    everybody = {each.name: each for each in _with_users(where, lambda users: users.list())}
    with _errors_in_words():
        if name not in everybody:
            raise NotFound(f"There is no user {name!r}.")
        verdict = explain(name, everybody[name].standing, method, path)
    click.echo("\n".join(verdict.lines))
    sys.exit(0 if verdict.may else 1)


def _with_users(where: Where, verb: Callable[[remote.Register], Coroutine[Any, Any, Result]]) -> Result:
    async def at_rest(folder: DataFolder, config: Config) -> Result:
        async with AsyncExitStack() as stack:
            store = await Store.open(folder.database)
            stack.push_async_callback(store.close)
            passwords = Passwords()
            stack.callback(passwords.close)
            return await verb(users_of(store, passwords, config))

    async def running(url: str, password: str) -> Result:
        async with remote.signed_in(url, where.asker, password) as server:
            return await verb(remote.RemoteUsers(server))

    with _errors_in_words():
        if where.url is not None:
            password = os.environ.get("MLHOST_PASSWORD") or click.prompt(f"Password of {where.asker}", hide_input=True)
            return _run(running(where.url, password))
        path = _existing_folder(where.data, where.config_file)
        try:
            folder = DataFolder.open(path)
        except Conflict as taken:
            raise Conflict(f"{taken.message}; or ask the running one with --url.") from taken
        with folder:
            config = load(where.config_file, os.environ, {}).config
            done = _run(at_rest(folder, config))
            _tell_audit(folder, config)
            return done


def _tell_audit(folder: DataFolder, config: Config) -> None:
    """That a command has changed something; what only lists changes nothing."""
    context = click.get_current_context()
    if context.info_name in ("list", "explain"):
        return
    about = {key: value for key, value in context.params.items() if key in ("name", "role", "groups")}
    with audit.Audit.open(folder.path, config.audit) as trail:
        trail.write(f"uid {os.getuid()} (command line)", context.command_path, about)


# --- TLS -----------------------------------------------------------------------------------------------------------


@main.group()
def tls() -> None:
    """Certificates."""


@tls.command("self-signed")
@click.argument("names", nargs=-1)
@click.option("--days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it is valid.")
@click.option("--replace", is_flag=True, help="Make a new one where there is one; a running server reads it on SIGHUP.")
@data_option
@config_option
def tls_self_signed(
    *, names: tuple[str, ...], days: int, replace: bool, data: str | None, config_file: Path | None
) -> None:
    """Make a certificate for this server, signed by nobody else.

    NAMES are the names and addresses that clients call the server by; localhost, 127.0.0.1 and ::1 go without saying.
    Clients must be given the certificate to trust it: requests takes it as verify=, curl as --cacert.
    """
    with _errors_in_words():
        folder = _data_path(load(config_file, os.environ, {"server.data": data}))
        cert, key, fingerprint = self_signed(names, days)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = write_pair(folder, (cert, key), replace=replace)
    click.echo(f"Certificate: {paths[0]}\nKey: {paths[1]}\nSHA-256 fingerprint: {fingerprint}")
    click.echo(f"Start the server with it: mlhost serve --tls-cert {paths[0]} --tls-key {paths[1]}")


main.add_command(remote.login)
main.add_command(remote.logout)
main.add_command(remote.token)
main.add_command(bench.command)


# --- looking after a server ----------------------------------------------------------------------------------------


@main.command("doctor")
@data_option
@config_option
def examine(data: str | None, config_file: Path | None) -> None:
    """Check the data folder, the installed versions and the store; exit status 1 if something is wrong."""
    with _errors_in_words():
        loaded = load(config_file, os.environ, {"server.data": data})
        findings = _run(doctor.examine(loaded.config, _data_path(loaded)))
    for finding in findings:
        click.echo(finding.line())
    if any(finding.is_problem for finding in findings):
        sys.exit(1)


@main.command("audit")
@click.option("--last", type=click.IntRange(min=1), help="Only so many lines, the newest.")
@click.option("--user", "name", help="Only what this user did, or somebody who said to be them.")
@click.option("--json", "as_json", is_flag=True, help="The lines as they are kept, one JSON object each.")
@data_option
@config_option
def show_audit(
    *, last: int | None, name: str | None, as_json: bool, data: str | None, config_file: Path | None
) -> None:
    """Print the audit log, oldest first: who changed what, signed in or was refused; the server may run."""
    with _errors_in_words():
        folder = _existing_folder(data, config_file)
        found = (line for line in audit.lines(folder) if name is None or audit.is_about(line, name))
        for line in found if last is None else deque(found, last):
            click.echo(line if as_json else audit.in_words(line))


@main.group("config")
def config_group() -> None:
    """The settings."""


@config_group.command("show")
@click.option("--origin", is_flag=True, help="Tell where each value came from.")
@config_option
def config_show(*, origin: bool, config_file: Path | None) -> None:
    """Print all settings as they are in force, as TOML."""
    with _errors_in_words():
        loaded = load(config_file, os.environ, {})
    section = ""
    for key, row in SETTINGS.items():
        if row.section != section:
            section = row.section
            click.echo(f"[{section}]")
        comment = f"  # {loaded.origins[key]}" if origin else ""
        click.echo(f"{row.name} = {toml_value(loaded.value(key))}{comment}")


# --- clients -------------------------------------------------------------------------------------------------------


@main.command("codegen")
@click.argument("swagger")
@click.option("--namespace", required=True, metavar="NAME", help="The package to make; dots make packages in packages.")
@click.option("--client-name", required=True, metavar="CLASS", help="The class whose methods are the operations.")
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to put the package in; a program that imports it needs this folder on its path.",
)
def generate(swagger: str, namespace: str, client_name: str, output: Path) -> None:
    """Make a Python client package from a Swagger 2.0 document.

    SWAGGER is a JSON file, an http(s) URL, or - for the standard input. The document of a service asks for a token, so
    fetch it first:

    \b
      curl -H "Authorization: Bearer $TOKEN" $URL/api/Iris/1.0/swagger.json |
        mlhost codegen - --namespace iris --client-name Iris --output .

    The package needs only requests and Python 3.8 or later. Models take their properties by position, the required ones
    first; methods take their parameters in the document's order and `custom_headers` last; errors are raised as
    models.ErrorException, with `.error.message` and `.response`.

    Run again, it replaces the files that it made and removes those it makes no more. Other files in the folder stay as
    they are; if one is in the way, nothing is written.
    """
    with _errors_in_words():
        made = codegen.generate(fetch(swagger), namespace, client_name, output)
    click.echo(f"Wrote {', '.join(made.written)} to {made.folder}.")
    if made.removed:
        click.echo(f"Removed {', '.join(made.removed)}, made before and not any more.")
    if made.foreign:
        click.echo(f"Left {', '.join(made.foreign)} as found: not made by mlhost codegen.")


# --- shared by the commands ----------------------------------------------------------------------------------------


_errors_in_words = remote.errors_in_words


def _run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run to the end, on uvloop where it exists."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


def _data_path(loaded: Loaded) -> Path:
    return Path(loaded.config.server.data or data_folder())


def _existing_folder(data: str | None, config_file: Path | None) -> Path:
    path = _data_path(load(config_file, os.environ, {"server.data": data}))
    if not path.exists():
        raise NotFound(f"There is no data folder {path}; start the server once, or name another with --data.")
    return path


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
