"""FastAPI on uvicorn with uvloop and httptools, the model called in an async handler: its quickest way."""

import sys

import uvicorn
from fastapi import FastAPI
from models import FUNCTIONS, envelope
from pydantic import BaseModel

app = FastAPI()


class Inputs(BaseModel):
    flower_data: list


def add(name, function):
    @app.post(f"/{name}")
    async def consume(inputs: Inputs):
        return envelope(function(inputs.flower_data))


for name, function in FUNCTIONS.items():
    add(name, function)
options = {"loop": "uvloop", "http": "httptools", "access_log": False, "log_level": "warning"}
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), **options)
