"""A service consumed through the client that AutoRest 3 makes of its document."""

import os
import time

from azure.core.exceptions import HttpResponseError
from flowers_client import Flowers, models

with Flowers(os.environ["MLHOST_URL"]) as client:
    token = client.login(models.LoginRequest(username="admin", password=os.environ["MLHOST_PASSWORD"])).access_token
    headers = {"Authorization": f"Bearer {token}"}
    inputs = models.InputParameters(sizes=[5.1, 3.5], kind="a", frame={"n": [1, 2]})
    result = client.classify(inputs, headers=headers)
    assert result.success, result
    assert result.error_message == ""
    assert result.output_parameters.doubled == [10.2, 7.0]
    assert result.output_parameters.framed == {"n": [1, 2], "kind": ["a", "a"]}
    failed = client.classify(models.InputParameters(sizes=[1], kind="raise", frame={}), headers=headers)
    assert not failed.success
    assert failed.error_message == "ValueError: raise"
    # The document, as the original's, has 400 among the answers, without a body: no error to AutoRest.
    incomplete = models.InputParameters(kind="a")
    assert client.classify(incomplete, headers=headers, cls=lambda answer, *_: answer.http_response.status_code) == 400
    try:
        client.classify(inputs)
    except HttpResponseError as error:
        assert error.status_code == 401
    else:
        raise AssertionError("a call without a token is refused")

    batch = client.start_batch_execution([inputs, inputs], headers=headers).batch_execution_id
    assert batch in client.get_batch_executions(headers=headers)
    deadline = time.time() + 30
    while True:
        status = client.get_batch_execution_status(batch, show_partial_results=True, headers=headers)
        if status.completed_item_count == 2 and status.state == "Complete":
            break
        assert time.time() < deadline, status
        time.sleep(0.05)
    assert [each.output_parameters.doubled for each in status.batch_execution_results] == [[10.2, 7.0]] * 2
    assert client.get_batch_execution_files(batch, 1, headers=headers) == ["kind.txt"]
    assert b"".join(client.get_batch_execution_file(batch, 1, "kind.txt", headers=headers)) == b"a\n"
    client.cancel_and_delete_batch_execution(batch, headers=headers)
    assert batch not in client.get_batch_executions(headers=headers)
