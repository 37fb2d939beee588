"""Signing in with a real OpenLDAP server: who comes in, as whom, over which connection, and what is said if not."""

import asyncio
import logging
import socket
import time
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import ldap3
import pytest

from mlhost.auth.ldap import LdapDirectory
from mlhost.auth.signin import Entry
from mlhost.config import Ldap
from mlhost.errors import Invalid, Unauthenticated, Unavailable
from mlhost.http.tls import self_signed
from tests.documents import blocks
from tests.parts import PASSWORD, ROOT
from tests.slapd import GROUPS, QUERY_PASSWORD, Slapd, dn, free_ports


@asynccontextmanager
async def opened(settings: Ldap) -> AsyncIterator[LdapDirectory]:
    directory = LdapDirectory(settings)
    yield directory
    directory.close()


def active_directory() -> dict[str, object]:
    """The guide's settings for Active Directory, but for its address and a rule that only Microsoft's server knows."""
    [text] = (each.text for each in blocks(ROOT / "docs" / "how-to" / "ldap.md") if "sAMAccountName" in each.text)
    rule = ":1.2.840.113556.1.4.1941:"
    assert rule in text
    given = tomllib.loads(text.replace(rule, ""))["ldap"]
    return {name: value for name, value in given.items() if name not in ("url", "query_password_file")}


async def test_a_right_password_lets_in_and_brings_the_groups(directory: Slapd) -> None:
    async with opened(directory.settings()) as ldap:
        assert await ldap.sign_in("amy", PASSWORD) == Entry("amy", ("data-science", "mlhost-owners", "staff"))
        assert await ldap.sign_in("dan", PASSWORD) == Entry("dan", ("red, green",))


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("amy", "wrong"),
        ("nobody", PASSWORD),
        ("", PASSWORD),
        *(("amy", trap) for trap in ("", " ", "\t\n", "\0", f"\0{PASSWORD}", "\u00ad", "\u200b", "\ud800", "x" * 1025)),
        *(
            (name, PASSWORD)
            for name in ("*", "a*", "amy)(uid=*", "*)(uid=*))(|(uid=*", "amy\0", "\\61my", "am\\79", "&")
        ),
        *((name, PASSWORD) for name in (dn("amy"), "{user}", "{dn}", "\ud800", "x" * 257, "amy)(objectClass=*)")),
    ],
)
async def test_wrong_credentials_and_names_made_to_be_filters_let_nobody_in(
    directory: Slapd, name: str, password: str
) -> None:
    async with opened(directory.settings()) as ldap:
        with pytest.raises(Unauthenticated, match=r"^invalid credentials$"):
            await ldap.sign_in(name, password)


@pytest.mark.parametrize("password", ["", " ", "\t\r\n", "\u2003", "\0", f"\0{PASSWORD}", "\ud800", "x" * 1025])
async def test_a_password_that_might_count_as_none_is_not_even_sent(directory: Slapd, password: str) -> None:
    [port] = free_ports(1)
    async with opened(directory.settings(url=f"ldaps://127.0.0.1:{port}")) as ldap:
        with pytest.raises(Unauthenticated):  # who asks the directory finds that there is none
            await ldap.sign_in("amy", password)


def test_the_directory_itself_would_let_an_empty_password_in(directory: Slapd) -> None:
    """Else the refusal above would prove nothing."""
    name = dn("amy").encode()
    bind = b"\x02\x01\x03\x04" + bytes([len(name)]) + name + b"\x80\x00"  # version 3, the name, no password
    request = b"\x02\x01\x01\x60" + bytes([len(bind)]) + bind
    with socket.create_connection(("127.0.0.1", directory.port), 5) as connection:
        connection.sendall(b"\x30" + bytes([len(request)]) + request)
        answer = connection.recv(100)
    assert answer[5] == 0x61 and answer[7:10] == b"\x0a\x01\x00"  # a bind response: success


async def test_a_name_that_looks_like_a_filter_is_found_as_it_is_spelled(directory: Slapd) -> None:
    async with opened(directory.settings()) as ldap:
        assert (await ldap.sign_in("o*(x)", PASSWORD)).name == "o*(x)"
        assert await ldap.find("o*(x)") == Entry("o*(x)", ())


