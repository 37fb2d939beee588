"""A principal is whoever asks, however they signed in; a role is what they may do (contract section 8); a scope is what
a personal access token is for.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mlhost import names
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
class Scope:
    """What a token is for: `all`, `publish`, or `consume:NAME` and `consume:NAME/VERSION` for one service."""

    most: Role  # it gives no more, whatever its owner may do
    name: str | None = None  # of the only service it may call; None: any
    version: str | None = None  # the only one of it; None: all

    @classmethod
    def of(cls, text: str) -> Scope:
        """The scope of that text, or Invalid."""
        kind, _, service = text.partition(":")
        if text in _WIDE:
            return cls(_WIDE[text])
        if kind != "consume" or not service:
            raise Invalid(
                f"scope: {text!r} is none of all, publish, consume:NAME and consume:NAME/VERSION", field="scope"
            )
        name, slash, version = service.partition("/")
        return cls(Role.READER, names.service_name(name), names.service_version(version) if slash else None)

    def __str__(self) -> str:
        if self.name is None:
            return next(text for text, most in _WIDE.items() if most == self.most)
        return f"consume:{self.name}" + (f"/{self.version}" if self.version else "")

    def covers(self, name: str | None, version: str | None) -> bool:
        """Whether a service is the one it is for."""
        return self.name in (None, name) and self.version in (None, version)


_WIDE = {"all": Role.OWNER, "publish": Role.CONTRIBUTOR}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks."""

    name: str
    role: Role
    scope: Scope | None = None  # of the personal access token they show; None: they signed in
