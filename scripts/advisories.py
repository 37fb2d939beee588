"""Read what `pip-audit --format json` found from the standard input and say it; exit 1 if it concerns what mlhost needs.

pip-audit knows no severities: every advisory about a package that mlhost itself requires counts as high. One about
what only tests and checks need is told. What could not be looked up is told by name, and never passes for sound.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def offered() -> tuple[str, ...]:
    """The extras that people install; `test` is for those who change mlhost."""
    return ("", *(extra for extra in metadata("mlhost").get_all("Provides-Extra", ()) if extra != "test"))


def required(name: str, extras: tuple[str, ...] = ("",), seen: frozenset[str] = frozenset()) -> frozenset[str]:
    """The names of all installed packages that one needs, itself included."""
    seen |= {canonicalize_name(name)}
    try:
        needs = [Requirement(line) for line in requires(name) or ()]
    except PackageNotFoundError:
        return seen
    for need in needs:
        wanted = need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras)
        if wanted and canonicalize_name(need.name) not in seen:
            seen = required(need.name, ("", *need.extras), seen)
    return seen


def told(packages: list[dict[str, Any]], needed: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Lines to print, and whether what they say is a reason to fail."""
    unknown = [each["name"] for each in packages if "skip_reason" in each and each["name"] != "mlhost"]
    looked_up = [each for each in packages if "skip_reason" not in each]
    for package in looked_up:
        for found in package["vulns"]:
            is_ours = canonicalize_name(package["name"]) in needed
            fixed = ", ".join(found["fix_versions"]) or "no version yet"
            where = "needed by mlhost" if is_ours else "needed for tests only"
            yield f"{package['name']} {package['version']} ({where}): {found['id']}, fixed in {fixed}", is_ours
    if not looked_up:
        yield "SKIPPED: pip-audit cannot reach its database of advisories from here; nothing was looked up.", False
    elif unknown:
        yield f"SKIPPED by pip-audit, which found no such package in its database: {', '.join(unknown)}.", False
    if looked_up:
        yield f"pip-audit looked up {len(looked_up)} packages.", False


def main() -> int:
    """The exit status."""
    text = sys.stdin.read()
    lines = list(told(json.loads(text)["dependencies"] if text.strip() else [], required("mlhost", offered())))
    for line, _ in lines:
        print(line)
    return int(any(fails for _, fails in lines))


if __name__ == "__main__":
    sys.exit(main())
