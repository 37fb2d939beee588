"""What is generated: it compiles, is typed and formatted, and puts on the wire what the document says."""

import datetime
import inspect
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlhost.codegen import generate
from tests.codegen.conftest import Echo
from tests.codegen.documents import LONG, ODD, OFFICIAL, generate_official, ref

TOKEN = {"Authorization": "Bearer t"}


def run(*command: str, cwd: Path) -> None:
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr


def check(folder: Path) -> None:
    """Formatted, and well typed for strict mypy."""
    run("ruff", "format", "--isolated", "--check", ".", cwd=folder)
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\nwarn_unreachable = true\npython_version = 3.10\n")
    run("mypy", "--cache-dir", str(folder / ".cache"), ".", cwd=folder)


def test_a_package_from_an_odd_document_is_formatted_and_typed(tmp_path: Path) -> None:
    generate(json.dumps(ODD).encode(), "odd_client", "OddClient", tmp_path)
    check(tmp_path)


def test_packages_from_the_original_documents_are_formatted_and_typed(tmp_path: Path) -> None:
    for name in OFFICIAL:
        generate_official(name, tmp_path)
    check(tmp_path)


def test_names_of_any_length_are_laid_out_as_the_formatter_would(tmp_path: Path) -> None:
    definitions, paths = {}, {}
    for length in range(1, 110):
        name = "n" * length
        kind = {"type": "array", "items": {"type": "object", "additionalProperties": ref(name)}}
        about = f"{'word ' * (length // 5)}{'x' * (length % 5)}"
        required = [name] if length % 2 else []
        properties = {name: kind, "choice": {"type": "string", "enum": [name], "x-ms-enum": {"name": f"E{name}"}}}
        definitions[name] = {"type": "object", "required": required, "properties": properties, "description": about}
        definitions[f"Error{name}"] = {"type": "object", "properties": {}, "description": f'"{about}\n  {about}"'}
        parameters = [
            {"name": name, "in": "path", "required": True, "type": "string"},
            {"name": f"also{name}", "in": "query", "type": "array", "items": {"type": "string"}},
            {"name": "body", "in": "body", "schema": kind},
        ]
        paths[f"/{name}/{{{name}}}"] = {
            "put": {
                "operationId": f"N{name}_{name}",
                "summary": about,
                "parameters": parameters,
                "responses": {"200": {"schema": kind}, "default": {"schema": ref(f"Error{name}")}},
            }
        }
    document = {"swagger": "2.0", "info": {}, "paths": paths, "definitions": definitions}
    generate(json.dumps(document).encode(), "lengths", "Lengths", tmp_path)
    check(tmp_path)


def test_generated_code_is_within_the_syntax_of_python_3_8(tmp_path: Path) -> None:
    generate(json.dumps(ODD).encode(), "odd_client", "OddClient", tmp_path)
    run("ruff", "check", "--isolated", "--target-version=py38", "--select=E9,F", "odd_client", cwd=tmp_path)


def test_models_take_the_required_properties_first_and_then_the_rest_in_order(odd: Any) -> None:
    names = list(inspect.signature(odd.models.ThingV1).parameters)
    assert names[:3] == ["kind", "class_", "maybe"]
    assert names[3:12] == [
        "list_",
        "str_",
        "data_frame",
        "data_frame_2",
        "n2x",
        "été",
        "value",
        "self_",
        "from_json_",
    ]
    assert names[-1] == "additional_properties"
    assert odd.models.ThingV1(1, "a", None).str_ == 'it\'s "so"'


def test_a_model_survives_the_way_to_json_and_back(odd: Any) -> None:
    models = odd.models
    thing = models.ThingV1(
        1,
        "a",
        None,
        [models.ThingV1(2, "b", "x")],
        self_=b"\x00\xff",
        from_json_=datetime.date(2020, 2, 29),
        made_at=datetime.datetime(2020, 2, 29, 1, 2, 3, 456000, tzinfo=datetime.UTC),
        colour=models.Colour.DARK_BLUE,
        data_frame={"a": [1, None]},
        inner=models.ThingV1Inner("x"),
        additional_properties={"more": 5},
    )
    wire = json.loads(json.dumps(thing.to_json()))
    assert wire["maybe"] is None
    assert wire["colour"] == "dark blue"
    assert wire["more"] == 5
    assert wire["self"] == "AP8="
    assert "2x" not in wire
    assert models.ThingV1.from_json(wire) == thing


