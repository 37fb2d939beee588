"""Requests made from a document of the API, as it allows them and not, and a visitor who sends them.

Half of the requests name things that exist, which random names never hit; what a request creates is deleted at once.
"""

import base64
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from math import ceil
from typing import Any
from urllib.parse import quote

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from tests.parts import PASSWORD

Json = dict[str, Any]
Request = Case[Any]

HELD = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
    checks.unsupported_method,
    checks.allow_header_conformance,
    checks.ignored_auth,
]
# The others do not fit. `positive_data_acceptance`: the things that a request names must exist, and code must run.
# `negative_data_rejection`: requests are bound as the original's server bound them, property names in any case and
# unknown ones ignored. `missing_required_header`: there are none. `use_after_free`, `ensure_resource_availability`,
# `object_level_authorization`: they judge a sequence of requests, which the tests of each noun do.

SERVICE, VERSION = "fit", "1"
PUBLISHED = {
    "runtimeType": "Python",
    "code": "y = x * 2\nprint(y)\nopen('a.txt', 'w').write(str(y))",
    "inputParameterDefinitions": [{"name": "x", "type": "numeric"}],
    "outputParameterDefinitions": [{"name": "y", "type": "numeric"}],
    "outputFileNames": ["a.txt", "never written.txt"],
    "description": "Doubles x; <b>&amp;\" \u2028'é漢",
}
RUN = {"code": "x = 1\nprint(x)\nopen('a.txt', 'w').write('1')", "outputParameters": ["x"]}
PICKLE = base64.b64decode("gASVBQAAAAAAAABLAS4=")
NOBODYS = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"  # an id that was never given
GUEST = "guest"  # a user whom nobody minds being changed
KNOWN = "that is there"  # stands for it until the request is sent
AWKWARD = (  # names that have misled a server before
    *("{", "}", "{id}", "a{b}c", "%", "%2F", "%00", "a%zz", "a;b", "a?b", "a#b", "+", "a b", " ", "~", "'", '"', "\\"),
    *("a\nb", "a\r\nX-Injected: 1", "\t", "\0", "\x7f", "\u2028", "\ufeff", "é", "漢字", "😀", "\U0010ffff", "a" * 300),
    *("...", "a/b", "../a", "CON", "-1", "0", "9" * 20, "1e999", "NaN", "\u0661", "null", "swagger.json"),
)
BODIES: Mapping[str, Any] = {  # by operation id: one that gets somewhere
    "createSession": {"runtimeType": "Python", "name": "generated"},
    "executeCode": RUN,
    "CreateSnapshot": {"name": "generated", "strict": False},
    "publishWebService": PUBLISHED,
    "publishWebServiceVersion": PUBLISHED,
    "patchWebServiceVersion": {"description": "changed"},
    "createOrUpdateServicePool": {"InitialPoolSize": 1, "MaxPoolSize": 1},
    "ConsumeWebService": {"x": 1},
    "setWorkspaceObject": PICKLE,
    "StartBatchExecution": [{"x": 1}, {"x": 2}],
}


