"""Sessions, snapshots and services through the client that AutoRest 3 makes of the core document."""

import io
import os

from azure.core.exceptions import HttpResponseError
from core_client import Core, models

NAME = "AutoRests"


def refused(status, call, *arguments, **options):
    """What is said when a call is refused with a status."""
    try:
        call(*arguments, **options)
    except HttpResponseError as error:
        assert error.status_code == status, error
        return str(error)
    raise AssertionError(f"{call} is not refused")


with Core(os.environ["MLHOST_URL"]) as client:
    assert refused(401, client.login, models.LoginRequest(username="admin", password="wrong"))
    pair = client.login(models.LoginRequest(username="admin", password=os.environ["MLHOST_PASSWORD"]))
    headers = {"Authorization": f"Bearer {pair.access_token}"}
    assert client.status(headers=headers).status_code == "pass"
    request = models.CreateSessionRequest(name="theirs", runtime_type="Python")
    session = client.create_session(request, headers=headers).session_id
    assert session in {each.id for each in client.list_sessions(headers=headers)}
    done = client.execute_code(
        session,
        models.ExecuteRequest(
            code="y = x + 1\nprint('hello')",
            input_parameters=[models.WorkspaceObject(name="x", value=41)],
            output_parameters=["y"],
        ),
        headers=headers,
    )
    assert (done.success, done.error_message, done.console_output) == (True, "", "hello\n"), done
    assert [(each.name, each.value) for each in done.output_parameters] == [("y", 42)]

    file = io.BytesIO(b"1,2")
    file.name = "data.csv"
    client.upload_session_file(session, file, headers=headers)
    assert client.list_session_files(session, headers=headers) == ["data.csv"]
    assert b"".join(client.get_session_file(session, "data.csv", headers=headers)) == b"1,2"
    pickled = b"".join(client.get_workspace_object(session, "y", headers=headers))
    client.set_workspace_object(session, "z", io.BytesIO(pickled), headers=headers)
    assert {"x", "y", "z"} <= set(client.list_workspace_objects(session, headers=headers))
    snapshot = client.create_snapshot(session, models.CreateSnapshotRequest(name="s"), headers=headers).snapshot_id
    assert b"".join(client.get_snapshot_content(snapshot, headers=headers))[:2] == b"PK"

    definition = models.PublishWebServiceRequest(
        snapshot_id=snapshot,
        code="answer = z * factor",
        input_parameter_definitions=[models.ParameterDefinition(name="factor", type="numeric")],
        output_parameter_definitions=[models.ParameterDefinition(name="answer", type="numeric")],
        runtime_type="Python",
    )
    published = client.publish_web_service_version(NAME, "1.0", definition, headers=headers)
    assert published == f"/api/{NAME}/1.0"
    assert NAME in refused(409, client.publish_web_service_version, NAME, "1.0", definition, headers=headers)
    changed = models.PublishWebServiceRequest(description="New.", runtime_type="Python")
    client.patch_web_service_version(NAME, "1.0", changed, headers=headers)
    [service] = client.get_web_service_version(NAME, "1.0", headers=headers)
    assert (service.description, service.code) == ("New.", "answer = z * factor")
    assert client.get_web_service_swagger(NAME, "1.0", headers=headers)["info"]["title"] == NAME
    client.delete_web_service_version(NAME, "1.0", headers=headers)
    assert client.get_all_web_service_versions_by_name(NAME, headers=headers) == []
    client.delete_snapshot(snapshot, headers=headers)
    client.close_session(session, headers=headers)
    assert refused(404, client.list_session_files, session, headers=headers)
