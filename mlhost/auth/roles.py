"""Roles by user and by group, and the role of those who were given none (contract section 8).

The highest role wins, but for one: who was given None by name is shut out whatever their groups may do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mlhost.auth.principal import Role


@dataclass(frozen=True, slots=True)
class GroupRoles:
    """The groups that have a role; the settings of section `auth`."""

    owners: Collection[str] = ()
    contributors: Collection[str] = ()
    readers: Collection[str] = ()

    def role(self, own: Role | None, groups: Iterable[str], given: Iterable[Role]) -> Role:
        """The role of one with such a role of their own (None: not given any) and such groups.

        `given` are the roles that any user has by name: they count as declared, as those of groups do.
        """
        if own is Role.NONE:
            return own
        by_group = {Role.OWNER: self.owners, Role.CONTRIBUTOR: self.contributors, Role.READER: self.readers}
        roles = {role for role, names in by_group.items() if not set(names).isdisjoint(groups)}
        if own is not None:
            roles.add(own)
        return max(roles) if roles else default_role({*given, *(role for role, names in by_group.items() if names)})


def default_role(declared: Collection[Role]) -> Role:
    """The role of the unassigned: the original took what was not declared to be open to everybody."""
    if Role.READER in declared:
        return Role.NONE
    return Role.READER if Role.CONTRIBUTOR in declared else Role.CONTRIBUTOR
