"""A service consumed through the client generated from its own document; Python 3.8's syntax, requests alone."""

import os

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
