"""Users, for Owners: who there is, the role each has and why, changed and shut out."""

from __future__ import annotations

from aiohttp import web

from mlhost.auth.principal import Role
from mlhost.auth.users import UNASSIGNED, role_of, title_of
from mlhost.http.console.forms import texts
from mlhost.http.console.rendering import onward, page, segment
from mlhost.http.keys import HOST
from mlhost.http.routes import Routes

routes = Routes()

PATH = "/console/users"
ROLES = (UNASSIGNED, *(role.title for role in sorted(Role, reverse=True)))


@routes.get(PATH)
async def list_all(request: web.Request) -> web.Response:
    """All users by name, and a form to add one."""
    return page(request, "users.html", users=await request.app[HOST].users.list(), roles=ROLES, title_of=title_of)


@routes.post(PATH)
async def add(request: web.Request) -> web.Response:
    """Add a user."""
    fields = await texts(request)
    name = fields.get("name", "")
    await request.app[HOST].users.add(name, fields.get("password", ""), role_of(fields.get("role", UNASSIGNED)))
    return onward(f"{PATH}/{segment(name)}")


@routes.get(f"{PATH}/{{user}}")
async def show(request: web.Request) -> web.Response:
    """A user's page."""
    user = await request.app[HOST].users.get(request.match_info["user"])
    return page(request, "user.html", user=user, roles=ROLES, title_of=title_of)


@routes.post(f"{PATH}/{{user}}")
async def change(request: web.Request) -> web.Response:
    """Change what the form has: a password, a role, groups."""
    users, name, fields = request.app[HOST].users, request.match_info["user"], await texts(request)
    await users.get(name)
    if "password" in fields:
        await users.set_password(name, fields["password"])
    if "role" in fields:
        await users.set_role(name, role_of(fields["role"]))
    if "groups" in fields:
        await users.set_groups(name, [group.strip() for group in fields["groups"].split("\n") if group.strip()])
    return onward(f"{PATH}/{segment(name)}")


@routes.post(f"{PATH}/{{user}}/revoke")
async def revoke(request: web.Request) -> web.Response:
    """End every login and token of a user."""
    name = request.match_info["user"]
    await request.app[HOST].users.revoke(name)
    return onward(f"{PATH}/{segment(name)}")
