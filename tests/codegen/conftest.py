"""Generated packages, imported from a folder of their own."""

import importlib
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlhost.codegen import generate
from tests.codegen.documents import ODD


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Echo:
    """An HTTP server that answers as it is told and remembers what it was asked."""

    url: str = ""
    status: int = 200
    content_type: str = "application/json"
    body: bytes = b"{}"
    asked: list[Request] = field(default_factory=list)

    def answers(self, body: Any, status: int = 200, content_type: str = "application/json") -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.content_type = status, content_type


@pytest.fixture
def echo() -> Iterator[Echo]:
    echo = Echo()

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline()
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b""
                while size := int(self.rfile.readline(), 16):
                    body += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            echo.asked.append(Request(self.command, self.path, dict(self.headers), body))
            self.send_response(echo.status)
            self.send_header("Content-Type", echo.content_type)
            self.send_header("Content-Length", str(len(echo.body)))
            self.end_headers()
            self.wfile.write(echo.body)

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    echo.url = f"http://127.0.0.1:{server.server_port}"
    yield echo
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The package made from the odd document."""
    folder = tmp_path_factory.mktemp("odd")
    generate(json.dumps(ODD).encode(), "odd_client", "OddClient", folder)
    yield imported(folder, "odd_client")


def imported(folder: Path, name: str) -> Any:
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))
