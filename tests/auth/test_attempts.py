"""Attempts to sign in: what failing costs whom, that it ends, and that what is remembered is bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from mlhost.auth import attempts as module
from mlhost.auth.attempts import FROM_AN_ADDRESS, WITH_A_NAME, Attempts
from mlhost.auth.passwords import THREADS
from mlhost.auth.principal import Role
from mlhost.auth.threads import MAX_WAITING
from mlhost.errors import Busy, Throttled, Unauthenticated
from mlhost.http.server import serve
from tests.parts import PASSWORD, Api, cheap_passwords, host_of_its_own, signed_in

HERE, ELSEWHERE = "192.0.2.1", "192.0.2.2"


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attempts(clock: Clock) -> Attempts:
    return Attempts(clock)


def fail(attempts: Attempts, name: str = "amy", address: str | None = HERE, times: int = 1) -> None:
    for _ in range(times):
        with suppress(Unauthenticated), attempts.attempt(name, address):
            raise Unauthenticated("wrong")


def seconds_to_wait(attempts: Attempts, name: str = "amy", address: str | None = HERE) -> int:
    try:
        with attempts.attempt(name, address):
            raise Busy("nothing was found out")
    except Busy:
        return 0
    except Throttled as throttled:
        return int(throttled.details["retry_after_seconds"])


def test_the_first_failures_cost_nothing_and_each_further_one_twice_as_much(attempts: Attempts, clock: Clock) -> None:
    waits = []
    for _ in range(15):
        fail(attempts)
        waits.append(seconds_to_wait(attempts))
        clock.now += waits[-1]
    assert waits == [0, 0, 0, 0, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


def test_spellings_that_a_directory_takes_for_one_name_are_counted_together(attempts: Attempts) -> None:
    for spelling in ("Amy", "AMY", " amy ", "\uff41my"):
        fail(attempts, spelling)
    assert seconds_to_wait(attempts) == 0
    fail(attempts)
    assert seconds_to_wait(attempts, "aMY") == 2


def test_a_right_password_after_the_wait_is_let_in_and_begins_anew(attempts: Attempts, clock: Clock) -> None:
    fail(attempts, times=WITH_A_NAME.free)
    with pytest.raises(Throttled), attempts.attempt("amy", HERE):
        pytest.fail("the password is not even looked at")
    clock.now += WITH_A_NAME.first_seconds
    with attempts.attempt("amy", HERE):
        pass
    fail(attempts, times=WITH_A_NAME.free - 1)
    assert seconds_to_wait(attempts) == 0


def test_nobody_is_locked_out_by_what_others_do_elsewhere(attempts: Attempts) -> None:
    fail(attempts, times=WITH_A_NAME.free)
    assert seconds_to_wait(attempts) > 0
    assert seconds_to_wait(attempts, address=ELSEWHERE) == 0
    assert seconds_to_wait(attempts, name="bob") == 0


def test_asking_during_the_wait_does_not_make_it_longer(attempts: Attempts, clock: Clock) -> None:
    fail(attempts, times=WITH_A_NAME.free)
    for _ in range(100):
        with pytest.raises(Throttled):
            fail(attempts)
    assert seconds_to_wait(attempts) == WITH_A_NAME.first_seconds


def test_failures_are_forgotten_in_time(attempts: Attempts, clock: Clock) -> None:
    fail(attempts, times=WITH_A_NAME.free)
    clock.now += WITH_A_NAME.first_seconds + WITH_A_NAME.forget_seconds
    fail(attempts, times=WITH_A_NAME.free - 1)
    assert seconds_to_wait(attempts) == 0


def test_trying_many_names_makes_the_address_wait_but_not_for_long(attempts: Attempts, clock: Clock) -> None:
    for n in range(FROM_AN_ADDRESS.free):
        fail(attempts, name=f"user{n}")
    assert seconds_to_wait(attempts, name="somebody else") == FROM_AN_ADDRESS.first_seconds
    for n in range(50):
        clock.now += FROM_AN_ADDRESS.longest_seconds
        fail(attempts, name=f"another{n}")
    assert seconds_to_wait(attempts, name="somebody else") == FROM_AN_ADDRESS.longest_seconds
    assert seconds_to_wait(attempts, address=ELSEWHERE) == 0


def test_a_password_of_ones_own_buys_no_guesses_at_others(attempts: Attempts) -> None:
    for n in range(FROM_AN_ADDRESS.free):
        fail(attempts, name=f"user{n}")
        with suppress(Throttled), attempts.attempt("mallory", HERE):
            pass
    assert seconds_to_wait(attempts, name="user 51") > 0


def test_once_failures_cost_only_one_attempt_goes_at_a_time(attempts: Attempts, clock: Clock) -> None:
    fail(attempts, times=WITH_A_NAME.free)
    clock.now += WITH_A_NAME.first_seconds
    with attempts.attempt("amy", HERE):
        assert seconds_to_wait(attempts) > 0
    assert seconds_to_wait(attempts) == 0


def test_an_attempt_that_found_nothing_out_does_not_count(attempts: Attempts, clock: Clock) -> None:
    fail(attempts, times=WITH_A_NAME.free)
    clock.now += WITH_A_NAME.first_seconds
    for _ in range(20):
        assert seconds_to_wait(attempts) == 0  # ends in Busy


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),  # one customer's network
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::2%eth1"),
        (None, ""),
    ],
)
def test_addresses_that_one_customer_has_count_as_one(attempts: Attempts, one: str | None, other: str) -> None:
    fail(attempts, address=one, times=WITH_A_NAME.free)
    assert seconds_to_wait(attempts, address=other) > 0
    assert seconds_to_wait(attempts, address="2001:db8:1:3::1") == 0


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(
    attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 100)
    fail(attempts, times=WITH_A_NAME.free)
    for n in range(99):
        fail(attempts, name="x" * 100_000, address=f"198.51.100.{n}")
    assert seconds_to_wait(attempts) > 0
    for n in range(1000):
        fail(attempts, name=f"\ud800{n}", address=f"203.0.{n % 250}.{n // 250}")
    assert len(attempts._pairs._entries) == len(attempts._addresses._entries) == 100
    assert seconds_to_wait(attempts) == 0


# --- through the door


@pytest.fixture
async def url(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A server whose failures no other test shares."""
    async with host_of_its_own(tmp_path_factory.mktemp("attempts")) as host, serve(host) as url:
        await host.users.add("amy", PASSWORD, Role.READER)
        yield url


