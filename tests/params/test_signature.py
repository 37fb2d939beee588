"""Signatures: which ones can be declared, what a body must hold, and that an answer always comes of encoding."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlhost.errors import Invalid
from mlhost.params.jsontext import parse
from mlhost.params.signature import Parameter, Signature
from mlhost.params.types import TYPES

pytestmark = pytest.mark.usefixtures("codec")

scalars = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats() | st.text()
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)
ONE_OF_EACH = Signature.of([(f"i{n}", name) for n, name in enumerate(TYPES)], [])


def taking(spelling: str) -> Signature:
    return Signature.of([("x", spelling)], [])


def giving(*spellings: str) -> Signature:
    return Signature.of([], [(f"o{n}", spelling) for n, spelling in enumerate(spellings)])


# --- declaring -------------------------------------------------------------------------------------------------------


def test_a_signature_keeps_the_order_and_has_one_name_for_a_type() -> None:
    signature = Signature.of([("hp", "Float"), ("wt", "numeric")], [("answer", "DataFrame"), ("more", "odd")])
    assert signature.inputs == (Parameter("hp", "numeric"), Parameter("wt", "numeric"))
    assert signature.outputs == (Parameter("answer", "data.frame"), Parameter("more", "odd"))


@pytest.mark.parametrize("name", ["", "1x", "a b", "a.b", "class", "None"])
def test_a_name_that_is_no_variable_is_invalid(name: str) -> None:
    with pytest.raises(Invalid) as fault:
        Signature.of([(name, "int")], [])
    assert fault.value.details == {"field": "inputParameterDefinitions"}
    with pytest.raises(Invalid) as fault:
        Signature.of([], [(name, "int")])
    assert fault.value.details == {"field": "outputParameterDefinitions"}


def test_a_name_declared_twice_is_invalid_but_an_input_may_also_be_an_output() -> None:
    with pytest.raises(Invalid, match="outputParameterDefinitions: 'x' is declared twice") as fault:
        Signature.of([("x", "int")], [("x", "int"), ("x", "int")])
    assert fault.value.details == {"field": "outputParameterDefinitions"}
    assert Signature.of([("x", "int")], [("x", "int")]).inputs == (Parameter("x", "integer"),)


# --- decoding --------------------------------------------------------------------------------------------------------


def test_a_body_is_decoded_by_the_declared_types() -> None:
    signature = Signature.of(
        [("n", "numeric"), ("v", "vector"), ("m", "matrix"), ("f", "data.frame"), ("any", "odd")], []
    )
    body = {"f": {"b": [1], "a": ["x"]}, "m": [[1, 2]], "v": [1.5], "n": 120, "any": {"k": [1]}, "undeclared": 1}
    inputs = signature.decode(json.dumps(body).encode())
    assert list(inputs) == ["n", "v", "m", "f", "any"]
    assert repr(inputs["n"]) == "120.0"
    assert inputs["v"].shape == (1,)
    assert inputs["m"].shape == (1, 2)
    assert list(inputs["f"].columns) == ["b", "a"]
    assert inputs["any"] == {"k": [1]}


def test_without_inputs_the_body_may_be_empty() -> None:
    assert giving("int").decode(b"") == giving("int").decode(b"{}") == {}


def test_a_null_is_none_but_an_input_that_is_missing_is_invalid() -> None:
    assert taking("numeric").decode(b'{"x":null}') == {"x": None}
    for body in (b"", b"{}", b'{"X":1}'):
        with pytest.raises(Invalid, match="input 'x' is missing") as fault:
            taking("numeric").decode(body)
        assert fault.value.details["field"] == "x"


@pytest.mark.parametrize("body", [b"[]", b"null", b"5", b'"x"'])
def test_a_body_that_is_no_object_is_invalid(body: bytes) -> None:
    with pytest.raises(Invalid, match="must be a JSON object"):
        taking("numeric").decode(body)


@pytest.mark.parametrize(
    ("spelling", "value", "message"),
    [
        ("int", 2.5, "input 'x' must be of type integer, got 2.5: not a whole number"),
        ("numeric", "abc", "input 'x' must be of type numeric, got \"abc\": not a number"),
        ("numeric", 10**400, f"input 'x' must be of type numeric, got {'1' + '0' * 39}…: int too large"),
        ("matrix", [[1], [2, 3]], "input 'x' must be of type matrix, got a list: rows of different lengths"),
        ("data.frame", "a" * 100, "input 'x' must be of type data.frame, got \"aaaaaaa"),
    ],
)
def test_a_value_of_another_type_is_invalid_and_the_message_names_field_type_and_value(
    spelling: str, value: Any, message: str
) -> None:
    with pytest.raises(Invalid) as fault:
        taking(spelling).decode(json.dumps({"x": value}).encode())
    assert fault.value.message.startswith(message)
    assert len(fault.value.message) < 150
    assert fault.value.details["field"] == "x"


@given(st.lists(json_values, min_size=len(TYPES), max_size=len(TYPES)))
def test_any_values_are_decoded_or_invalid(values: list[Any]) -> None:
    for name, value in zip(TYPES, values, strict=True):
        try:
            taking(name).decode(json.dumps({"x": value}).encode())
        except Invalid as fault:
            assert fault.details.get("field") == "x" or "surrogate" in fault.message


@given(st.binary())
def test_any_bytes_are_decoded_or_invalid(body: bytes) -> None:
    with pytest.raises(Invalid):
        ONE_OF_EACH.decode(body)


# --- encoding --------------------------------------------------------------------------------------------------------


def test_outputs_are_an_object_in_the_order_declared() -> None:
    namespace = {"o1": np.array([1.5]), "o0": np.array([7]), "o2": pd.DataFrame({"a": [1]}), "other": 1}
    text, message = giving("int", "vector", "data.frame").encode(namespace)
    assert (text, message) == (b'{"o0":7,"o1":[1.5],"o2":{"a":[1]}}', "")


def test_no_outputs_are_an_empty_object() -> None:
    assert giving().encode({"x": 1}) == (b"{}", "")


def test_outputs_at_fault_are_null_and_named_in_the_message() -> None:
    text, message = giving("int", "int", "character", "vector").encode({"o0": 1, "o2": [1, 2], "o3": object()})
    assert parse(text) == {"o0": 1, "o1": None, "o2": None, "o3": None}
    assert message == (
        "output 'o1' was never assigned; "
        "output 'o2' cannot be sent as character: 2 values instead of one; "
        "output 'o3' cannot be sent as vector: an object of type object cannot be written as JSON"
    )


class MuteError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise MuteError


HOSTILE = [
    type(name, (base,), dict.fromkeys(methods.split(), _refuse))
    for name, base, methods in [
        ("Everything", object, "__getattr__ __len__ __iter__ __repr__ __str__ __eq__ __hash__ __array__ tolist"),
        ("Framed", object, "to_frame"),
        ("Sized", object, "__len__ __iter__ __contains__ __getitem__"),
        ("Number", object, "__float__ __int__ __index__ __bool__"),
        ("List", list, "__len__ __iter__ __getitem__ __eq__"),
        ("Dict", dict, "__len__ __iter__ items keys values __getitem__"),
        ("Text", str, "__str__ __repr__ __eq__ __hash__ encode"),
        ("Float", float, "__float__ __eq__ __ne__ __repr__"),
    ]
]


@pytest.mark.parametrize("spelling", [*TYPES, "odd"])
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda kind: kind.__name__)
def test_whatever_the_users_objects_raise_an_answer_comes_of_it(hostile: type, spelling: str) -> None:
    array = np.empty(2, object)
    array[0] = hostile()
    for value in (hostile(), [hostile()], {"k": hostile()}, array):
        text, message = giving(spelling, "int").encode({"o0": value, "o1": 5})
        answer = json.loads(text)
        assert answer["o1"] == 5
        assert message == "" or (answer["o0"] is None and message.startswith("output 'o0' cannot be sent as "))


def test_a_fault_that_cannot_tell_is_named_by_its_type() -> None:
    _, message = giving("vector").encode({"o0": HOSTILE[0]()})
    assert message == "output 'o0' cannot be sent as vector: MuteError"


def test_a_fault_that_says_nothing_is_named_by_its_type() -> None:
    class Silent:
        def tolist(self) -> Any:
            raise AssertionError

    assert giving("vector").encode({"o0": Silent()})[1].endswith(": AssertionError")


def test_an_interrupt_is_not_a_fault_of_an_output() -> None:
    class Interrupted:
        def tolist(self) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        giving("vector").encode({"o0": Interrupted()})


# --- what is imported ------------------------------------------------------------------------------------------------

IMPORTS_SCRIPT = """
import sys
import mlhost.params.jsontext, mlhost.params.arrays, mlhost.params.frames, mlhost.params.types
from mlhost.params.signature import Signature
kinds = ["integer", "numeric", "character", "logical"]
simple = Signature.of([(kind, kind) for kind in kinds], [(kind, kind) for kind in kinds])
inputs = simple.decode(b'{"integer":1,"numeric":2,"character":"c","logical":true}')
print(*simple.encode(inputs))
Signature.of([("v", "vector"), ("m", "matrix"), ("f", "data.frame")], [("v", "vector")])
print({"numpy", "pandas"} & set(sys.modules))
"""

WITHOUT_SCRIPT = """
import sys
sys.modules["numpy"] = sys.modules["pandas"] = None
from mlhost.params.signature import Signature
of = [("v", "vector"), ("m", "matrix"), ("f", "data.frame"), ("n", "numeric")]
inputs = Signature.of(of, of).decode(b'{"v":[1,null],"m":[[1,2]],"f":{"a":[1],"b":"x"},"n":1}')
print(inputs)
print(*Signature.of(of, of).encode(inputs))
print(Signature.of(of, of).encode({"v": {1}, "m": [1], "f": [{"a": 1}], "n": object()})[0])
"""


def _printed(script: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_neither_numpy_nor_pandas_is_imported_until_a_value_needs_it() -> None:
    answer, imported = _printed(IMPORTS_SCRIPT)
    assert answer.startswith('b\'{"integer":1,"numeric":2.0,')
    assert imported == "set()"


def test_without_numpy_and_pandas_the_values_stay_lists_and_columns() -> None:
    inputs, answer, other = _printed(WITHOUT_SCRIPT)
    assert inputs == "{'v': [1, None], 'm': [[1, 2]], 'f': {'a': [1], 'b': ['x']}, 'n': 1.0}"
    assert answer.strip() == 'b\'{"v":[1,null],"m":[[1,2]],"f":{"a":[1],"b":["x"]},"n":1.0}\''
    assert other == 'b\'{"v":[1],"m":[[1]],"f":{"a":[1]},"n":null}\''
