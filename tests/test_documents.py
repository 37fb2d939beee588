"""Every document is true: its blocks run word for word, its links lead somewhere."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlhost.testing import Server, serve
from tests.documents import blocks, reader
from tests.parts import ROOT

DOCS = ROOT / "docs"
GUIDES = [
    ROOT / "README.md",
    ROOT / "examples" / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("how-to/*.md")),
]
ALL = [*GUIDES, *sorted(DOCS.glob("reference/*.md"))]
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
OF_ITS_OWN = {"metrics.md"}  # test_metrics_guide.py

pytestmark = [pytest.mark.untraced, pytest.mark.timeout(180)]  # a document may start a dozen programs


def titled(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """For the documents that begin where a server runs."""
    with serve(profile="isolated") as server:
        yield server


@pytest.mark.parametrize("document", [each for each in GUIDES if each.name not in OF_ITS_OWN], ids=titled)
def test_what_a_document_says_is_so(document: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    starts = any(
        line.startswith("mlhost serve") for each in blocks(document, "bash") for line in each.text.splitlines()
    )
    shared = None if starts else request.getfixturevalue("server")
    with reader(tmp_path, shared) as person:
        done = person.read(document)
    assert done == Counter(each.kind for each in blocks(document))
    if shared:
        with shared.connect() as ml:
            for service in ml.services():
                service.delete()
            for snapshot in ml.snapshots():
                ml.delete_snapshot(snapshot.id)


def test_nobody_needs_more_than_a_few_lines() -> None:
    [program] = blocks(ROOT / "README.md", "python")
    assert len([line for line in program.text.splitlines() if line]) <= 10
    life = blocks(DOCS / "how-to" / "http.md", "python")[0]
    assert len([line for line in life.text.splitlines() if line]) <= 25


def test_no_block_goes_unread() -> None:
    """What is not run is marked, and is what cannot be had here."""
    found = Counter((document.name, each.kind) for document in ALL for each in blocks(document))
    assert sum(text.count("```") for text in map(Path.read_text, ALL)) == 2 * found.total()
    not_run = {key: count for key, count in found.items() if key[1].endswith("elsewhere")}
    assert not_run == {
        ("README.md", "bash elsewhere"): 1,  # the scripts, which install and run all tests
        ("ldap.md", "bash elsewhere"): 1,
        ("ldap.md", "toml elsewhere"): 2,  # run with OpenLDAP: test_ldap.py
        ("oidc.md", "toml elsewhere"): 2,  # the first is run with a provider: test_oidc.py; nobody else has Azure AD
    }
    kinds = Counter(kind for name, kind in found.elements() if name not in OF_ITS_OWN)
    assert kinds["python"] >= 28
    assert kinds["text"] >= 31
    assert kinds["bash"] >= 25


def test_every_link_within_the_documents_leads_somewhere() -> None:
    links = 0
    for document in ALL:
        for link in re.findall(r"\]\(([^)\s]+)\)", FENCED.sub("", document.read_text("utf-8"))):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = (document.parent / path).resolve() if path else document
            assert target.exists(), f"{titled(document)}: {link}"
            assert not anchor or anchor in anchors(target), f"{titled(document)}: {link}"
            links += 1
    assert links > 50


def test_the_index_names_every_document() -> None:
    index = (DOCS / "README.md").read_text("utf-8")
    for document in (*GUIDES, *DOCS.glob("reference/*.md"), *DOCS.glob("*.ipynb")):
        inside = document.is_relative_to(DOCS) and document.name != "README.md"
        assert not inside or f"({document.relative_to(DOCS)}" in index, document


def test_every_script_the_readme_names_exists_and_measures_what_it_says() -> None:
    named = set(re.findall(r"`(?:\./)?((?:scripts/|\.ci/)\w+)((?: \w+)?)`", (ROOT / "README.md").read_text("utf-8")))
    assert {("scripts/soak", ""), ("scripts/bench", " runtime"), (".ci/run", "")} <= named
    for script, subject in named:
        assert os.access(ROOT / script, os.X_OK)
        assert not subject or (ROOT / f"{script}es" / f"{subject.strip()}.py").is_file()


def anchors(document: Path) -> set[str]:
    """What the headings of a document are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", FENCED.sub("", document.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}
