"""Sign-in with an LDAP directory: search for the user as somebody who may, then bind as what was found (RFC 4513).

It needs ldap3, which `mlhost[ldap]` brings: import this module only where a directory is set. ldap3 blocks, so each
question is put on a thread. What a user typed is in no log; why the directory could not be asked is.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import ldap3
from ldap3.core.exceptions import LDAPException, LDAPInvalidDnError, LDAPInvalidFilterError
from ldap3.operation.search import parse_filter
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn

from mlhost.auth.passwords import MAX_BYTES
from mlhost.auth.peers import context, is_this_machine, secret
from mlhost.auth.signin import Entry
from mlhost.auth.threads import Threads
from mlhost.config import Ldap
from mlhost.errors import Invalid, Unauthenticated, Unavailable

log = logging.getLogger(__name__)

THREADS = 4  # questions at once
MAX_NAME_LENGTH = 256  # characters that somebody may type for a name
PORTS = {"ldap": 389, "ldaps": 636}
# Results of a bind that say something about the user and not about the directory (RFC 4511 appendix A.2; a locked
# account is a constraint violated, one without a password inappropriate).
REFUSALS = {
    ldap3.core.results.RESULT_INVALID_CREDENTIALS,
    ldap3.core.results.RESULT_INAPPROPRIATE_AUTHENTICATION,
    ldap3.core.results.RESULT_CONSTRAINT_VIOLATION,
    ldap3.core.results.RESULT_UNWILLING_TO_PERFORM,
    ldap3.core.results.RESULT_NO_SUCH_OBJECT,
    ldap3.core.results.RESULT_INSUFFICIENT_ACCESS_RIGHTS,
}

_ESCAPED = re.compile(r"((?:\\[0-9A-Fa-f]{2})+)|\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Found:
    """A user and the name by which the directory itself knows them."""

    entry: Entry
    dn: str


class LdapDirectory:
    """The directory that the settings of section `ldap` tell of; Invalid if they do not hold together."""

    def __init__(self, settings: Ldap) -> None:
        self._settings = settings
        self._address = _address(settings)
        self._tls = _Tls(context("ldap.ca_file", settings.ca_file), self._address.host)
        self._password = _query_password(settings)
        for key, text in (("search_filter", settings.search_filter), ("group_filter", settings.group_filter)):
            _check_filter(f"ldap.{key}", text)
        self._groups_below = _parts(settings.group_base, "ldap.group_base")
        self._threads = Threads(THREADS, "ldap")

    @property
    def url(self) -> str:
        """Where it is."""
        return self._settings.url

    async def sign_in(self, name: str, password: str) -> Entry:
        """The user behind a name and password; Unauthenticated if there is not exactly one, Unavailable."""
        # Without a password a bind is one as nobody, which succeeds (RFC 4513 section 5.1.2). Some servers see none
        # where it begins with a NUL.
        if not password.strip() or "\0" in password or not _is_sound(name) or not _is_sound(password, MAX_BYTES):
            raise Unauthenticated("invalid credentials")
        filter_ = _filled(self._settings.search_filter, user=name)
        found = await self._asked(partial(self._sign_in, filter_, password.encode()))
        if found is None:
            raise Unauthenticated("invalid credentials")
        return found.entry

    async def find(self, name: str) -> Entry | None:
        """The user whose `ldap.user_attribute` is the name, if they are one who may sign in; Unavailable."""
        settings = self._settings
        may_sign_in = settings.search_filter.replace("{user}", "*")
        filter_ = f"(&({settings.user_attribute}={escape_filter_chars(name)}){may_sign_in})"
        found = await self._asked(partial(self._find, filter_))
        return None if found is None else found.entry

    async def check(self) -> None:
        """Unavailable if it does not answer, or not to `ldap.query_user`."""
        await self.find("-")

    def close(self) -> None:
        """Ask no more."""
        self._threads.close()

    async def _asked(self, question: partial[_Found | None]) -> _Found | None:
        try:
            async with asyncio.timeout(self._settings.timeout_seconds):
                return await self._threads.run(question)
        except TimeoutError:
            log.warning("the directory %s did not answer within ldap.timeout_seconds", self.url)
            raise self._unavailable("does not answer in time (ldap.timeout_seconds)") from None

    # --- on a thread -----------------------------------------------------------------------------------------------

    def _sign_in(self, filter_: str, password: bytes) -> _Found | None:
        with self._connected() as connection:
            found = self._search(connection, filter_)
            if found is None:
                return None
            self._check_tls(connection)
            connection.rebind(found.dn, password, ldap3.SIMPLE, read_server_info=False)
            if connection.result["result"] in REFUSALS:
                return None
            self._check(connection, "does not let users sign in")
            return found

    def _find(self, filter_: str) -> _Found | None:
        with self._connected() as connection:
            return self._search(connection, filter_)

    @contextmanager
    def _connected(self) -> Iterator[ldap3.Connection]:
        """A connection that is bound as `ldap.query_user`."""
        settings, address = self._settings, self._address
        server = ldap3.Server(
            address.host,
            address.port,
            use_ssl=address.is_tls,
            tls=self._tls,
            get_info=ldap3.NONE,
            connect_timeout=settings.timeout_seconds,
        )
        connection = ldap3.Connection(
            server,
            settings.query_user or None,
            self._password or None,
            authentication=ldap3.SIMPLE if settings.query_user else ldap3.ANONYMOUS,
            auto_referrals=False,  # they would take the password elsewhere
            auto_escape=False,
            check_names=False,
            receive_timeout=settings.timeout_seconds,
        )
        with self._faults_in_words(connection):
            try:
                connection.open(read_server_info=False)
                if settings.start_tls and not address.is_tls:
                    connection.start_tls(read_server_info=False)
                self._check_tls(connection)
                connection.bind(read_server_info=False)
                if connection.result["result"] in REFUSALS:
                    raise self._unavailable("refuses ldap.query_user: look at it and at ldap.query_password_file")
                self._check(connection, "refuses to be asked")
                yield connection
            finally:
                _close(connection)

    def _search(self, connection: ldap3.Connection, filter_: str) -> _Found | None:
        """The one user that fits; None if there is none, or more than one."""
        attribute = self._settings.user_attribute
        hits = self._hits(connection, self._settings.search_base, filter_, [attribute, "memberOf"], at_most=2)
        are_all = connection.result["result"] == ldap3.core.results.RESULT_SUCCESS
        if len(hits) != 1 or not are_all:
            if hits:
                log.warning("ldap.search_filter finds more than one user for one name, so none is signed in")
            return None
        [(dn, attributes)] = hits
        names = attributes.get(attribute.lower(), [])
        if len(names) != 1 or not dn:
            log.warning("%s has not exactly one %s (ldap.user_attribute), so it is not signed in", dn, attribute)
            return None
        if self._settings.group_filter:
            filter_ = _filled(self._settings.group_filter, user=names[0], dn=dn)
            groups = [name for name, _ in self._hits(connection, self._settings.group_base, filter_, ["1.1"])]
        else:
            groups = attributes.get("memberof", [])
        return _Found(Entry(names[0], self._plain(groups)), dn)

    def _hits(
        self, connection: ldap3.Connection, base: str, filter_: str, attributes: list[str], at_most: int = 0
    ) -> list[tuple[str, dict[str, list[str]]]]:
        connection.search(
            base, filter_, dereference_aliases=ldap3.DEREF_NEVER, attributes=attributes, size_limit=at_most
        )
        if not (at_most and connection.result["result"] == ldap3.core.results.RESULT_SIZE_LIMIT_EXCEEDED):
            self._check(connection, "cannot be searched: look at ldap.search_base and ldap.group_base")
        return [
            (hit["dn"], {name.lower(): _texts(values) for name, values in hit["raw_attributes"].items()})
            for hit in connection.response
            if hit["type"] == "searchResEntry"
        ]

    def _plain(self, groups: list[str]) -> tuple[str, ...]:
        """The plain names of the groups that count, as `bosses` of `cn=bosses,ou=groups,dc=example,dc=org`."""
        plain, below = set(), self._groups_below
        for group in groups:
            parts = _parts(group)
            if len(parts) > len(below) and parts[len(parts) - len(below) :] == below:
                plain.add(_unescaped(parse_dn(group)[0][1]))
        return tuple(sorted(plain))

    def _check_tls(self, connection: ldap3.Connection) -> None:
        """Before a password is sent: ldap3 opens a closed connection again, then without StartTLS."""
        wants_tls = self._settings.start_tls and not self._address.is_tls
        if connection.closed or (wants_tls and not connection.tls_started):
            raise ConnectionError("the connection was closed, or StartTLS did not take place")

    def _check(self, connection: ldap3.Connection, complaint: str) -> None:
        """Unavailable unless the last answer was a success."""
        if connection.result["result"] != ldap3.core.results.RESULT_SUCCESS:
            log.warning("the directory %s %s (%s)", self.url, complaint, connection.result["description"])
            raise self._unavailable(complaint)

    @contextmanager
    def _faults_in_words(self, connection: ldap3.Connection) -> Iterator[None]:
        try:
            yield
        except (LDAPException, OSError) as fault:
            told = f"{connection.last_error or ''} {fault}"
            log.warning("the directory %s cannot be asked: %s", self.url, told)
            if "CERTIFICATE_VERIFY_FAILED" in told:
                complaint = "shows a certificate that does not hold: look at ldap.ca_file and the name in ldap.url"
            else:
                complaint = "cannot be reached: look whether it runs, and at ldap.url and ldap.start_tls"
            raise self._unavailable(complaint) from None

    def _unavailable(self, complaint: str) -> Unavailable:
        return Unavailable(f"The directory {self.url} {complaint}. The server's log may say more.")


class _Tls(ldap3.Tls):
    """TLS where OpenSSL checks certificate and name; ldap3's own check knows no addresses from CPython 3.12 on."""

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context
        self._host = host

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=self._host, do_handshake_on_connect=do_handshake
        )


