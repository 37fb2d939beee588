"""Models as bytes, made where a client makes them."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.svm import SVC

from mlhost.errors import Invalid
from mlhost.realtime import MAGIC, serialize
from mlhost.realtime import read_header as read

FRAME = pd.DataFrame({"width": [1.0, 2.0, 3.0], "height": [2, 4, 5]})
TARGET = [1.0, 2.0, 3.0]
MODEL = LinearRegression().fit(FRAME, TARGET)


def test_the_bytes_begin_as_the_originals_client_asks_and_tell_what_they_hold() -> None:
    content = serialize(MODEL)
    assert content.startswith(b"blob")
    header = read(io.BytesIO(content))
    assert (header.kind, header.columns, header.outputs) == ("estimator", ["width", "height"], ["predict"])
    assert header.python == ".".join(map(str, sys.version_info[:3]))
    assert header.packages["numpy"] == np.__version__
    assert {"sklearn", "pandas"} < header.packages.keys()


def test_columns_can_be_named_and_a_data_frame_gives_an_example_as_well() -> None:
    named = read(io.BytesIO(serialize(LinearRegression().fit(FRAME.to_numpy(), TARGET), columns=["b", "a"])))
    assert (named.columns, named.example) == (["b", "a"], None)
    framed = read(io.BytesIO(serialize(MODEL, columns=FRAME)))
    assert framed.example == {"width": 1.0, "height": 2}
    assert framed.ranges == {"width": [1.0, 3.0], "height": [2.0, 5.0]}
    assert named.ranges is None
    assert read(io.BytesIO(serialize(MODEL, columns=FRAME.iloc[:0]))).example is None


def test_a_model_without_predict_answers_with_transform() -> None:
    assert read(io.BytesIO(serialize(PCA(1).fit(FRAME)))).outputs == ["transform"]
    assert read(io.BytesIO(serialize(KMeans(2).fit(FRAME), outputs=["predict", "transform"]))).outputs == [
        "predict",
        "transform",
    ]


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (object(), {}, "takes a fitted scikit-learn estimator, or an ONNX model"),
        (lambda rows: rows, {}, "of type builtins.function"),
        (SVC, {}, "takes a fitted"),
        (SVC(), {}, "not fitted"),
        (MODEL, {"columns": ["one"]}, "was fitted with 2, and 1 are named"),
        (MODEL, {"columns": ["one", "one"]}, "two have the same name"),
        (MODEL, {"columns": "ab"}, "a list of names"),
        (MODEL, {"outputs": ["predict_proba"]}, "LinearRegression has no method 'predict_proba'"),
        (MODEL, {"outputs": ["fit"]}, "'fit' is none of predict, "),
        (PCA(1).fit(FRAME), {"outputs": "predict"}, "PCA has no method"),
        (b"no model", {}, "not the bytes of an ONNX model"),
        (b"", {}, "not the bytes of an ONNX model"),
        ("no-such-file.onnx", {}, "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_made_bytes_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any, options: dict[str, Any], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Invalid, match=words):
        serialize(model, **options)


def test_an_estimator_that_cannot_be_pickled_is_refused_with_the_reason() -> None:
    class Holder(BaseEstimator):
        def fit(self) -> "Holder":
            self.lines_ = (line for line in ())
            return self

        def predict(self, rows: Any) -> Any:
            return rows

    with pytest.raises(Invalid, match=r"cannot be pickled: TypeError: .*generator"):
        serialize(Holder().fit())


def test_an_onnx_model_is_taken_as_path_bytes_or_message(tmp_path: Path) -> None:
    content = b"\x08\x09 as good as a model here"
    (tmp_path / "model.onnx").write_bytes(content)

    class Message:
        def SerializeToString(self) -> bytes:
            return content

    made = {serialize(model) for model in (tmp_path / "model.onnx", str(tmp_path / "model.onnx"), content, Message())}
    assert len(made) == 1
    file = io.BytesIO(made.pop())
    assert read(file).kind == "onnx"
    assert file.read() == content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"blob\x00\x01model", r"mlhost\.realtime\.serialize"),
        (b"", r"mlhost\.realtime\.serialize"),
        (MAGIC, "damaged"),
        (MAGIC + b"\x07\x00\x00\x00\x02{}", "version 7"),
        (MAGIC + b"\x01\xff\xff\xff\xff{}", "too long"),
        (MAGIC + b"\x01\x00\x00\x00\x02{}", "damaged"),
        (MAGIC + b"\x01\x00\x00\x00\x02[1", "damaged"),
    ],
)
def test_other_bytes_are_refused_naming_the_helper_that_makes_them(content: bytes, words: str) -> None:
    with pytest.raises(Invalid, match=words) as refusal:
        read(io.BytesIO(content))
    assert "mlhost.realtime.serialize" in refusal.value.message


def test_importing_the_helper_loads_nothing_heavy_and_starts_nothing() -> None:
    code = "import sys, threading, mlhost.realtime, json\nprint(json.dumps([*sys.modules, threading.active_count()]))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *modules, threads = json.loads(told.stdout)
    tops = {name.partition(".")[0] for name in modules}
    assert not tops & {"aiohttp", "aiosqlite", "asyncio", "msgspec", "numpy", "pandas", "sklearn", "cloudpickle"}
    assert {name for name in modules if name.startswith("mlhost.")} == {"mlhost.errors", "mlhost.realtime"}
    assert threads == 1
