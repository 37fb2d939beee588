"""A model as ONNX, published as a realtime service: the server answers it itself, without a worker."""

import argparse

from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from mlhost.client import connect
from mlhost.realtime import serialize

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--url", help="the server (default: the one of this user on this machine)")

patients, progress = load_diabetes(return_X_y=True, as_frame=True)
model = Ridge(alpha=0.1).fit(patients.to_numpy("float32"), progress)
onnx = to_onnx(model, patients.to_numpy("float32")[:1])  # ONNX files of any other tool will do as well

with connect(arguments.parse_args().url) as ml:
    serialized = serialize(onnx.SerializeToString(), columns=list(patients.columns))
    service = ml.publish_model(serialized, "example-diabetes", "1.0", replace=True)
    print("answered by:", service.record["engine"])
    three = patients.head(3)
    print("the server says:", *service(three)["variable"].round(1))
    print("scikit-learn says:", *model.predict(three.to_numpy("float32")).astype(float).round(1))
    service.delete()
