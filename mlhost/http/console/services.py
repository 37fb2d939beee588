"""Services: what is published, each version with a form to try it, and how it differs from others."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any

from aiohttp import web

from mlhost.auth.principal import Principal
from mlhost.errors import NotFound
from mlhost.host import Host
from mlhost.http.browser import origin
from mlhost.http.console import comparing, trying
from mlhost.http.console.examples import examples
from mlhost.http.console.recipes import recipes
from mlhost.http.console.rendering import is_partial, onward, page, service_path
from mlhost.http.console.series import latencies
from mlhost.http.exchange import posted
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes
from mlhost.http.services import described
from mlhost.scoring import score
from mlhost.services import Service

routes = Routes()

MOST_SHOWN = 200  # versions in a list


@routes.get("/console/services")
async def list_all(request: web.Request) -> web.Response:
    """All versions, those of one name together; of those that are searched for, every word occurs."""
    services = await request.app[HOST].services.list(request[WHO])
    wanted = request.query.get("q", "").strip()
    found = [service for service in services if _fits(service, wanted.casefold().split())]
    found.sort(key=lambda service: (service.name.casefold(), -service.created_at))
    template = "_services.html" if is_partial(request) else "services.html"
    return page(request, template, services=found[:MOST_SHOWN], found=len(found), total=len(services), q=wanted)


@routes.get("/console/services/{name}")
async def latest(request: web.Request) -> web.Response:
    """Lead to the latest version."""
    name = request.match_info["name"]
    versions = await request.app[HOST].services.list(request[WHO], name)
    if not versions:
        raise NotFound(f"There is no service {name!r}.")
    return onward(service_path(versions[-1]))


@routes.get("/console/services/{name}/{version}")
async def show(request: web.Request) -> web.Response:
    """A version's page."""
    service = await _service(request)
    return page(request, "service.html", **await _told(request, service))


@routes.post("/console/services/{name}/{version}/try")
async def attempt(request: web.Request) -> web.Response:
    """Call a version with what was typed into its form."""
    service, services = await _service(request), request.app[HOST].services
    definition = service.definition
    typed = {name: text for name, text in (await posted(request)).items() if isinstance(text, str)}
    inputs = trying.body(definition.inputs, typed)
    started = perf_counter()
    content = await score(services.ready(service.name, service.version), inputs)
    answer = await trying.read(content, definition.outputs, perf_counter() - started)
    if is_partial(request):
        return page(request, "_answer.html", answer=answer)
    return page(request, "service.html", **await _told(request, service, typed, answer))


@routes.get("/console/services/{name}/{version}/pool")
async def pool(request: web.Request) -> web.Response:
    """How a version's workers are; a script asks for it again and again."""
    service = await _service(request)
    state = await request.app[HOST].pools.get(service.name, service.version)
    return page(request, "_pool.html", service=service, pool=state)


@routes.get("/console/services/{name}/{version}/latency.json")
async def latency(request: web.Request) -> web.Response:
    """What its calls took lately, for a chart."""
    match = request.match_info
    return latencies(request.app[HOST].metrics.history(match["name"], match["version"]))


@routes.get("/console/services/{name}/{version}/swagger.json")
async def swagger(request: web.Request) -> web.Response:
    """The version's own Swagger document."""
    return described(await _service(request))


@routes.get("/console/services/{name}/{version}/diff")
async def compare(request: web.Request) -> web.Response:
    """A version beside another one of its name, by default the one before."""
    services, who = request.app[HOST].services, request[WHO]
    new, versions = await _service(request), await services.list(who, request.match_info["name"])
    old = await services.get(who, new.name, request.query.get("with") or _before(new, versions))
    return page(request, "diff.html", **await asyncio.to_thread(_compared, who, old, new), versions=versions)


@routes.get("/console/services/{name}/{version}/delete")
async def ask_delete(request: web.Request) -> web.Response:
    """Say what goes if a version is deleted, and ask."""
    host, who = request.app[HOST], request[WHO]
    async with host.services.editing(who, **request.match_info) as service:
        pool = await host.pools.get(service.name, service.version)
        batches = await host.batches.list(who, service.name, service.version)
        versions = await host.services.list(who, service.name)
    return page(
        request, "delete_service.html", service=service, pool=pool, batches=len(batches), others=len(versions) - 1
    )


@routes.post("/console/services/{name}/{version}/delete")
async def delete(request: web.Request) -> web.Response:
    """Delete a version."""
    await request.app[HOST].services.delete(request[WHO], **request.match_info)
    return onward("/console/services")


async def _service(request: web.Request) -> Service:
    match = request.match_info
    return await request.app[HOST].services.get(request[WHO], match["name"], match["version"])


async def _told(
    request: web.Request, service: Service, typed: dict[str, str] | None = None, answer: trying.Answer | None = None
) -> dict[str, Any]:
    """What a version's page tells."""
    host: Host = request.app[HOST]
    who = request[WHO]
    header = await host.contents.header(service)
    values = examples(service.definition.inputs, header)
    return {
        "service": service,
        "is_editable": service.is_editable_by(who),
        "is_open": service.is_open_to(who),
        "manifest": await host.contents.manifest(who, service),
        "header": header,
        "fields": trying.form(service.definition.inputs, values, typed or {}),
        "answer": answer,
        "recipes": recipes(service, origin(request), values),
        "pool": await host.pools.get(service.name, service.version),
        "versions": list(reversed(await host.services.list(who, service.name))),
    }


def _fits(service: Service, words: list[str]) -> bool:
    told = (service.name, service.version, service.published_by, service.definition.description or "")
    text = "\n".join(told).casefold()
    return all(word in text for word in words)


def _before(service: Service, versions: list[Service]) -> str:
    """The version that was published before this one; the first is compared with itself."""
    names = [each.version for each in versions]
    return names[max(0, names.index(service.version) - 1)]


def _compared(who: Principal, old: Service, new: Service) -> dict[str, Any]:
    before, after = old.definition, new.definition
    titles = f"{old.name} {old.version}", f"{new.name} {new.version}"
    return {
        "old": old,
        "new": new,
        "signature": comparing.signature(old, new),
        "facts": comparing.facts(old, new),
        "is_open": old.is_open_to(who) and new.is_open_to(who),
        "code": comparing.code(before.code or "", after.code or "", *titles),
        "init_code": comparing.code(before.init_code or "", after.init_code or "", *titles),
    }
