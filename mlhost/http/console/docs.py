"""Documents of the API, and of each service, that people can read and try: swagger-ui with files of ours alone.

The API's is open to anyone, as the document it shows is; a service's is shown to those who are signed in. Either sends
requests with a token that is pasted into it, never with the console's cookies.
"""

from __future__ import annotations

from aiohttp import web

from mlhost.http.console.rendering import page, service_path
from mlhost.http.keys import HOST, WHO
from mlhost.http.routes import Routes

routes = Routes()

PATH = "/docs"


@routes.get(PATH)
async def api(request: web.Request) -> web.Response:
    """The API's."""
    return page(request, "docs.html", title="mlhost", document="/openapi.json", back="/console")


@routes.get("/console/services/{name}/{version}/docs")
async def service(request: web.Request) -> web.Response:
    """A service's."""
    match = request.match_info
    version = await request.app[HOST].services.get(request[WHO], match["name"], match["version"])
    address = service_path(version)
    title = f"{version.name} {version.version}"
    return page(request, "docs.html", title=title, document=f"{address}/swagger.json", back=address)
