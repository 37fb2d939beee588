"""The life of a service through a client generated from the core document; run by a Python with requests alone.

Python 3.8's syntax. Ends with status 0 if every answer is what it should be.
"""

import io
import os
import sys

import core

models = core.models
client = core.Core(os.environ["MLHOST_URL"])
PASSWORD = os.environ["MLHOST_PASSWORD"]
NAME = f"Core{sys.version_info[0]}{sys.version_info[1]}"


def refused(status, call, *arguments):
    """The message of the error with which a call is refused."""
    try:
        call(*arguments)
    except models.ErrorException as error:
        assert error.response.status_code == status, error
        return error.error.message
    raise AssertionError(f"{call} is not refused")


assert refused(401, client.login, models.LoginRequest("admin", "wrong"))
assert refused(401, client.list_sessions)
pair = client.login(models.LoginRequest("admin", PASSWORD))
spare = client.login(models.LoginRequest(username="admin", password=PASSWORD))
headers = {"Authorization": f"Bearer {pair.access_token}"}
assert client.status(headers).status_code == "pass"

session = client.create_session(models.CreateSessionRequest("mine", runtime_type=models.RuntimeType.PYTHON), headers)
[listed] = [each for each in client.list_sessions(headers) if each.id == session.session_id]
assert (listed.name, listed.owner, listed.runtime_type) == ("mine", "admin", "Python")
done = client.execute_code(
    session.session_id,
    models.ExecuteRequest("y = x + 1\nprint('hello')", [models.WorkspaceObject("x", 41)], ["y"]),
    headers,
)
assert (done.success, done.error_message, done.console_output) == (True, "", "hello\n"), done
assert [(each.name, each.value) for each in done.output_parameters] == [("y", 42)]
assert client.get_session_console_output(session.session_id, headers).console_output == "hello\n"
assert client.list_session_history(session.session_id, headers) == ["y = x + 1\nprint('hello')"]

client.upload_session_file(session.session_id, ("näme 1.csv", io.BytesIO(b"1,2")), headers)
assert client.list_session_files(session.session_id, headers) == ["näme 1.csv"]
assert b"".join(client.get_session_file(session.session_id, "näme 1.csv", headers)) == b"1,2"
assert refused(404, client.get_session_file, session.session_id, "none.csv", headers)
client.delete_session_file(session.session_id, "näme 1.csv", headers)

assert {"x", "y"} <= set(client.list_workspace_objects(session.session_id, headers))
pickled = b"".join(client.get_workspace_object(session.session_id, "y", headers))
client.set_workspace_object(session.session_id, "z", pickled, headers)
client.set_workspace_object(session.session_id, "w", iter([pickled[:5], pickled[5:]]), headers)
client.delete_workspace_object(session.session_id, "x", headers)
assert set(client.list_workspace_objects(session.session_id, headers)) == {"y", "z", "w"}

snapshot = client.create_snapshot(session.session_id, models.CreateSnapshotRequest("kept"), headers)
[kept] = [each for each in client.list_snapshots(headers) if each.id == snapshot.snapshot_id]
zipped = b"".join(client.get_snapshot_content(snapshot.snapshot_id, headers))
assert zipped[:2] == b"PK" and kept.content_size == len(zipped)
client.load_snapshot(session.session_id, snapshot.snapshot_id, headers)
assert isinstance(client.cancel_session(session.session_id, headers), str)

definition = models.PublishWebServiceRequest(
    snapshot.snapshot_id,
    "answer = z * factor",
    "Multiplies.",
    input_parameter_definitions=[models.ParameterDefinition("factor", models.Type.NUMERIC)],
    output_parameter_definitions=[models.ParameterDefinition("answer", "numeric")],
    runtime_type="Python",
)
assert client.publish_web_service_version(NAME, "1.0", definition, headers) == f"/api/{NAME}/1.0"
assert refused(409, client.publish_web_service_version, NAME, "1.0", definition, headers)
[service] = client.get_web_service_version(NAME, "1.0", headers)
assert service.input_parameter_definitions == [models.ParameterDefinition("factor", "numeric")]
assert service.description == "Multiplies." and service.runtime_type is models.WebServiceRuntimeType.PYTHON
client.patch_web_service_version(NAME, "1.0", models.PublishWebServiceRequest(description="New."), headers)
assert [each.description for each in client.get_all_web_service_versions_by_name(NAME, headers)] == ["New."]
assert NAME in {each.name for each in client.get_all_web_services(headers)}
document = client.get_web_service_swagger(NAME, "1.0", headers)
assert document["info"]["title"] == NAME
client.delete_web_service_version(NAME, "1.0", headers)
assert client.get_all_web_service_versions_by_name(NAME, headers) == []

client.delete_snapshot(snapshot.snapshot_id, headers)
client.close_session(session.session_id, headers)
assert refused(404, client.list_session_files, session.session_id, headers)
other = client.create_session(models.CreateSessionRequest(runtime_type="Python"), headers)
client.close_session_by_force(other.session_id, headers)

renewed = client.renew_token(models.RenewTokenRequest(spare.refresh_token))
assert refused(401, client.list_sessions, {"Authorization": f"Bearer {spare.access_token}"})
client.revoke_refresh_token(renewed.refresh_token)
assert refused(401, client.list_sessions, {"Authorization": f"Bearer {renewed.access_token}"})
client.close()
