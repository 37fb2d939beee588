"""A service consumed through the client generated from its own document; Python 3.8's syntax, requests alone."""

import os
import time

import flowers

models = flowers.models
client = flowers.Flowers(os.environ["MLHOST_URL"])
token = client.login(models.LoginRequest("admin", os.environ["MLHOST_PASSWORD"])).access_token
headers = {"Authorization": f"Bearer {token}"}

result = client.classify(models.InputParameters([5.1, 3.5], "a", {"n": [1, 2]}), headers)
assert result.success, result
assert result.error_message == ""
assert result.output_parameters == models.OutputParameters([10.2, 7.0], {"n": [1, 2], "kind": ["a", "a"]})
assert result.output_files == {"kind.txt": b"a\n"}  # never.png was not made
failed = client.classify(models.InputParameters([1], "raise", {}), headers)
assert not failed.success
assert failed.error_message == "ValueError: raise"
try:
    client.classify(models.InputParameters(kind="a"), headers)
except models.ErrorException as error:
    assert error.response.status_code == 400
    assert "sizes" in error.error.message
else:
    raise AssertionError("a call without an input is refused")

inputs = [models.InputParameters([size], "a", {"n": [1]}) for size in (1, 2, 3)]
batch = client.start_batch_execution(inputs, 2, headers).batch_execution_id
assert batch in client.get_batch_executions(headers)
deadline = time.time() + 30
status = client.get_batch_execution_status(batch, True, headers)
while status.state != "Complete":
    assert time.time() < deadline, status
    time.sleep(0.05)
    status = client.get_batch_execution_status(batch, True, headers)
assert [each.output_parameters.doubled for each in status.batch_execution_results] == [[2.0], [4.0], [6.0]]
assert (status.completed_item_count, status.total_item_count) == (3, 3)
assert client.get_batch_execution_files(batch, 2, headers) == ["kind.txt"]
assert b"".join(client.get_batch_execution_file(batch, 2, "kind.txt", headers)) == b"a\n"
client.cancel_and_delete_batch_execution(batch, headers)
assert batch not in client.get_batch_executions(headers)
