"""Publishing what was tried out in a session: its workspace, frozen, and a block of code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from mlhost import names
from mlhost.auth.principal import Principal
from mlhost.errors import Invalid
from mlhost.host import Host
from mlhost.services import Draft, NamedType, Service

BETWEEN = re.compile(r"[,\n]")


async def publish(host: Host, who: Principal, session_id: str, fields: Mapping[str, str]) -> Service:
    """A service of what the form says; a snapshot that is taken for it is gone again if it is not published."""
    name, version = names.service_name(fields.get("name", "")), fields.get("version", "").strip() or None
    draft = _draft(fields)
    if "with_workspace" not in fields:
        return await host.services.publish(who, name, version, draft)
    snapshot = await host.snapshots.create(who, session_id, f"{name} {version}" if version else name)
    try:
        return await host.services.publish(who, name, version, replace(draft, snapshot_id=snapshot.id))
    except BaseException:
        await host.snapshots.delete(who, snapshot.id)
        raise


def parameters(text: str, field: str) -> tuple[NamedType, ...]:
    """Names and types, as in "x: numeric, frame: data.frame", also one a line; Invalid names the one at fault."""
    told = (each.strip() for each in BETWEEN.split(text))
    return tuple(_parameter(each, field) for each in told if each)


def _parameter(text: str, field: str) -> NamedType:
    name, colon, kind = (part.strip() for part in text.partition(":"))
    if not colon or not kind:
        raise Invalid(f"{field}: {text!r} names no type; write {name or 'x'}: numeric", field=field)
    return name, kind


def _draft(fields: Mapping[str, str]) -> Draft:
    return Draft(
        code=fields.get("code", ""),
        inputs=parameters(fields.get("inputs", ""), "inputs"),
        outputs=parameters(fields.get("outputs", ""), "outputs"),
        output_files=tuple(each.strip() for each in BETWEEN.split(fields.get("files", "")) if each.strip()),
        description=fields.get("description", "").strip() or None,
    )
