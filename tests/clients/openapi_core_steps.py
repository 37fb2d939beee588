"""Sessions and services through the client that OpenAPI Generator makes of the core document.

Not the status: the document has its details as objects, while the original's own example shows numbers and texts.
"""

import os

import core_client as core
from core_client.exceptions import NotFoundException

with core.ApiClient(core.Configuration(host=os.environ["MLHOST_URL"])) as client:
    login = core.LoginRequest(username="admin", password=os.environ["MLHOST_PASSWORD"])
    token = core.AuthenticationAPIsApi(client).login(login).access_token
    client.set_default_header("Authorization", f"Bearer {token}")
    sessions = core.SessionAPIsApi(client)
    session = sessions.create_session(core.CreateSessionRequest(name="theirs", runtimeType="Python")).session_id
    request = core.ExecuteRequest(
        code="y = x * 2",
        inputParameters=[core.WorkspaceObject(name="x", value={"a": 1})],
        outputParameters=["y"],
    )
    failed = sessions.execute_code(session, request)
    assert failed.success is False
    assert failed.error_message.startswith("TypeError: unsupported operand")
    sessions.upload_session_file(session, ("data.csv", b"1,2"))
    assert sessions.list_session_files(session) == ["data.csv"]
    assert sessions.get_session_file(session, "data.csv") == b"1,2"
    snapshot = core.SnapshotAPIsApi(client).create_snapshot(session, core.CreateSnapshotRequest(name="s")).snapshot_id
    services = core.ServicesManagementAPIsApi(client)
    published = services.publish_web_service_version(
        "Theirs",
        "1",
        core.PublishWebServiceRequest(snapshotId=snapshot, code="y = 1", runtimeType="Python"),
    )
    assert published == "/api/Theirs/1"
    assert [each.version for each in services.get_web_service_version("Theirs", "1")] == ["1"]
    document = core.ServiceConsumptionAPIsApi(client).get_web_service_swagger("Theirs", "1")
    assert document["info"]["title"] == "Theirs"
    services.delete_web_service_version("Theirs", "1")
    try:
        services.get_web_service_version("Theirs", "1")
    except NotFoundException as error:
        assert "Theirs" in error.body
    else:
        raise AssertionError("a deleted service is gone")
    core.SnapshotAPIsApi(client).delete_snapshot(snapshot)
    sessions.close_session(session)
