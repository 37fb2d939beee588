"""Roles by user and by group, and the role of those who were given none (contract section 8).

The highest role wins, but for one: who was given None by name is shut out whatever their groups may do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from mlhost.auth.principal import Role


@dataclass(frozen=True, slots=True)
class Standing:
    """What somebody may do, and the rule that made it so, as a clause."""

    role: Role
    because: str


@dataclass(frozen=True, slots=True)
class GroupRoles:
    """The groups that have a role; the settings of section `auth`."""

    owners: Collection[str] = ()
    contributors: Collection[str] = ()
    readers: Collection[str] = ()

    def role(self, own: Role | None, groups: Iterable[str], given: Iterable[Role]) -> Role:
        """The role of `standing`, for the many who need not know why."""
        return self.standing(own, groups, given).role

    def standing(self, own: Role | None, groups: Iterable[str], given: Iterable[Role]) -> Standing:
        """The role of one with such a role of their own (None: not given any) and such groups.

        `given` are the roles that any user has by name: they count as declared, as those of groups do.
        """
        if own is Role.NONE:
            return Standing(own, "given by name, which shuts out whatever groups may do")
        by_group = {Role.OWNER: self.owners, Role.CONTRIBUTOR: self.contributors, Role.READER: self.readers}
        found = [] if own is None else [Standing(own, "given by name")]
        for role, names in by_group.items():
            if shared := sorted(set(names) & set(groups)):
                found.append(Standing(role, f"by the group {shared[0]} (auth.{role.name.lower()}_groups)"))
        if found:
            return max(found, key=lambda each: each.role)
        declared = {*given, *(role for role, names in by_group.items() if names)}
        return Standing(default_role(declared), f"by the default rule: {_default_reason(declared)}")


def default_role(declared: Collection[Role]) -> Role:
    """The role of the unassigned: the original took what was not declared to be open to everybody."""
    if Role.READER in declared:
        return Role.NONE
    return Role.READER if Role.CONTRIBUTOR in declared else Role.CONTRIBUTOR


def _default_reason(declared: Collection[Role]) -> str:
    if Role.READER in declared:
        return "somebody is a Reader by name or group, so nobody is without being given it"
    if Role.CONTRIBUTOR in declared:
        return "somebody is a Contributor by name or group, but nobody a Reader"
    return "nobody is a Contributor or Reader by name or group"
