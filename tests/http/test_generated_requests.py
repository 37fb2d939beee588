"""Requests that are generated from the documents: nothing fails inside, and every answer is as it was told.

/swagger.json is left out: the same operations in words that must be the original's (test_documents.py), which cannot
say "null", "any value" or "no body".
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from mlhost.auth.principal import Role
from mlhost.host import ensure_admin, open_host
from mlhost.http.server import serve
from mlhost.store.folder import DataFolder
from tests.http.hostile import GUEST, SERVICE, VERSION, Visitor, visit
from tests.parts import PASSWORD, cheap_passwords, config_for_tests

pytestmark = pytest.mark.untraced

DOCUMENTS = ("/openapi.json", f"/api/{SERVICE}/{VERSION}/swagger.json")
USERS = {Role.OWNER: "admin", Role.CONTRIBUTOR: "carol", Role.READER: "rita"}
SEED = 20261125


@pytest.fixture(scope="module")
async def lonely(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """The address of a server that no other test uses, with few workers."""
    config = config_for_tests(runtime={"preload": ()}, pool={"max": 20})
    with DataFolder.open(tmp_path_factory.mktemp("data")) as folder:
        async with open_host(config, folder, cheap_passwords()) as host:
            await ensure_admin(host, PASSWORD)
            for role in (Role.CONTRIBUTOR, Role.READER):
                await host.users.add(USERS[role], PASSWORD, role)
            await host.users.add(GUEST, PASSWORD, Role.READER)
            async with serve(host) as url:
                yield url


async def sent(url: str, role: Role, shares: dict[str, int], every: int) -> Visitor:
    """What became of so many requests for each document, as a user with a role."""

    def send() -> Visitor:
        owner = Visitor(url, USERS[Role.OWNER])
        visitor = Visitor(url, USERS[role], owner if role < Role.CONTRIBUTOR else None)
        for path, examples in shares.items():
            visit(visitor, visitor.document(path), examples, every, SEED)
        visitor.leave()
        owner.leave()
        return visitor

    return await asyncio.to_thread(send)


@pytest.mark.parametrize("role", USERS, ids=lambda role: role.title)
async def test_hundreds_of_generated_requests_are_answered_as_the_documents_say(lonely: str, role: Role) -> None:
    visitor = await sent(lonely, role, dict(zip(DOCUMENTS, (90, 20), strict=True)), every=30)
    assert not visitor.faults, "\n\n".join(visitor.faults.values())


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("role", USERS, ids=lambda role: role.title)
@pytest.mark.parametrize("document", DOCUMENTS)
async def test_thousands_of_generated_requests_are_answered_as_the_documents_say(
    lonely: str, role: Role, document: str
) -> None:
    visitor = await sent(lonely, role, {document: 2000}, every=1)
    statuses = Counter(status for _, status in visitor.sent.elements())
    print(f"\n{document} as {role.title}: {visitor.sent.total()} requests, answered {dict(sorted(statuses.items()))}")
    assert visitor.sent.total() >= 2000
    assert not visitor.faults, "\n\n".join(visitor.faults.values())
