"""A real OpenLDAP server on a free port of the loopback, with TLS, a few users and their groups."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ldap3
import pytest

from mlhost.config import Ldap
from mlhost.http.tls import self_signed
from tests.parts import PASSWORD, ROOT

SUFFIX = "dc=example,dc=org"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
QUERY_USER = f"cn=mlhost,ou=services,{SUFFIX}"
QUERY_PASSWORD = "the query user's own"
ROOT_DN, ROOT_PASSWORD = f"cn=root,{SUFFIX}", "root of the directory"
STARTS_SECONDS = 10.0
ENABLED, DISABLED = 0x200, 0x2  # of userAccountControl

# Empty passwords bind as nobody, as in many a directory; only the query user may search.
CONFIG = """
include {folder}/etc/ldap/schema/core.schema
include {folder}/etc/ldap/schema/cosine.schema
include {folder}/etc/ldap/schema/inetorgperson.schema
include {folder}/etc/ldap/schema/nis.schema
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' SINGLE-VALUE
  EQUALITY caseIgnoreMatch SUBSTR caseIgnoreSubstringsMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 1.2.840.113556.1.4.8 NAME 'userAccountControl' SINGLE-VALUE
  EQUALITY integerMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.27 )
objectclass ( 1.2.840.113556.1.5.9 NAME 'user' SUP top AUXILIARY MUST ( sAMAccountName $ userAccountControl ) )
modulepath {folder}/usr/lib/ldap
moduleload back_mdb
moduleload memberof
allow bind_anon_cred bind_anon_dn
TLSCertificateFile {own}/directory.pem
TLSCertificateKeyFile {own}/directory.key
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{query_user}" read by * none
database mdb
suffix "{suffix}"
rootdn "{root}"
rootpw "{password}"
directory {own}/database
overlay memberof
memberof-dangling ignore
memberof-refint TRUE
"""

USERS = ("amy", "bob", "cid", "dan", "admin", "carol", "o*(x)")
MEMBERS = {
    f"cn=mlhost-owners,{GROUPS}": ["amy"],
    f"cn=data-science,{GROUPS}": ["bob", "amy"],
    f"cn=staff,{GROUPS}": ["cid", "bob", "amy"],
    f"cn=red\\, green,{GROUPS}": ["dan"],
    f"cn=mlhost-owners,ou=elsewhere,{SUFFIX}": ["cid"],  # a group of that name, but not where the groups are
}


@dataclass
class Slapd:
    """A running directory."""

    folder: Path
    port: int  # ldap:// and StartTLS
    tls_port: int

    @property
    def ca_file(self) -> Path:
        return self.folder / "directory.pem"

    @property
    def password_file(self) -> Path:
        return self.folder / "query-password"

    def settings(self, **changes: object) -> Ldap:
        """Settings that fit it; some changed."""
        given: dict[str, object] = {
            "url": f"ldaps://127.0.0.1:{self.tls_port}",
            "ca_file": str(self.ca_file),
            "query_user": QUERY_USER,
            "query_password_file": str(self.password_file),
            "search_base": PEOPLE,
            "group_base": GROUPS,
        }
        return Ldap(**(given | changes))  # type: ignore[arg-type]

    @contextmanager
    def administered(self) -> Iterator[ldap3.Connection]:
        """A connection that may do everything."""
        server = ldap3.Server("127.0.0.1", self.port, get_info=ldap3.NONE)
        connection = ldap3.Connection(server, ROOT_DN, ROOT_PASSWORD, auto_bind=True, raise_exceptions=True)
        yield connection
        connection.unbind()

    def move(self, user: str, out_of: str, into: str = "") -> None:
        """Take a user out of a group of the directory, and into another."""
        with self.administered() as connection:
            connection.modify(f"cn={out_of},{GROUPS}", {"member": [(ldap3.MODIFY_DELETE, [dn(user)])]})
            if into:
                connection.modify(f"cn={into},{GROUPS}", {"member": [(ldap3.MODIFY_ADD, [dn(user)])]})

    def add(self, user: str, *groups: str, below: str = PEOPLE) -> None:
        """A new user."""
        with self.administered() as connection:
            _add_user(connection, user, below)
            for group in groups:
                connection.modify(f"cn={group},{GROUPS}", {"member": [(ldap3.MODIFY_ADD, [dn(user)])]})

    def disable(self, user: str, *, is_disabled: bool = True) -> None:
        """Disable an account as Active Directory does, or enable it again."""
        control = ENABLED | DISABLED if is_disabled else ENABLED
        with self.administered() as connection:
            connection.modify(dn(user), {"userAccountControl": [(ldap3.MODIFY_REPLACE, [control])]})

    def remove(self, user: str) -> None:
        """The user is gone."""
        with self.administered() as connection:
            connection.delete(dn(user))


def dn(user: str, below: str = PEOPLE) -> str:
    return f"uid={user},{below}"


@contextmanager
def running(folder: Path) -> Iterator[Slapd]:
    """A directory in an empty folder; the test is skipped where there is no slapd to be had."""
    try:
        found = subprocess.run([ROOT / "scripts" / "slapd"], capture_output=True, text=True, timeout=45)
    except subprocess.TimeoutExpired:
        pytest.skip("slapd is not installed and could not be in time")
    if found.returncode:
        pytest.skip(found.stderr.strip().splitlines()[-1])
    root = found.stdout.strip().rstrip("/")
    cert, key, _ = self_signed((), 1)
    (folder / "directory.pem").write_bytes(cert)
    (folder / "directory.key").write_bytes(key)
    (folder / "database").mkdir()
    (folder / "query-password").write_text(QUERY_PASSWORD + "\n")
    names = {"folder": root, "own": folder, "query_user": QUERY_USER, "suffix": SUFFIX}
    (folder / "slapd.conf").write_text(CONFIG.format(**names, root=ROOT_DN, password=ROOT_PASSWORD))
    slapd = Slapd(folder, *free_ports(2))
    urls = f"ldap://127.0.0.1:{slapd.port} ldaps://127.0.0.1:{slapd.tls_port} ldaps://127.0.0.2:{slapd.tls_port}"
    libraries = ":".join(str(path) for path in Path(f"{root}/usr/lib").glob("*-linux-*"))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [f"{root}/usr/sbin/slapd", "-f", folder / "slapd.conf", "-h", urls, "-d", "0"],
            stdout=log,
            stderr=log,
            env=os.environ | ({"LD_LIBRARY_PATH": libraries} if root else {}),
        )
    try:
        _wait(process, slapd)
        _fill(slapd)
        yield slapd
    finally:
        process.terminate()
        process.wait(10)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _wait(process: "subprocess.Popen[bytes]", slapd: Slapd) -> None:
    ends = time.monotonic() + STARTS_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", slapd.port), 1).close()
        except OSError:
            assert process.poll() is None and time.monotonic() < ends, (slapd.folder / "log").read_text()
            time.sleep(0.02)
        else:
            return


def _fill(slapd: Slapd) -> None:
    with slapd.administered() as connection:
        connection.add(SUFFIX, ["dcObject", "organization"], {"o": "Example"})
        for unit in ("people", "groups", "services", "elsewhere"):
            connection.add(f"ou={unit},{SUFFIX}", "organizationalUnit")
        connection.add(
            QUERY_USER, ["organizationalRole", "simpleSecurityObject"], {"userPassword": QUERY_PASSWORD.encode()}
        )
        for user in USERS:
            _add_user(connection, user, PEOPLE)
        for group, members in MEMBERS.items():
            connection.add(group, "groupOfNames", {"member": [QUERY_USER, *map(dn, members)]})
        connection.add(f"cn=unix,{GROUPS}", "posixGroup", {"gidNumber": 1, "memberUid": ["bob"]})


def _add_user(connection: ldap3.Connection, user: str, below: str) -> None:
    about = {"cn": user, "sn": user, "mail": f"{user}@example.org", "userPassword": PASSWORD}
    of_microsoft = {"sAMAccountName": f"{user}@example", "userAccountControl": ENABLED}
    connection.add(dn(user, below), ["inetOrgPerson", "user"], about | of_microsoft)
