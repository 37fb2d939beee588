"""How to call a service from elsewhere: texts to paste, which do what they say as they stand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pprint import pformat
from textwrap import indent
from typing import Any, NamedTuple
from urllib.parse import quote

from mlhost.services import Service

TOKEN = "MLHOST_TOKEN"  # noqa: S105 - the variable that holds it
WIDTH = 76

CURL = """\
curl -X POST {url} \\
  -H "Authorization: Bearer ${token}" \\
  -H 'Content-Type: application/json' \\
  -d {body}
"""
CLIENT = """\
from mlhost.client import connect

ml = connect({origin})
service = ml.get({name}, {version})
print(service({inputs}))
"""
REQUESTS = """\
import os

import requests

answer = requests.post(
    {url},
    json={body},
    headers={{"Authorization": "Bearer " + os.environ["{token}"]}},
    timeout=60,
)
answer.raise_for_status()
result = answer.json()
if not result["success"]:
    raise RuntimeError(result["errorMessage"])
print(result["outputParameters"])
"""
JAVASCRIPT = """\
const token = process.env.{token}; // in a web page: wherever you keep it
const answer = await fetch({url}, {{
  method: "POST",
  headers: {{ Authorization: `Bearer ${{token}}`, "Content-Type": "application/json" }},
  body: JSON.stringify({body}),
}});
const result = await answer.json();
if (!answer.ok || !result.success) throw new Error(result.message ?? result.errorMessage);
console.log(result.outputParameters);
"""


class Recipe(NamedTuple):
    """A text to paste."""

    id: str
    title: str
    text: str


def recipes(service: Service, origin: str, inputs: Mapping[str, Any]) -> list[Recipe]:
    """How to call a version with these inputs; all of them take a token from MLHOST_TOKEN."""
    url = f"{origin}/api/{quote(service.name, safe='')}/{quote(service.version, safe='')}"
    body = json.dumps(inputs)
    texts = {
        "curl": CURL.format(url=shlex.quote(url), token=TOKEN, body=shlex.quote(body)),
        "Python (mlhost)": CLIENT.format(
            origin=_python(origin),
            name=_python(service.name),
            version=_python(service.version),
            inputs=_arguments(inputs),
        ),
        "Python (requests)": REQUESTS.format(url=_python(url), token=TOKEN, body=_inside(_python(dict(inputs)))),
        "JavaScript": JAVASCRIPT.format(url=json.dumps(url), token=TOKEN, body=body),
    }
    return [Recipe(f"recipe-{at}", title, text) for at, (title, text) in enumerate(texts.items())]


def _arguments(inputs: Mapping[str, Any]) -> str:
    told = [f"{name}={_inside(_python(value))}" for name, value in inputs.items()]
    line = ", ".join(told)
    return line if len(line) < WIDTH else "\n" + indent(",\n".join(told), "    ") + ",\n"


def _python(value: Any) -> str:
    """A JSON value as Python has it, texts in double quotes if they stand alone."""
    return (
        json.dumps(value, ensure_ascii=False)
        if isinstance(value, str)
        else pformat(value, width=WIDTH, sort_dicts=False)
    )


def _inside(text: str) -> str:
    """The lines after the first, further in."""
    return text.replace("\n", "\n    ")
