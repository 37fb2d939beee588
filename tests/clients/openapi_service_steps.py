"""A service through the client that OpenAPI Generator makes of its document.

No vectors and matrices: Swagger 2.0 has no word for "any value", and this generator takes an item without a type for
an object. The states of a batch are read unparsed: the document has them in lower case, as the original's, which sends
them capitalized; only this generator minds.
"""

import base64
import json
import os
import time

import plants_client as plants
from plants_client.exceptions import BadRequestException

url = os.environ["MLHOST_URL"]
with plants.ApiClient(plants.Configuration(host=url)) as anonymous:
    login = plants.LoginRequest(username="admin", password=os.environ["MLHOST_PASSWORD"])
    token = plants.UserApi(anonymous).login(login).access_token
configuration = plants.Configuration(host=url, api_key={"Bearer": token}, api_key_prefix={"Bearer": "Bearer"})
with plants.ApiClient(configuration) as client:
    service = plants.PlantsApi(client)
    inputs = plants.InputParameters(size=5.5, count=3, kind="a", fresh=True, frame={"n": [1, 2]})
    result = service.describe(inputs)
    assert result.success, result
    outputs = result.output_parameters
    assert (outputs.total, outputs.pieces, outputs.told, outputs.rotten) == (16.5, 6, "a: 16.5", False)
    assert outputs.framed == {"n": [1, 2], "kind": ["a", "a"]}
    assert base64.b64decode(result.output_files["told.txt"]) == b"a: 16.5"
    try:
        service.describe(plants.InputParameters(kind="a"))
    except BadRequestException as error:
        assert "size" in error.body
    else:
        raise AssertionError("a call without an input is refused")

    batch = service.start_batch_execution([inputs, inputs], parallel_count=2).batch_execution_id
    assert batch in service.get_batch_executions()
    deadline = time.time() + 30
    while True:
        raw = service.get_batch_execution_status_without_preload_content(batch, show_partial_results=True)
        status = json.loads(raw.read())
        if status["state"] == "Complete":
            break
        assert time.time() < deadline, status
        time.sleep(0.05)
    totals = [each["outputParameters"]["total"] for each in status["batchExecutionResults"]]
    assert (totals, status["completedItemCount"], status["totalItemCount"]) == ([16.5, 16.5], 2, 2)
    assert service.get_batch_execution_files(batch, 1) == ["told.txt"]
    assert service.get_batch_execution_file(batch, 1, "told.txt") == b"a: 16.5"
    service.cancel_and_delete_batch_execution(batch)
    assert batch not in service.get_batch_executions()
