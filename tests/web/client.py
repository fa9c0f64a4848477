"""A client for tests of the review page: the real server in a thread, called over sockets as the
page does.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote, urlsplit

from datasetkit.options.review import ReviewOptions
from datasetkit.verbs.review import RunningServer
from datasetkit.verbs.review import review as serve_review
from datasetkit.verbs.studio import studio as serve_studio


@dataclass
class Response:
    """A response of the server."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class EventStream:
    """The events of a server, read one after the other."""

    response: HTTPResponse
    content_type: str
    last: str = ""

    def next(self) -> tuple[str, Any]:
        """Return the kind and the data of the next event; ("", None) at the end."""
        kind, data = "", None
        while line := self.response.readline():
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "id":
                self.last = value
            elif name == "event":
                kind = value
            elif name == "data":
                data = json.loads(value)
            elif not name and kind:
                return kind, data
        return "", None

    def until(self, kind: str) -> Any:
        """Return the data of the next event of a kind."""
        while True:
            name, data = self.next()
            assert name, f"the stream ended before {kind}"
            if name == kind:
                return data


@dataclass
class Browser:
    """A client of one server. folder: the dataset; version: the newest one that it has seen."""

    server: RunningServer
    folder: Path
    cookie: str = ""
    token: str = ""
    version: int = 0
    session: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Send one request with these headers and no others."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            all_headers = dict(headers or {})
            connection.putrequest(
                method, path, skip_host="Host" in all_headers, skip_accept_encoding=True
            )
            for name, value in all_headers.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Response(
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    @contextmanager
    def stream(self, path: str, last: str = "") -> Iterator[EventStream]:
        """Open a stream of events."""
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            headers = {"Cookie": self.cookie, **({"Last-Event-ID": last} if last else {})}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            try:
                yield EventStream(response, response.getheader("content-type") or "")
            finally:
                response.close()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Send bytes; return the response, or what arrives before the connection is closed."""
        received = b""
        with (
            socket.create_connection(("127.0.0.1", self.server.port), timeout=10) as connection,
            suppress(OSError),
        ):
            connection.sendall(data)
            while not _is_complete(received) and (chunk := connection.recv(65536)):
                received += chunk
        return received

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the page sends with a POST."""
        return {
            "Cookie": self.cookie,
            "X-Dsk-Token": self.token,
            "Content-Type": "application/json",
        }

    def enter(self) -> Browser:
        """Use a link as a browser does."""
        link = self.server.link(lambda: None)
        response = self.ask("GET", f"/?{urlsplit(link).query}")
        assert response.status == 303 and response.headers["location"] == "./"
        self.cookie = response.headers["set-cookie"].partition(";")[0]
        self.load_session()
        self.token, self.version = self.session["token"], self.session["version"]
        return self

    def load_session(self) -> dict[str, Any]:
        """Load what the page loads first."""
        self.session = self.get("session")
        return self.session

    def get(self, name: str, **parameters: object) -> Any:
        query = "&".join(f"{key}={quote(str(value))}" for key, value in parameters.items())
        return self._seen(self.ask("GET", f"/api/{name}?{query}", headers={"Cookie": self.cookie}))

    def send(self, name: str, **body: object) -> Response:
        """POST a request; its status may be anything."""
        return self.ask("POST", f"/api/{name}", json.dumps(body).encode(), self.headers)

    def post(self, name: str, *, status: int = 200, **body: object) -> Any:
        response = self.send(name, **body)
        assert response.status == status, response.body
        return self._seen(response)

    def do(
        self, scope: Mapping[str, Any] | None = None, *, status: int = 200, **wanted: object
    ) -> Any:
        """Apply an operation to a scope, by default to all images."""
        return self.post(
            "apply", status=status, version=self.version, scope=scope or {"in": "all"}, do=wanted
        )

    def dry_run(self, scope: Mapping[str, Any] | None = None, **wanted: object) -> Any:
        """Ask what an operation would do."""
        return self.post("apply", scope=scope or {"in": "all"}, do=wanted, dry_run=True)

    def edit(
        self, image_id: int, text: str, *, status: int = 200, known_hash: str | None = None
    ) -> Any:
        if known_hash is None:
            known_hash = self.get(f"image/{image_id}")["hash"]
        return self.post(
            "caption",
            status=status,
            version=self.version,
            id=image_id,
            hash=known_hash,
            caption=text,
        )

    def _seen(self, response: Response) -> Any:
        body = response.json
        self.version = body.get("version", self.version)
        return body


def _is_complete(response: bytes) -> bool:
    head, end, body = response.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


@contextmanager
def review(folder: Path, **options: Any) -> Iterator[Browser]:
    """Serve the review page of a folder, and open it."""
    with run_server(folder, **options) as browser:
        yield browser.enter()


@contextmanager
def studio(folder: Path, **options: Any) -> Iterator[Browser]:
    """Serve the studio of a folder, and open it."""
    with run_server(folder, serve_studio, **options) as browser:
        yield browser.enter()


@contextmanager
def run_server(
    folder: Path, serve: Callable[..., None] = serve_review, **options: Any
) -> Iterator[Browser]:
    """Serve the page of a folder, by default with `dsk review`."""
    started = Event()
    servers: list[RunningServer] = []
    errors: list[BaseException] = []

    def ready(server: RunningServer) -> None:
        servers.append(server)
        started.set()

    def run() -> None:
        try:
            serve(folder, ReviewOptions(open=False, **options), ready=ready)
        except BaseException as error:
            errors.append(error)
        finally:
            started.set()

    thread = Thread(target=run, daemon=True)
    thread.start()
    started.wait(60)
    if errors:
        raise errors[0]
    try:
        yield Browser(servers[0], folder)
    finally:
        servers[0].stop()
        thread.join(30)
        assert not thread.is_alive()
        if errors:
            raise errors[0]


def captions(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every caption below a folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*.txt"))
        if ".dsk" not in p.parts
    }


def image_ids(browser: Browser, where: str = "") -> list[int]:
    """Return the ids of the images that match a filter."""
    matches: list[int] = browser.get("ids", where=where)["id"]
    return matches