def test_what_comes_back_wrong_is_named(odd: Any) -> None:
    with pytest.raises(ValueError, match=r"ThingV1\.list: ThingV1: kind is missing"):
        odd.models.ThingV1.from_json({"kind": 1, "class": "a", "list": [{}]})


def test_times_are_read_as_the_server_writes_them(odd: Any) -> None:
    read = odd.support.moment
    assert read("2017-09-20T19:35:18.0561232") == datetime.datetime(2017, 9, 20, 19, 35, 18, 56123)
    assert read("2017-09-20T19:35:18Z").utcoffset() == datetime.timedelta(0)
    assert read("2017-09-20T19:35:18.5+02:00").utcoffset() == datetime.timedelta(hours=2)


def test_an_enum_value_is_its_text_and_an_unknown_one_stays_text(odd: Any) -> None:
    colour = odd.models.Colour
    assert colour.RED == "red"
    assert f"{colour.RED}" == "red"
    assert [each.name for each in colour] == ["RED", "DARK_BLUE", "NONE", "EMPTY", "N2ND"]
    assert odd.support.choice_of(colour)("green") == "green"


def test_parameters_go_where_the_document_says(odd: Any, echo: Echo) -> None:
    client = odd.OddClient(echo.url + "/")
    thing = odd.models.ThingV1(1, "a", "m")
    echo.answers(thing.to_json())
    got = client.import_(
        "a/b c", 7, "trace", ["x,y", "z"], flag=True, many=[1.5, 2.0], body=thing, custom_headers=TOKEN
    )
    assert got == thing
    [asked] = echo.asked
    path, _, query = asked.path.partition("?")
    assert (asked.method, path) == ("POST", "/echo/a%2Fb%20c/7")
    assert query == "name=x%2Cy%2Cz&count=3&flag=true&many=1.5&many=2.0"
    assert asked.headers["X-Trace"] == "trace"
    assert asked.headers["Authorization"] == "Bearer t"
    assert asked.headers["Content-Type"] == "application/json; charset=utf-8"
    assert json.loads(asked.body) == {"kind": 1, "class": "a", "maybe": "m", "str": 'it\'s "so"'}


@pytest.mark.parametrize("value", ["", ".", "..", None])
def test_a_path_parameter_cannot_lead_to_another_resource(odd: Any, echo: Echo, value: Any) -> None:
    with pytest.raises(ValueError, match="from cannot be"):
        odd.OddClient(echo.url).import_(value, 1)
    assert not echo.asked


def test_custom_headers_are_the_last_positional_argument_everywhere(odd: Any) -> None:
    client = odd.OddClient("http://unused")
    methods = [client.import_, client.send_form, client.upload, client.close_, client.texts.put_one]
    for method in methods:
        last = list(inspect.signature(method).parameters.values())[-1]
        assert last.name == "custom_headers"
        assert last.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD


def test_texts_are_sent_as_texts_or_as_json(odd: Any, echo: Echo) -> None:
    texts = odd.OddClient(echo.url).texts
    echo.answers("zurück ü".encode(), content_type="text/plain; charset=utf-8")
    assert texts.put_one("hin ü", TOKEN) == "zurück ü"
    echo.answers("back")
    assert texts.quote("forth") == "back"
    plain, quoted = echo.asked
    assert (plain.body, plain.headers["Content-Type"]) == ("hin ü".encode(), "text/plain")
    assert plain.headers["Accept"] == "text/plain"
    assert quoted.body == b'"forth"'
    assert quoted.headers["Accept"] == "application/json"


