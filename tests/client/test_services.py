"""Services of the client: functions and models published as they are, called like functions, scored in batches."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from mlhost.client import functions
from mlhost.errors import CodeFailed, Conflict, Invalid, NotFound
from mlhost.realtime import serialize
from mlhost.testing import Server
from tests.client.conftest import done

LIMIT = 10.0


def above(x: float, by: float = 1.0) -> bool:
    """Whether it is more.

    By how much is given.
    """
    return x > LIMIT + by


class Parts(TypedDict):
    whole: int
    rest: float


class Pair(NamedTuple):
    low: float
    high: float


def parts(x: float) -> Parts:
    return {"whole": int(x), "rest": x % 1}


def extremes(values: list[float]) -> Pair:
    assert type(values) is list
    return Pair(min(values), max(values))


async def test_a_function_is_published_with_what_it_closes_over(ml: Any) -> None:
    scale = np.array([1.0, 10.0])

    def scaled(v: np.ndarray) -> np.ndarray:
        return v * scale

    service = await done(ml.publish(scaled, "scaled", "1.0"))
    assert np.array_equal(await done(service(v=[1, 2])), [1.0, 20.0])
    assert (service.name, service.version, service.inputs, service.outputs) == (
        "scaled",
        "1.0",
        {"v": "vector"},
        {"answer": "vector"},
    )
    assert "scaled 1.0 (v: vector) -> (answer: vector)" in repr(service)
    assert await done(ml.snapshots()) == []


async def test_defaults_and_the_docstring_are_kept(ml: Any) -> None:
    service = await done(ml.publish(above, "above", "1.0"))
    assert await done(service(11.5)) is True
    assert await done(service(11.5, by=2.0)) is False
    assert service.told.description == "Whether it is more."


async def test_the_fields_of_a_record_are_outputs(ml: Any) -> None:
    service = await done(ml.publish(parts, "parts", "1.0"))
    assert await done(service(x=2.5)) == {"whole": 2, "rest": 0.5}
    service = await done(ml.publish(extremes, "extremes", "1.0"))
    assert await done(service([3, 1, 2])) == {"low": 1.0, "high": 3.0}


async def test_data_frames_go_through_a_service(ml: Any) -> None:
    def doubled(frame: pd.DataFrame) -> pd.DataFrame:
        return frame * 2

    service = await done(ml.publish(doubled, "doubled", "1.0"))
    pd.testing.assert_frame_equal(await done(service(pd.DataFrame({"a": [1, 2]}))), pd.DataFrame({"a": [2, 4]}))


async def test_a_fitted_model_is_published_as_it_is(ml: Any) -> None:
    service = await done(ml.publish(LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0]), "line", "1.0"))
    assert await done(service([[2.0], [3.0]])) == pytest.approx([4.0, 6.0])


async def test_the_latest_version_is_found_unless_one_is_named(ml: Any) -> None:
    await done(ml.publish(above, "found", "1.0"))
    named = await done(ml.publish(above, "found"))
    assert (await done(ml.get("found"))).version == named.version != "1.0"
    assert (await done(ml.get("found", "1.0"))).version == "1.0"
    for missing in (("unheard-of",), ("found", "9")):
        with pytest.raises(NotFound):
            await done(ml.get(*missing))


async def test_a_version_is_replaced_only_on_request(ml: Any) -> None:
    await done(ml.publish(above, "again", "1.0"))
    with pytest.raises(Conflict, match=r"again 1\.0"):
        await done(ml.publish(parts, "again", "1.0"))
    service = await done(ml.publish(parts, "again", "1.0", replace=True))
    assert await done(service(1.5)) == {"whole": 1, "rest": 0.5}
    assert await done((await done(ml.get("again")))(x=1.5)) == {"whole": 1, "rest": 0.5}


async def test_a_serialized_model_becomes_a_realtime_service(ml: Any) -> None:
    rows = pd.DataFrame({"a": [0.0, 1.0], "b": [0.0, 1.0]})
    halves, wholes = (serialize(LinearRegression().fit(rows, [0, n])) for n in (1, 2))
    service = await done(ml.publish_model(halves, "model", "1.0", description="grün"))
    assert (await done(service(rows)))["Prediction"].round(6).tolist() == [0, 1]
    assert (service.record["runtimeType"], service.record["description"]) == ("Realtime", "grün")
    with pytest.raises(Conflict, match=r"model 1\.0"):
        await done(ml.publish_model(wholes, "model", "1.0"))
    service = await done(ml.publish_model(wholes, "model", "1.0", replace=True))
    assert (await done(service(rows)))["Prediction"].round(6).tolist() == [0, 2]
    assert (await done(ml.publish_model(halves, "model"))).version != "1.0"
    with pytest.raises(Invalid, match="serialize"):
        await done(ml.publish_model(b"no model", "broken"))


async def test_a_call_tells_all_it_came_to(ml: Any) -> None:
    async def told(session: Any) -> Any:
        code = "print('scored')\ny = x"
        return await done(session.publish("told", "1.0", code, inputs={"x": int}, outputs={"y": int}))

    session = await done(ml.session())
    service = await told(session)
    await done(session.close())
    reply = await done(service.ask(x=3))
    assert (reply.outputs, reply.console, reply.files) == ({"y": 3}, "scored\n", {})
    assert (await done(service.swagger()))["info"]["title"] == "told"


async def test_what_a_service_does_not_take_is_told_before_it_is_sent(ml: Any) -> None:
    service = await done(ml.publish(above, "strict", "1.0"))
    for values, named, words in (
        ((), {}, "x is missing; it takes x, by"),
        ((1, 2, 3), {}, "3 values were given"),
        ((1,), {"x": 1}, "x is given twice"),
        ((1,), {"z": 1, "y": 2}, "z, y are given twice or unknown"),
    ):
        with pytest.raises(TypeError, match=words):
            await done(service(*values, **named))
    with pytest.raises(Invalid, match="input 'x' must be of type numeric: not a number") as refused:
        await done(service("much"))
    assert refused.value.details == {"field": "x", "expected": "numeric"}


async def test_a_function_that_raises_is_an_error_with_its_words(ml: Any) -> None:
    def fails(x: float) -> float:
        raise LookupError(f"no {x}")

    service = await done(ml.publish(fails, "fails", "1.0"))
    with pytest.raises(CodeFailed, match=r"LookupError: no 1\.0") as failed:
        await done(service(1))
    assert "Traceback" in failed.value.details["console"]


@pytest.mark.parametrize(
    ("hint", "kind"),
    [
        (int, "integer"),
        (np.int64, "integer"),
        (float, "numeric"),
        (np.float32, "numeric"),
        (bool, "logical"),
        (np.bool_, "logical"),
        (str, "character"),
        (list, "vector"),
        (list[str], "vector"),
        (tuple[float, ...], "vector"),
        (np.ndarray, "vector"),
        (np.typing.NDArray[np.float64], "vector"),
        (pd.Series, "vector"),
        (list[list[float]], "matrix"),
        (np.matrix, "matrix"),
        (Annotated[np.ndarray, "matrix"], "matrix"),
        (Annotated[float, "in cm"], "numeric"),
        (pd.DataFrame, "data.frame"),
        (float | None, "numeric"),
        (int | str, "any"),
        (dict[str, int], "any"),
        (Any, "any"),
        ("numpy.array", "vector"),
    ],
    ids=str,
)
def test_an_annotation_is_a_type_of_the_server(hint: Any, kind: str) -> None:
    assert functions.type_of(hint) == kind


def untyped(x) -> float:  # type: ignore[no-untyped-def]
    return float(x)


def silent(x: float):  # type: ignore[no-untyped-def]
    return x


def open_ended(*xs: float) -> float:
    return sum(xs)


async def awaited(x: float) -> float:
    return x


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (untyped, "the parameter 'x' has no type; annotate it"),
        (silent, "what the function returns has no type"),
        (open_ended, r"\*xs: 'float' cannot be an input|\*xs: float cannot be an input"),
        (awaited, "neither async nor a generator"),
    ],
)
def test_a_function_that_cannot_be_a_service_is_refused_with_the_reason(function: Any, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        functions.of(function)


def test_a_function_runs_in_a_process_that_does_not_have_its_module(isolated: Server, tmp_path: Path) -> None:
    (tmp_path / "of_a_project.py").write_text("def half(x): return x / 2\n")
    spec = importlib.util.spec_from_file_location("of_a_project", tmp_path / "of_a_project.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["of_a_project"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "of_a_project.py").unlink()

    def quarter(x: float) -> float:
        return module.half(module.half(x)) if LIMIT else x  # type: ignore[no-any-return]

    with isolated.connect() as ml:
        service = ml.service("quarter", "1.0")(quarter)
        assert service(8.0) == 2.0
        assert service.__wrapped__(4.0) == 1.0  # type: ignore[attr-defined]
        assert service.__name__ == "quarter"  # type: ignore[attr-defined]
        assert "numpy" not in ml.status()  # it answers still
    del sys.modules["of_a_project"]


# --- batches -------------------------------------------------------------------------------------------------------


async def test_a_batch_of_a_data_frame_is_one_with_its_index(ml: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service = await done(ml.publish(above, "many", "1.0"))
    frame = pd.DataFrame({"by": [0.0, 5.0, 0.0], "x": [11.0, 11.0, 9.0], "more": 1}, index=["a", "b", "c"])
    scored = await done(service.batch(frame))
    pd.testing.assert_frame_equal(scored, pd.DataFrame({"answer": [True, False, False]}, index=["a", "b", "c"]))
    assert "many: 100%" in capsys.readouterr().err


async def test_the_rows_of_a_data_frame_are_what_a_vector_takes(ml: Any) -> None:
    service = await done(ml.publish(extremes, "rows", "1.0"))
    scored = await done(service.batch(pd.DataFrame({"p": [1.0, 5.0], "q": [2.0, 4.0]}), progress=False))
    pd.testing.assert_frame_equal(scored, pd.DataFrame({"low": [1.0, 4.0], "high": [2.0, 5.0]}))


async def test_a_batch_of_mappings_is_a_list_and_tells_which_records_failed(
    ml: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def root(x: float) -> float:
        return float(x**0.5) if x >= 0 else 1 / 0

    service = await done(ml.publish(root, "root", "1.0"))
    scored = await done(service.batch([{"x": 4}, {"x": -1}], progress=False))
    assert scored == [{"answer": 2.0}, {"error": "ZeroDivisionError: division by zero"}]
    assert capsys.readouterr().err == ""
    table = await done(service.batch(pd.DataFrame({"x": [4.0, -1.0]}), progress=False))
    assert table["error"].tolist()[1] == "ZeroDivisionError: division by zero"
    with pytest.raises(Invalid, match="no columns x"):
        await done(service.batch(pd.DataFrame({"y": [1]})))
    with pytest.raises(Invalid, match="not int"):
        await done(service.batch([1]))


async def test_without_tqdm_there_is_no_bar(
    ml: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await done(ml.publish(above, "plain", "1.0"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    assert await done(service.batch([{"x": 12.0}])) == [{"answer": True}]
    assert capsys.readouterr().err == ""


def test_an_interrupted_batch_is_deleted(mlhost_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(x: float) -> float:
        __import__("time").sleep(0.05)
        return x

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with mlhost_server.connect() as ml:
        service = ml.publish(slow, "slow", "1.0")
        with monkeypatch.context() as patched:
            patched.setattr("mlhost.client.blocking.time.sleep", interrupt)
            with pytest.raises(KeyboardInterrupt):
                service.batch([{"x": 1.0}] * 5, progress=False)
        answer = ml.wire.run(ml.wire.transport.ask("GET", "/api/slow/1.0/batch"))
        assert answer.json() == []
        service.delete()
