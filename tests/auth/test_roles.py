"""Which role somebody has: by name, by group, by default (contract section 8)."""

from collections.abc import Awaitable

import pytest

from mlhost.auth.principal import Role
from mlhost.auth.roles import GroupRoles, default_role
from mlhost.errors import Conflict
from tests.auth.conftest import Parts
from tests.parts import PASSWORD

NONE, READER, CONTRIBUTOR, OWNER = Role


@pytest.mark.parametrize(
    ("declared", "role"),
    [
        (set(), CONTRIBUTOR),
        ({OWNER}, CONTRIBUTOR),
        ({CONTRIBUTOR}, READER),
        ({OWNER, CONTRIBUTOR}, READER),
        ({READER}, NONE),
        ({OWNER, READER}, NONE),
        ({CONTRIBUTOR, READER}, NONE),
        ({OWNER, CONTRIBUTOR, READER}, NONE),
    ],
)
def test_the_unassigned_get_the_original_s_default_role(declared: set[Role], role: Role) -> None:
    assert default_role(declared) == role


@pytest.mark.parametrize(
    ("own", "groups", "role"),
    [
        (None, [], NONE),  # Readers are declared
        (None, ["others"], NONE),
        (None, ["staff"], READER),
        (None, ["staff", "bosses", "analysts"], OWNER),
        (READER, ["analysts"], CONTRIBUTOR),
        (OWNER, ["staff"], OWNER),
        (NONE, ["bosses"], NONE),  # shut out by name
    ],
)
def test_the_highest_role_wins(own: Role | None, groups: list[str], role: Role) -> None:
    rules = GroupRoles(owners=("bosses",), contributors=("analysts",), readers=("staff",))
    assert rules.role(own, groups, []) == role


def test_roles_that_users_have_by_name_count_as_declared() -> None:
    assert GroupRoles().role(None, [], [OWNER]) == CONTRIBUTOR
    assert GroupRoles().role(None, [], [OWNER, CONTRIBUTOR]) == READER
    assert GroupRoles().role(None, [], [READER]) == NONE


async def test_a_user_without_a_role_has_that_of_their_groups_or_the_default(parts: Parts) -> None:
    await parts.users.add("bert", PASSWORD, None)
    for groups, role in (([], READER), (["analysts"], CONTRIBUTOR), (["bosses", "others"], OWNER)):
        await parts.users.set_groups("bert", groups)
        who = await parts.users.sign_in("bert", PASSWORD)
        assert who.role == role
        assert await parts.tokens.check((await parts.tokens.issue(who)).access) == who
    assert [(user.name, user.role, user.groups) for user in await parts.users.list()] == [
        ("anna", CONTRIBUTOR, ()),
        ("bert", None, ("bosses", "others")),
    ]


async def test_a_first_reader_ends_what_others_had_by_default(parts: Parts) -> None:
    await parts.users.add("bert", PASSWORD, None)
    access = (await parts.tokens.issue(await parts.users.sign_in("bert", PASSWORD))).access
    assert (await parts.tokens.check(access)).role == READER
    await parts.users.add("rita", PASSWORD, READER)
    assert parts.tokens.remembered(access) is None
    assert (await parts.tokens.check(access)).role == NONE


async def test_the_last_owner_stays_one(parts: Parts) -> None:
    async def refused(name: str, change: Awaitable[None]) -> None:
        with pytest.raises(Conflict, match=f"{name} is the last Owner"):
            await change

    await parts.users.set_role("anna", OWNER)
    access = (await parts.tokens.issue(await parts.users.sign_in("anna", PASSWORD))).access
    for role in (NONE, READER, None):
        await refused("anna", parts.users.set_role("anna", role))
    assert (await parts.tokens.check(access)).role is OWNER  # nothing has changed
    await parts.users.add("bert", PASSWORD, None)
    await parts.users.set_groups("bert", ["bosses"])
    await parts.users.set_role("anna", READER)
    await refused("bert", parts.users.set_groups("bert", ["staff"]))
    await refused("bert", parts.users.set_role("bert", NONE))
