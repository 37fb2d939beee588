"""What `scripts/check` makes of advisories about packages: which fail, and that what was not looked up is told."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.parts import ROOT

SCRIPT = ROOT / "scripts" / "advisories.py"
FOUND = [{"id": "CVE-2026-1", "fix_versions": ["9.9"]}]
NOT_THERE = "Dependency not found on PyPI and could not be audited"


def said(packages: list[dict[str, Any]] | None, expect: int = 0) -> str:
    text = "" if packages is None else json.dumps({"dependencies": packages, "fixes": []})
    done = subprocess.run([sys.executable, SCRIPT], input=text, capture_output=True, text=True, timeout=30)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["aiohttp", "yarl", "scikit-learn", "ldap3", "onnx", "pillow", "tqdm", "ipython"])
def test_an_advisory_about_what_mlhost_needs_fails(name: str) -> None:
    told = said([{"name": name, "version": "1", "vulns": FOUND}], expect=1)
    assert f"{name} 1 (needed by mlhost): CVE-2026-1, fixed in 9.9" in told


def test_one_about_what_only_tests_need_is_told() -> None:
    assert "pytest 1 (needed for tests only): CVE-2026-1" in said([{"name": "pytest", "version": "1", "vulns": FOUND}])


def test_sound_packages_are_counted() -> None:
    assert said([{"name": "aiohttp", "version": "1", "vulns": []}]) == "pip-audit looked up 1 packages.\n"


@pytest.mark.parametrize("packages", [None, [], [{"name": "aiohttp", "skip_reason": NOT_THERE}]])
def test_a_database_out_of_reach_is_told(packages: list[dict[str, Any]] | None) -> None:
    assert said(packages).startswith("SKIPPED: pip-audit cannot reach its database")


def test_a_package_that_was_not_looked_up_is_named() -> None:
    told = said(
        [
            {"name": "mlhost", "skip_reason": NOT_THERE},
            {"name": "yarl", "skip_reason": NOT_THERE},
            {"name": "aiohttp", "version": "1", "vulns": []},
        ]
    )
    assert "SKIPPED by pip-audit, which found no such package in its database: yarl.\n" in told