def _close(connection: ldap3.Connection) -> None:
    opened = connection.socket  # one that could not be connected is none that ldap3 would close
    with suppress(LDAPException, OSError):
        connection.unbind()
    if opened is not None:
        opened.close()


# --- settings ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Address:
    host: str
    port: int
    is_tls: bool


def _address(settings: Ldap) -> _Address:
    parts = urlsplit(settings.url)
    try:
        port = parts.port or PORTS[parts.scheme]
    except (KeyError, ValueError):
        port = 0
    if not port or not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username is not None:
        raise Invalid(
            "ldap.url is ldaps://HOST or ldap://HOST, with :PORT if it is not the usual one, and nothing else.",
            field="ldap.url",
        )
    address = _Address(parts.hostname, port, parts.scheme == "ldaps")
    if not (address.is_tls or settings.start_tls or settings.insecure_plain or is_this_machine(address.host)):
        raise Invalid(
            "ldap.start_tls = false would send passwords to another machine in the clear. Use ldaps:// or StartTLS, or "
            "set ldap.insecure_plain if something else keeps the connection safe.",
            field="ldap.start_tls",
        )
    return address


def _query_password(settings: Ldap) -> bytes:
    if bool(settings.query_user) != bool(settings.query_password_file):
        raise Invalid("ldap.query_user and ldap.query_password_file go together.", field="ldap.query_user")
    if not settings.query_user:
        return b""
    return secret("ldap.query_password_file", settings.query_password_file).encode()


