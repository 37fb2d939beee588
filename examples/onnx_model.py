"""A model as ONNX, published as a realtime service: the server answers it itself, without a worker."""

import argparse
import secrets

import requests
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes
from sklearn.linear_model import Ridge

from mlhost.client import connect
from mlhost.realtime import serialize

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--url", help="the server (default: the one of this user on this machine)")

patients, progress = load_diabetes(return_X_y=True, as_frame=True)
model = Ridge(alpha=0.1).fit(patients.to_numpy("float32"), progress)
onnx = to_onnx(model, patients.to_numpy("float32")[:1])  # any tool's ONNX file will do: this one's comes of scikit-learn

with connect(arguments.parse_args().url) as ml:
    version = secrets.token_hex(4)
    url = ml.wire.transport.url
