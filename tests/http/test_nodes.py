"""Compute nodes: there is one, and the list of them stays as it is."""

from urllib.parse import urlsplit

import pytest

from tests.parts import Api


async def test_the_one_node_is_the_server_itself(rita: Api, url: str) -> None:
    assert await rita("GET", "/computenodes") == {"computeNodes": [f"{url}/"]}


async def test_the_status_names_the_same_node(admin: Api, url: str) -> None:
    assert list((await admin("GET", "/status"))["components"]["backends"]["components"]) == [f"{url}/"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_naming_it_by_any_of_its_names_changes_nothing(admin: Api, url: str, method: str) -> None:
    port = urlsplit(url).port
    for name in ("127.0.0.1", "localhost", "[::1]"):
        body = {"entries": [f"http://{name}:{port}"]}
        assert await admin(method, "/computenodes", json=body) == b""
    assert await admin("GET", "/computenodes") == {"computeNodes": [f"{url}/"]}


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "entry", ["http://10.0.0.1:12805", "http://127.0.0.1:1", "http://127.0.0.1:10-12", "http://[", "", "localhost"]
)
async def test_any_other_node_is_refused_by_name(admin: Api, url: str, method: str, entry: str) -> None:
    refused = await admin(method, "/computenodes", 400, {"entries": [f"{url}/", entry]})
    assert repr(entry) in refused["message"]
    assert refused["fields"] == "entries"


async def test_a_list_of_none_cannot_be_set(admin: Api) -> None:
    await admin("POST", "/computenodes", 400, {"entries": []})
    await admin("POST", "/computenodes", 400, {})
    await admin("PUT", "/computenodes", json={"entries": []})


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_only_owners_change_nodes(carol: Api, url: str, method: str) -> None:
    await carol(method, "/computenodes", 403, {"entries": [f"{url}/"]})