def test_forms_are_encoded_as_declared(odd: Any, echo: Echo) -> None:
    client = odd.OddClient(echo.url)
    echo.answers(b"", status=204)
    client.send_form("x&y", True)
    echo.answers(b"")
    client.send_form_2("hello")
    urlencoded, multipart = echo.asked
    assert urlencoded.body == b"a+b=x%26y&ok=true"
    assert multipart.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="note"\r\n\r\nhello' in multipart.body


def test_files_are_uploaded_with_their_names_and_come_as_chunks(odd: Any, echo: Echo, tmp_path: Path) -> None:
    client = odd.OddClient(echo.url)
    file = tmp_path / "data.csv"
    file.write_bytes(b"1,2")
    echo.answers(b"", status=201)
    with file.open("rb") as opened:
        client.upload(opened, "a note", TOKEN)
    client.upload(("other.csv", b"3,4"))
    assert b'name="file"; filename="data.csv"\r\n\r\n1,2' in echo.asked[0].body
    assert b'name="note"\r\n\r\na note' in echo.asked[0].body
    assert b'name="file"; filename="other.csv"\r\n\r\n3,4' in echo.asked[1].body
    echo.answers(bytes(200_000), content_type="application/octet-stream")
    assert b"".join(client.download()) == bytes(200_000)


@pytest.mark.parametrize("content", [b"raw", io.BytesIO(b"raw"), iter([b"r", b"aw"])])
def test_a_binary_body_is_sent_as_it_is(odd: Any, echo: Echo, content: Any) -> None:
    echo.answers({"a": "red", "b": None}, status=202)
    assert odd.OddClient(echo.url).replace(content) == {"a": odd.models.Colour.RED}
    [asked] = echo.asked
    assert (asked.body, asked.headers["Content-Type"]) == (b"raw", "application/octet-stream")
    echo.answers(b"", status=200)
    assert odd.OddClient(echo.url).replace(b"raw") is None


def test_an_error_of_the_server_is_raised_with_its_model(odd: Any, echo: Echo) -> None:
    client = odd.OddClient(echo.url)
    echo.answers({"message": "no such thing"}, status=404)
    with pytest.raises(odd.models.FaultException_2, match="404 Not Found: no such thing") as caught:
        list(client.download())
    assert caught.value.error.message == "no such thing"
    assert caught.value.response.status_code == 404
    echo.answers({"message": "over", "at": "noon"}, status=410)
    with pytest.raises(odd.models.EndedException) as ended:
        client.import_("a", 1)
    assert ended.value.error.at == "noon"
    echo.answers(b"<html>", status=502, content_type="text/html")
    with pytest.raises(odd.models.FaultException_2, match="<html>") as broken:
        client.close_()
    assert broken.value.error is None
    assert isinstance(broken.value, odd.HttpOperationError)


def test_a_success_that_was_not_declared_is_an_error_too(odd: Any, echo: Echo) -> None:
    echo.answers(["red"], status=201)
    with pytest.raises(odd.HttpOperationError, match="201 Created"):
        odd.OddClient(echo.url).close_()


def test_an_answer_of_another_shape_is_an_error(odd: Any, echo: Echo) -> None:
    echo.answers({"not": "a list"})
    with pytest.raises(odd.HttpOperationError, match=r"not what the document declares: .* is no array"):
        odd.OddClient(echo.url).close_()
    echo.answers(b"")
    assert odd.OddClient(echo.url).close_() == []


def test_an_operation_without_id_is_named_after_its_path(odd: Any, echo: Echo) -> None:
    client = odd.OddClient(echo.url)
    echo.answers([1], status=207)
    assert client.get_no_id_x("ü") == [1]
    assert echo.asked[0].path == "/no%20id/%C3%BC"


def test_the_client_goes_to_the_host_of_the_document_unless_told(odd: Any) -> None:
    assert inspect.signature(odd.OddClient).parameters["base_url"].default == "https://odd.example:8080/base"


def test_docstrings_hold_the_descriptions(odd: Any) -> None:
    assert odd.OddClient.import_.__doc__.startswith("Says ''' and \\ and more")
    assert "- class_: Which. One of: a, b." in odd.models.ThingV1.__doc__
    assert LONG in odd.models.ThingV1.from_json.__code__.co_consts