async def test_the_name_is_the_one_in_the_directory_however_it_was_typed(directory: Slapd) -> None:
    by_mail = directory.settings(search_filter="(|(uid={user})(mail={user}))")
    async with opened(by_mail) as ldap:
        for typed in ("AMY", " amy ", "Amy@Example.org"):
            assert (await ldap.sign_in(typed, PASSWORD)).name == "amy"
        assert await ldap.find("amy") == Entry("amy", ("data-science", "mlhost-owners", "staff"))
        assert await ldap.find("amy@example.org") is None


async def test_an_account_that_active_directory_has_disabled_is_not_let_in_nor_found(directory: Slapd) -> None:
    """With the guide's filter, and attributes as there."""
    async with opened(directory.settings(**active_directory())) as ldap:
        assert await ldap.sign_in("amy@EXAMPLE", PASSWORD) == Entry(
            "amy@example", ("data-science", "mlhost-owners", "staff")
        )
        assert (await ldap.find("amy@example")) is not None
        await asyncio.to_thread(directory.disable, "amy")
        with pytest.raises(Unauthenticated):
            await ldap.sign_in("amy@example", PASSWORD)
        assert await ldap.find("amy@example") is None
        await asyncio.to_thread(directory.disable, "amy", is_disabled=False)


async def test_a_name_that_two_have_lets_neither_in(directory: Slapd, caplog: pytest.LogCaptureFixture) -> None:
    either = directory.settings(search_filter="(|(uid={user})(uid=bob))")
    async with opened(either) as ldap:
        with pytest.raises(Unauthenticated):
            await ldap.sign_in("amy", PASSWORD)
    assert "more than one user" in caplog.text


async def test_who_has_no_single_value_of_the_user_attribute_is_not_let_in(directory: Slapd) -> None:
    async with opened(directory.settings(user_attribute="telephoneNumber")) as ldap:
        with pytest.raises(Unauthenticated):
            await ldap.sign_in("amy", PASSWORD)


@pytest.mark.parametrize(
    ("changes", "user", "groups"),
    [
        ({}, "cid", ("staff",)),
        ({"group_base": ""}, "cid", ("mlhost-owners", "staff")),  # and so is the group of the same name elsewhere
        ({"group_filter": "(member={dn})"}, "bob", ("data-science", "staff")),
        ({"group_filter": "(memberUid={user})"}, "bob", ("unix",)),
        ({"group_filter": "(|(member={dn})(memberUid={user}))", "group_base": GROUPS.upper()}, "cid", ("staff",)),
    ],
)
async def test_groups_are_read_from_the_user_or_searched_for_where_they_count(
    directory: Slapd, changes: dict[str, str], user: str, groups: tuple[str, ...]
) -> None:
    async with opened(directory.settings(**changes)) as ldap:
        assert (await ldap.sign_in(user, PASSWORD)).groups == groups


async def test_start_tls_and_plain_connections_to_this_machine_do_as_well(directory: Slapd) -> None:
    plain = f"ldap://127.0.0.1:{directory.port}"
    for settings in (directory.settings(url=plain), directory.settings(url=plain, start_tls=False)):
        async with opened(settings) as ldap:
            assert (await ldap.sign_in("bob", PASSWORD)).name == "bob"


