"""How servers want to be asked: the path and the body of a call of each work, in the form their own clients use."""

from __future__ import annotations

import json

from models import BODIES


def plain(work: str) -> tuple[str, bytes]:
    """A JSON object of the inputs: mlhost, aiohttp, FastAPI, LitServe, BentoML."""
    return f"/{work}", json.dumps({"flower_data": BODIES[work]}).encode()


def open_inference(work: str) -> tuple[str, bytes]:
    """The open inference protocol, version 2: MLServer. One tensor, its values in a row."""
    table = _table(work)
    values = [value for row in table for value in row]
    tensor = {"name": "predict", "shape": [len(table), len(table[0])], "datatype": "FP32", "data": values}
    return f"/v2/models/{work}/infer", json.dumps({"inputs": [tensor]}).encode()


def invocation(work: str) -> tuple[str, bytes]:
    """MLflow, whose server has one model."""
    return "/invocations", json.dumps({"inputs": _table(work)}).encode()


def _table(work: str) -> list[list[float]]:
    return BODIES[work] if work == "rows" else [BODIES[work]]
