"""`mlhost batch`: what runs, its end, and its cancelling."""

import json

import pytest

from mlhost.client import Batch, Client
from tests.cli.conftest import Mlhost


@pytest.fixture
def batch(signed_in: Client) -> Batch:
    with signed_in.session() as session:
        service = session.publish("halved", "1.0", "y = x / 2", inputs={"x": float}, outputs={"y": float})
    return service.start([{"x": 1.0}, {"x": 3.0}])


def test_a_batch_is_watched_to_its_end(mlhost: Mlhost, batch: Batch) -> None:
    assert mlhost("batch", "watch", batch.id).stdout == "Complete: 2 of 2 records are scored.\n"
    assert json.loads(mlhost("batch", "watch", batch.id, "--results").stdout) == [{"y": 0.5}, {"y": 1.5}]
    assert json.loads(mlhost("batch", "watch", batch.id, "--json").stdout)["state"] == "Complete"
    assert "no batch" in mlhost("batch", "watch", "nothing", expect=1).stderr


def test_batches_are_listed(mlhost: Mlhost, batch: Batch) -> None:
    batch.wait(progress=False)
    assert mlhost("batch", "list").output.splitlines()[1].split() == [
        batch.id, "halved", "1.0", "Complete", "2", "of", "2",
    ]  # fmt: skip
    (told,) = json.loads(mlhost("batch", "list", "halved", "--json").output)
    assert (told["id"], told["done"]) == (batch.id, 2)


def test_a_batch_is_cancelled_once_one_is_sure(mlhost: Mlhost, batch: Batch) -> None:
    mlhost("batch", "cancel", batch.id, answers="n\n", expect=1)
    assert "is cancelled" in mlhost("batch", "cancel", batch.id, "--yes").output
    assert mlhost("batch", "list").output == "There are no batches.\n"