async def test_no_password_is_sent_where_start_tls_was_lost_on_the_way(
    directory: Slapd, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = []
    monkeypatch.setattr(ldap3.Connection, "bind", lambda connection, **_: sent.append(connection.user))
    monkeypatch.setattr(ldap3.Connection, "start_tls", lambda connection, **_: False)
    async with opened(directory.settings(url=f"ldap://127.0.0.1:{directory.port}")) as ldap:
        with pytest.raises(Unavailable, match=r"ldap\.start_tls"):
            await ldap.sign_in("amy", PASSWORD)
    assert not sent


async def test_a_certificate_that_does_not_hold_is_refused(directory: Slapd, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_bytes(self_signed((), 1)[0])
    plain = f"ldap://127.0.0.1:{directory.port}"
    for settings in (
        directory.settings(ca_file=str(tmp_path / "other.pem")),
        directory.settings(ca_file=str(tmp_path / "other.pem"), url=plain),
        directory.settings(ca_file=""),
        directory.settings(url=f"ldaps://127.0.0.2:{directory.tls_port}"),  # a name that is not in it
    ):
        async with opened(settings) as ldap:
            with pytest.raises(Unavailable, match=r"certificate that does not hold: look at ldap\.ca_file"):
                await ldap.sign_in("amy", PASSWORD)


async def test_a_directory_that_cannot_be_asked_is_named_with_what_to_look_at(
    directory: Slapd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = tmp_path / "wrong"
    wrong.write_text("not the query user's")
    [port] = free_ports(1)
    for changes, words in (
        ({"url": f"ldaps://127.0.0.1:{port}"}, f"ldaps://127.0.0.1:{port} cannot be reached"),
        ({"url": f"ldap://127.0.0.1:{directory.tls_port}"}, "cannot be reached"),
        ({"query_password_file": str(wrong)}, "refuses ldap.query_user: look at it and at ldap.query_password_file"),
        ({"search_base": "ou=nowhere,dc=example,dc=org"}, "cannot be searched: look at ldap.search_base"),
        ({"query_user": "", "query_password_file": ""}, "cannot be searched"),
    ):
        async with opened(directory.settings(timeout_seconds=2, **changes)) as ldap:
            for question in (ldap.sign_in("amy", PASSWORD), ldap.check()):
                with pytest.raises(Unavailable) as refused:
                    await question
                assert words in refused.value.message
    assert not {PASSWORD, QUERY_PASSWORD, "not the query user's"} & set(caplog.text.split("'"))
    assert PASSWORD not in caplog.text and QUERY_PASSWORD not in caplog.text


async def test_a_directory_that_never_answers_holds_up_nobody_but_who_asks_it(directory: Slapd) -> None:
    silent = socket.create_server(("127.0.0.1", 0), backlog=64)
    port = silent.getsockname()[1]
    longest, ends = 0.0, time.monotonic() + 1.2
    async with opened(directory.settings(url=f"ldaps://127.0.0.1:{port}", timeout_seconds=1)) as ldap:
        asked = [asyncio.create_task(ldap.sign_in("amy", PASSWORD)) for _ in range(30)]
        while (before := time.monotonic()) < ends:
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
    assert longest < 0.5
    kinds = [type(each).__name__ for each in outcomes]
    assert kinds.count("Unavailable") == 20 and kinds.count("Throttled") == 10  # those beyond the queue, at once
    silent.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://example.org"}, "ldap.url"),
        ({"url": "ldaps://"}, "ldap.url"),
        ({"url": "ldaps://a:x"}, "ldap.url"),
        ({"url": "ldaps://amy:secret@example.org"}, "ldap.url"),
        ({"url": "ldap://example.org", "start_tls": False}, "in the clear"),
        ({"search_filter": "(uid=amy)"}, "{user}"),
        ({"search_filter": "uid={user})("}, "no filter"),
        ({"group_filter": "(member=amy)"}, "{user}"),
        ({"group_base": "nonsense"}, "no DN"),
        ({"ca_file": "/nowhere"}, "ldap.ca_file"),
        ({"query_password_file": "/nowhere"}, "cannot be read"),
        ({"query_password_file": ""}, "go together"),
        ({"query_password_file": "/dev/null"}, "is empty"),
    ],
)
async def test_settings_that_do_not_hold_stop_the_start(
    directory: Slapd, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(Invalid) as refused:
        LdapDirectory(directory.settings(**changes))
    assert words in refused.value.message
    assert "secret" not in refused.value.message


async def test_a_plain_connection_to_another_machine_is_for_who_says_so(directory: Slapd) -> None:
    settings = directory.settings(url="ldap://192.0.2.1", start_tls=False, insecure_plain=True, timeout_seconds=1)
    async with opened(settings) as ldap:
        with pytest.raises(Unavailable):
            await ldap.find("amy")
