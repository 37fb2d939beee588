"""Families of refresh tokens, keys that rotate, clocks that differ."""

import logging

import pytest
from joserfc import jws, jwt
from joserfc.jwk import OctKey

from mlhost.auth.keys import ROTATE_SECONDS
from mlhost.auth.principal import Principal, Role
from mlhost.auth.tokens import GRACE_SECONDS, LEEWAY_SECONDS, TokenPair
from mlhost.errors import Unauthenticated
from tests.auth.conftest import MASTER, Parts
from tests.parts import PASSWORD

ANNA = Principal("anna", Role.CONTRIBUTOR)
DAY = 86400


async def holds(parts: Parts, pair: TokenPair) -> bool:
    try:
        assert await parts.tokens.check(pair.access) == ANNA
    except Unauthenticated:
        return False
    return True


def kid(access: str) -> str:
    return str(jws.extract_compact(access.encode()).headers()["kid"])


async def test_a_lost_answer_is_given_again_while_nobody_used_it(parts: Parts) -> None:
    first = await parts.tokens.issue(ANNA)
    second = await parts.tokens.renew(first.refresh)
    parts.clock.now += GRACE_SECONDS
    assert await parts.tokens.renew(first.refresh) == second
    assert await holds(parts, second)
    assert not await holds(parts, first)


@pytest.mark.parametrize("late", [False, True])
async def test_a_used_refresh_token_that_comes_again_ends_its_family(
    parts: Parts, late: bool, caplog: pytest.LogCaptureFixture
) -> None:
    first, bystander = await parts.tokens.issue(ANNA), await parts.tokens.issue(ANNA)
    newest = await parts.tokens.renew(first.refresh)
    if late:
        parts.clock.now += GRACE_SECONDS + 1
    else:
        newest = await parts.tokens.renew(newest.refresh)
    assert await holds(parts, newest)
    with pytest.raises(Unauthenticated, match="used before"):
        await parts.tokens.renew(first.refresh)
    assert [user for user, _ in parts.reused] == ["anna"]
    assert ("mlhost.auth.tokens", logging.WARNING) in [(each.name, each.levelno) for each in caplog.records]
    assert not await holds(parts, newest)
    with pytest.raises(Unauthenticated):
        await parts.tokens.renew(newest.refresh)
    assert await holds(parts, bystander)


async def test_a_used_refresh_token_still_logs_out(parts: Parts) -> None:
    first = await parts.tokens.issue(ANNA)
    second = await parts.tokens.renew(first.refresh)
    await parts.tokens.revoke(first.refresh)
    assert not await holds(parts, second)


async def test_a_refresh_token_ends_when_idle_and_at_the_latest_after_ninety_days(parts: Parts) -> None:
    idle = await parts.tokens.issue(ANNA)
    parts.clock.now += 14 * DAY + 1
    with pytest.raises(Unauthenticated):
        await parts.tokens.renew(idle.refresh)
    pair, started = await parts.tokens.issue(ANNA), parts.clock.now
    while parts.clock.now + 13 * DAY <= started + 90 * DAY:
        parts.clock.now += 13 * DAY
        pair = await parts.tokens.renew(pair.refresh)
    parts.clock.now = started + 90 * DAY + 1
    with pytest.raises(Unauthenticated):
        await parts.tokens.renew(pair.refresh)


async def test_neither_the_store_nor_its_copy_holds_a_token_or_a_key(parts: Parts) -> None:
    pair = await parts.tokens.issue(ANNA)
    pairs = [pair, await parts.tokens.renew(pair.refresh)]
    rows = [
        repr(tuple(row))
        for table in ("grants", "refreshes", "signing_keys")
        for row in await parts.store.read(f"select * from {table}")
    ]
    assert not any(part in row for each in pairs for part in (each.refresh, each.access) for row in rows)
    pair = pairs[-1]
    claims = jwt.decode(pair.access, parts.tokens._keys.find(kid(pair.access)).secret).claims  # type: ignore[union-attr]
    forged = jwt.encode({"alg": "HS256", "typ": "at+jwt", "kid": kid(pair.access)}, claims, OctKey.import_key(MASTER))
    with pytest.raises(Unauthenticated, match="bad_signature"):
        await parts.tokens.check(forged)


async def test_a_new_key_takes_over_after_thirty_days_and_the_old_one_verifies_what_it_signed(parts: Parts) -> None:
    first = await parts.tokens.issue(ANNA)
    parts.clock.now += ROTATE_SECONDS - 1
    last_of_old = await parts.tokens.issue(ANNA)
    parts.clock.now += 1
    first_of_new = await parts.tokens.issue(ANNA)
    assert kid(first.access) == kid(last_of_old.access) != kid(first_of_new.access)
    for tokens in (parts.tokens, await parts.restarted()):
        assert await tokens.check(last_of_old.access) == await tokens.check(first_of_new.access) == ANNA
    assert kid((await (await parts.restarted()).issue(ANNA)).access) == kid(first_of_new.access)
    parts.clock.now += 7200
    with pytest.raises(Unauthenticated):
        await parts.tokens.check(last_of_old.access)
    parts.clock.now += ROTATE_SECONDS
    await parts.tokens.issue(ANNA)
    kept = {row["id"] for row in await parts.store.read("select id from signing_keys")}
    assert kid(first.access) not in kept
    assert len(kept) == 2


async def test_clocks_may_differ_by_half_a_minute(parts: Parts) -> None:
    pair = await parts.tokens.issue(ANNA)
    parts.clock.now = pair.expires_on + LEEWAY_SECONDS - 1
    assert await holds(parts, pair)
    parts.clock.now += 2
    assert not await holds(parts, pair)


async def test_revoking_a_user_ends_all_they_have(parts: Parts) -> None:
    await parts.users.add("bert", PASSWORD, Role.CONTRIBUTOR)
    pairs = [await parts.tokens.issue(ANNA) for _ in range(3)]
    his = await parts.tokens.issue(Principal("bert", Role.CONTRIBUTOR))
    assert [await holds(parts, pair) for pair in pairs] == [True] * 3
    await parts.users.revoke("anna")
    assert [await holds(parts, pair) for pair in pairs] == [False] * 3
    assert (await parts.tokens.check(his.access)).name == "bert"


async def test_the_table_of_checked_tokens_is_bounded(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlhost.auth.known.MAX_REMEMBERED", 2)
    pairs = [await parts.tokens.issue(ANNA) for _ in range(3)]
    for pair in pairs:
        await parts.tokens.check(pair.access)
    assert [parts.tokens.remembered(pair.access) for pair in pairs] == [None, ANNA, ANNA]


async def test_what_ended_while_it_was_looked_up_is_not_remembered(parts: Parts) -> None:
    known = parts.tokens.known
    mark = known.mark()
    known.forget("grant")
    known.remember("token", ANNA, "grant", parts.clock.now + 1, mark)
    assert known.get("token") is None
    mark = known.mark()
    await parts.users.set_role("anna", Role.READER)
    known.remember("token", ANNA, "grant", parts.clock.now + 1, mark)
    assert known.get("token") is None
    known.remember("token", ANNA, "grant", parts.clock.now + 1, known.mark())
    assert known.get("token") == ANNA
    parts.clock.now += 1
    assert known.get("token") is None