async def test_a_login_that_fails_too_often_is_told_when_to_come_back(url: str) -> None:
    async with signed_in(url, "admin") as admin:
        for _ in range(WITH_A_NAME.free):
            await admin("POST", "/login", 401, {"username": "amy", "password": "a wrong one"})
        for password in ("a wrong one", PASSWORD):
            answer = await admin("POST", "/login", 429, {"username": "amy", "password": password})
            assert "try again in" in answer["message"]
            assert 1 <= int(admin.headers["Retry-After"]) <= WITH_A_NAME.first_seconds
        await admin("POST", "/login", json={"username": "admin", "password": PASSWORD})
        await asyncio.sleep(int(admin.headers.get("Retry-After", 2)) + 0.1)
        await admin("POST", "/login", json={"username": "amy", "password": PASSWORD})


async def test_names_that_do_not_exist_wait_like_those_that_do(url: str) -> None:
    async with signed_in(url, "admin") as admin:
        for _ in range(WITH_A_NAME.free):
            await admin("POST", "/login", 401, {"username": "nobody", "password": "a wrong one"})
        await admin("POST", "/login", 429, {"username": "nobody", "password": "a wrong one"})


async def test_more_logins_than_may_wait_are_refused_with_429(admin: Api) -> None:
    async def login() -> int:
        body = {"username": "admin", "password": PASSWORD}
        async with admin.http.post("/login", json=body) as response:
            return response.status

    statuses = await asyncio.gather(*(login() for _ in range(100)))
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) >= MAX_WAITING


async def test_no_more_than_so_many_passwords_are_hashed_at_once() -> None:
    passwords = cheap_passwords()
    results = await asyncio.gather(
        *(passwords.verify(None, "x" * 12) for _ in range(MAX_WAITING + 5)), return_exceptions=True
    )
    passwords.close()
    assert sum(isinstance(result, Throttled) for result in results) == 5
    assert passwords._threads._threads._max_workers == THREADS == 2
