"""Names come out as AutoRest made them."""

import pytest

from mlhost.codegen.naming import Names, pascal, snake


@pytest.mark.parametrize(
    ("wire", "python"),
    [
        ("getAllWebServices", "get_all_web_services"),
        ("DeployRClient", "deploy_rclient"),
        ("InitialPoolSize", "initial_pool_size"),
        ("access_token", "access_token"),
        ("SQLServer", "sql_server"),
        ("getURL", "get_url"),
        ("data.frame", "data_frame"),
        ("__private__", "private"),
        ("2nd", "n2nd"),
        ("été", "été"),
        ("!", "value"),
        ("x²", "x2"),
    ],
)
def test_methods_and_fields_are_in_snake_case(wire: str, python: str) -> None:
    assert snake(wire) == python


@pytest.mark.parametrize(("wire", "python"), [("data.frame", "DataFrame"), ("error", "Error"), ("3d", "N3d")])
def test_classes_are_in_pascal_case(wire: str, python: str) -> None:
    assert pascal(wire) == python


def test_a_name_is_given_out_once_and_never_a_taken_one() -> None:
    names = Names(frozenset({"session"}))
    asked = ("x", "x", "from", "from", "session", "x_2")
    assert [names.take(name) for name in asked] == ["x", "x_2", "from_", "from_2", "session_", "x_2_2"]