def _check_filter(key: str, text: str) -> None:
    try:
        if text:
            parse_filter(_filled(text, user="x", dn="x"), None, False, True, None, False)
    except LDAPInvalidFilterError:
        raise Invalid(f"{key} = {text!r} is no filter (RFC 4515), such as (uid={{user}}).", field=key) from None
    if text and "{user}" not in text and not (key == "ldap.group_filter" and "{dn}" in text):
        raise Invalid(f"{key} = {text!r} does not say where the name goes: {{user}}.", field=key)


def _filled(template: str, **values: str) -> str:
    """The template with the values in it, escaped (RFC 4515 section 3)."""
    return re.sub(r"\{(user|dn)\}", lambda found: str(escape_filter_chars(values.get(found[1], found[0]))), template)


# --- texts ---------------------------------------------------------------------------------------------------------


def _is_sound(text: str, most: int = MAX_NAME_LENGTH) -> bool:
    try:
        return 0 < len(text.encode()) <= most
    except UnicodeEncodeError:
        return False


def _texts(values: list[bytes]) -> list[str]:
    """Those of the values that are text."""
    texts = []
    for value in values:
        with suppress(UnicodeDecodeError):
            texts.append(value.decode())
    return texts


def _parts(dn: str, key: str = "") -> list[tuple[str, str]]:
    """A DN, part by part, as it is compared; with a key, Invalid if it is none."""
    try:
        return [(kind.lower(), _unescaped(value).casefold()) for kind, value, _ in parse_dn(dn)] if dn else []
    except LDAPInvalidDnError:
        if key:
            raise Invalid(f"{key} = {dn!r} is no DN, such as ou=groups,dc=example,dc=org.", field=key) from None
        return []


def _unescaped(value: str) -> str:
    r"""A value of a DN without its escapes: `\2C`, `\,` (RFC 4514 section 2.4)."""
    return _ESCAPED.sub(
        lambda found: bytes.fromhex(found[1].replace("\\", "")).decode("utf-8", "replace") if found[1] else found[2],
        value,
    )
