"""The users of the server, for its Owners. An addition to the original."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from mlhost.auth.users import User, role_of, title_of
from mlhost.errors import Conflict, NotFound
from mlhost.http.exchange import WireStruct, read, record, timestamp
from mlhost.http.keys import HOST
from mlhost.http.routes import Routes
from mlhost.openapi.operations import ADDED, Operation

routes = Routes("Authentication APIs")

RoleTitle = Annotated[
    str,
    Meta(description="Owner, Contributor, Reader or None; Default leaves it to groups and the default rule."),
]


class CreateUserRequest(WireStruct):
    """A new user."""

    name: str
    password: str
    role: RoleTitle = "Default"


class UpdateUserRequest(WireStruct):
    """What is to be changed about a user; the rest is kept. Each change ends their logins."""

    password: str | None = None
    role: RoleTitle | None = None
    groups: list[str] | None = None


class UserResponse(WireStruct):
    """A user."""

    name: str
    role: RoleTitle
    groups: list[str]
    effective_role: Annotated[str, Meta(description="What comes of them: Owner, Contributor, Reader or None.")]
    because: Annotated[str, Meta(description="The rule that made it so.")]
    creation_time: str


@routes.get("/users", tells=Operation("listUsers", gives={200: list[UserResponse]}, note=ADDED))
async def list_all(request: web.Request) -> web.Response:
    """All users by name."""
    return record([_told(user) for user in await request.app[HOST].users.list()])


@routes.post(
    "/users",
    tells=Operation("createUser", takes=CreateUserRequest, gives={201: UserResponse}, refuses=(Conflict,), note=ADDED),
)
async def create(request: web.Request) -> web.Response:
    """Add a user."""
    users, wanted = request.app[HOST].users, await read(request, CreateUserRequest)
    await users.add(wanted.name, wanted.password, role_of(wanted.role))
    return record(_told(await users.get(wanted.name)), status=201)


@routes.patch(
    "/users/{user}",
    tells=Operation(
        "updateUser",
        takes=UpdateUserRequest,
        gives={200: UserResponse},
        refuses=(NotFound, Conflict),
        note=f"{ADDED} The last Owner stays one.",
    ),
)
async def update(request: web.Request) -> web.Response:
    """Change a user's password, role or groups."""
    users, name = request.app[HOST].users, request.match_info["user"]
    wanted = await read(request, UpdateUserRequest)
    role = None if wanted.role is None else role_of(wanted.role)
    if wanted.password is not None:
        await users.set_password(name, wanted.password)
    if wanted.role is not None:
        await users.set_role(name, role)
    if wanted.groups is not None:
        await users.set_groups(name, wanted.groups)
    return record(_told(await users.get(name)))


@routes.delete(
    "/users/{user}/tokens",
    tells=Operation("revokeUserTokens", gives={200: str}, refuses=(NotFound,), note=ADDED),
)
async def revoke(request: web.Request) -> web.Response:
    """End every token of a user, personal ones included."""
    await request.app[HOST].users.revoke(request.match_info["user"])
    return record("Every token of the user has ended.")


def _told(user: User) -> UserResponse:
    return UserResponse(
        name=user.name,
        role=title_of(user.role),
        groups=list(user.groups),
        effective_role=user.standing.role.title,
        because=user.standing.because,
        creation_time=timestamp(user.created_at),
    )