class Visitor:
    """One user of a server, who sends generated requests and keeps things for them to name."""

    def __init__(self, url: str, name: str, publisher: "Visitor | None" = None) -> None:
        self.sent: Counter[tuple[str, int]] = Counter()  # how often each operation was answered with a status
        self.faults: dict[tuple[str, str], str] = {}  # by operation and kind: the first
        self._url, self._name = url, name
        self._publisher = publisher or self
        self._kept = {"session": "", "snapshot": "", "batch": "", "token": ""}
        self._http = requests.Session()
        self._headers: dict[str, str] = {}
        self._headers = {"Authorization": f"Bearer {self._pair()['access_token']}"}

    def document(self, path: str) -> Json:
        """A document of the server's; a service's own without the slips that it shares with the original's."""
        if not path.startswith("/api/"):
            return dict(self._call("GET", path))
        self._service()
        document = dict(self._call("GET", path))
        definitions, files = document["definitions"], [at for at in document["paths"] if at.endswith("{fileName}")]
        # States begin with a capital, what was not written is null, and so is a number that JSON has not: infinity.
        # Generators are fed with these documents, so the server keeps the slips (tests/test_openapi.py).
        state = definitions["BatchWebServiceResult"]["properties"]["state"]
        state["enum"] = [*(name[0].upper() + name[1:] for name in state["enum"]), "Failed"]
        definitions["WebServiceResult"]["properties"]["outputFiles"]["additionalProperties"]["x-nullable"] = True
        definitions["OutputParameters"]["properties"]["y"]["x-nullable"] = True
        document["paths"][files[0]]["get"]["produces"] = ["application/octet-stream", "application/json"]
        return document

    def send(self, case: Request) -> None:
        """Send one request, hold its answer against the document, and delete what it created."""
        names_known = KNOWN in (case.path_parameters or {}).values()
        if names_known:
            case.path_parameters = {
                name: self._known(case.path, name) if value == KNOWN else value
                for name, value in case.path_parameters.items()
            }
        if case.path.startswith(f"/api/{SERVICE}/"):
            self._service()
        answer = case.call(base_url=self._url, session=self._http, headers=self._headers, timeout=30)
        self.sent[case.operation.label, answer.status_code] += 1
        try:
            case.validate_response(answer, checks=HELD, headers=self._headers)
        except FailureGroup as group:
            for fault in group.exceptions:
                request = f"{answer.request.method} {answer.request.url!r} {answer.request.body!r:.300}"
                told = f"{fault}\n{request}\n{answer.status_code} {answer.content!r:.300}"
                self.faults.setdefault((case.operation.label, getattr(fault, "title", "")), told)
        if answer.status_code < 300:
            self._tidy(case, answer.headers.get("location", [""])[0], names_known=names_known)

    def leave(self) -> None:
        """Close and delete what was kept; there must be no more."""
        sessions, snapshots = self._call("GET", "/sessions"), self._call("GET", "/snapshots")
        assert len(sessions) <= 1
        assert len(snapshots) <= 1
        assert {service["name"] for service in self._call("GET", "/services")} <= {SERVICE}
        for session in sessions:
            self._call("DELETE", f"/sessions/{session['id']}/force")
        for snapshot in snapshots:
            self._call("DELETE", f"/snapshots/{snapshot['id']}")
        if self._publisher is self and self._is_published():
            self._call("DELETE", f"/services/{SERVICE}/{VERSION}")
        self._http.close()

    def _known(self, path: str, name: str) -> str:
        """The id or name of something that is there."""
        if name in ("name", "version"):
            self._service()
            return {"name": SERVICE, "version": VERSION}[name]
        if name == "refreshToken":
            return str(self._pair()["refresh_token"])
        if name == "executionId":
            return self._batch()
        if name == "tokenId":
            return self._token()
        if name == "user":
            return GUEST
        if name == "snapshotId" or path.startswith("/snapshots"):
            return self._snapshot()
        return self._session() if name == "id" else {"index": "0", "objectName": "x", "fileName": "a.txt"}[name]

    def _session(self) -> str:
        if self._publisher is not self:  # a Reader, who has none
            return NOBODYS
        if self._kept["session"] not in [session["id"] for session in self._call("GET", "/sessions")]:
            self._kept["session"] = self._call("POST", "/sessions", json={"runtimeType": "Python"})["sessionId"]
        self._call("POST", f"/sessions/{self._kept['session']}/execute", json=RUN)
        return self._kept["session"]

    def _snapshot(self) -> str:
        if self._publisher is not self:
            return NOBODYS
        if self._kept["snapshot"] not in [snapshot["id"] for snapshot in self._call("GET", "/snapshots")]:
            taken = self._call("POST", f"/sessions/{self._session()}/snapshot", json={"name": "kept"})
            self._kept["snapshot"] = taken["snapshotId"]
        return self._kept["snapshot"]

    def _token(self) -> str:
        if self._kept["token"] not in [token["id"] for token in self._call("GET", "/tokens")]:
            self._kept["token"] = self._call("POST", "/tokens", json={"name": "kept", "scope": "all"})["id"]
        return self._kept["token"]

    def _batch(self) -> str:
        self._service()
        batches = f"/api/{SERVICE}/{VERSION}/batch"
        if self._kept["batch"] not in self._call("GET", batches):
            started = self._call("POST", batches, json=[{"x": 1}, {"x": None}])
            self._kept["batch"] = started["batchExecutionId"]
        return self._kept["batch"]

    def _service(self) -> None:
        if not self._is_published():
            self._publisher._call("POST", f"/services/{SERVICE}/{VERSION}", json=PUBLISHED)

    def _is_published(self) -> bool:
        return VERSION in [one["version"] for one in self._call("GET", f"/services/{SERVICE}")]

    def _tidy(self, case: Request, location: str, *, names_known: bool) -> None:
        """Delete what was created, and the service if it was changed: the next who needs it makes it anew."""
        path = location.removeprefix(self._url)
        if path and "/batch/" not in path:
            path = path.replace("/api/", "/services/")
        if not path and names_known and case.path.startswith("/services/") and case.method in ("PATCH", "POST"):
            path = f"/services/{SERVICE}/{VERSION}"
        if path:
            self._call("DELETE", path)

    def _pair(self) -> Json:
        return dict(self._call("POST", "/login", json={"username": self._name, "password": PASSWORD}))

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = self._http.request(method, self._url + path, headers=self._headers, timeout=30, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:300]}"
        return answer.json() if answer.content else None


def visit(visitor: Visitor, document: Json, examples: int, every: int, number: int) -> None:
    """Send some `examples` made by chance from a seed, and of those made by rule one of `every`."""
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]
    assert len(operations) == sum(map(len, document["paths"].values()))
    each = ceil(examples / len(operations))
    for operation in operations:
        made = schema.iter_coverage_cases(
            operation, generation_modes=list(GenerationMode), generation_config=schema.config.generation
        )
        for case in islice(made, None, None, every):
            visitor.send(case)
        _by_chance(visitor, _requests(operation), each, number)


def _by_chance(visitor: Visitor, cases: st.SearchStrategy[Request], examples: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=examples,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def send(case: Request) -> None:
        visitor.send(case)

    send()


@st.composite
def _requests(draw: st.DrawFn, operation: APIOperation[Any, Any, Any, Any]) -> Request:
    """What the document allows or not; often with names of what is there, awkward names, or a body that works."""
    case: Request = draw(st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)))
    for name, value in (case.path_parameters or {}).items():
        case.path_parameters[name] = draw(
            st.sampled_from((KNOWN, KNOWN, value, quote(draw(st.sampled_from(AWKWARD)), safe="")))
        )
    works = BODIES.get(operation.definition.raw["operationId"])
    if works is not None and draw(st.booleans()):
        made: Any = case.body
        is_both = isinstance(made, dict) and isinstance(works, dict) and draw(st.booleans())
        case.body = made | works if is_both else works
    return case
