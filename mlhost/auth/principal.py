"""A principal is whoever asks, however they signed in; a role is what they may do (contract section 8)."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mlhost.errors import Invalid


class Role(enum.IntEnum):
    """Higher includes lower."""

    NONE = 0  # known, and may do nothing
    READER = 1  # list and consume services, own sessions
    CONTRIBUTOR = 2  # publish, and manage what they published
    OWNER = 3  # everything

    @property
    def title(self) -> str:
        """As people write it: "Owner"."""
        return self.name.title()

    @classmethod
    def of(cls, title: str) -> Role:
        """The role of that name in any case, or Invalid."""
        try:
            return cls[title.upper()]
        except KeyError:
            known = ", ".join(role.title for role in cls)
            raise Invalid(f"{title!r} is not a role; there are {known}.", field="role") from None


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    name: str
    role: Role
