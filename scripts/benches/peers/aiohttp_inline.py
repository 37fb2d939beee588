"""Bare aiohttp on uvloop, the model called in the handler: what a careful person writes by hand, without any door."""

import sys

import uvloop
from aiohttp import web
from models import FUNCTIONS, envelope
from msgspec import json


def handler(function):
    async def consume(request):
        body = json.encode(envelope(function(json.decode(await request.read())["flower_data"])))
        return web.Response(body=body, content_type="application/json")

    return consume


app = web.Application()
for name, function in FUNCTIONS.items():
    app.router.add_post(f"/{name}", handler(function))
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), loop=uvloop.new_event_loop(), access_log=None, print=None)
