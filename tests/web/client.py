"""A browser for tests of the review page: the real server in a thread, called over sockets as the
page calls it.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import quote, urlsplit

from datasetkit.options.review import ReviewOptions
from datasetkit.verbs.review import RunningServer
from datasetkit.web.server import serve


@dataclass
class Answer:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Browser:
    """Speaks to one server, which serves a folder. version: the newest one that it has seen."""

    serving: RunningServer
    folder: Path
    cookie: str = ""
    token: str = ""
    version: int = 0
    session: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.serving.port}"

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request with these headers and no others."""
        connection = HTTPConnection("127.0.0.1", self.serving.port, timeout=60)
        try:
            given = dict(headers or {})
            connection.putrequest(
                method, path, skip_host="Host" in given, skip_accept_encoding=True
            )
            for name, value in given.items():
                connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return Answer(
                answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
            )
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return the answer, or all that comes before the line is closed."""
        found = b""
        with (
            socket.create_connection(("127.0.0.1", self.serving.port), timeout=10) as line,
            suppress(OSError),
        ):
            line.sendall(data)
            while not _is_whole(found) and (piece := line.recv(65536)):
                found += piece
        return found

    @property
    def own(self) -> dict[str, str]:
        """The headers that the page sends with a call."""
        return {
            "Cookie": self.cookie,
            "X-Dsk-Token": self.token,
            "Content-Type": "application/json",
        }

    def enter(self) -> Browser:
        """Open the address that was printed, as a browser does."""
        address = urlsplit(self.serving.url)
        answer = self.ask("GET", f"/?{address.query}")
        assert answer.status == 303 and answer.headers["location"] == "./"
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        self.session_now()
        self.token, self.version = self.session["token"], self.session["version"]
        return self

    def session_now(self) -> dict[str, Any]:
        """Ask again what the page asks first."""
        self.session = self.get("session")
        return self.session

    def get(self, name: str, **asked: object) -> Any:
        query = "&".join(f"{key}={quote(str(value))}" for key, value in asked.items())
        return self._seen(self.ask("GET", f"/api/{name}?{query}", headers={"Cookie": self.cookie}))

    def send(self, name: str, **sent: object) -> Answer:
        """Call without a claim about the answer."""
        return self.ask("POST", f"/api/{name}", json.dumps(sent).encode(), self.own)

    def post(self, name: str, *, status: int = 200, **sent: object) -> Any:
        answer = self.send(name, **sent)
        assert answer.status == status, answer.body
        return self._seen(answer)

    def do(
        self, scope: Mapping[str, Any] | None = None, *, status: int = 200, **wanted: object
    ) -> Any:
        """Do an operation on a scope, by default on all images."""
        return self.post(
            "apply", status=status, version=self.version, scope=scope or {"in": "all"}, do=wanted
        )

    def would(self, scope: Mapping[str, Any] | None = None, **wanted: object) -> Any:
        """Ask what an operation would do."""
        return self.post("apply", scope=scope or {"in": "all"}, do=wanted, dry_run=True)

    def edit(self, number: int, text: str, *, status: int = 200, known: str | None = None) -> Any:
        known = self.get(f"image/{number}")["hash"] if known is None else known
        return self.post(
            "caption", status=status, version=self.version, id=number, hash=known, caption=text
        )

    def _seen(self, answer: Answer) -> Any:
        found = answer.json
        self.version = found.get("version", self.version)
        return found


def _is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


@contextmanager
def review(folder: Path, **options: Any) -> Iterator[Browser]:
    """Serve the review page of a folder, and open it."""
    with serving(folder, **options) as browser:
        yield browser.enter()


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Browser]:
    """Serve the review page of a folder."""
    begun = Event()
    found: list[RunningServer] = []
    failed: list[BaseException] = []

    def ready(one: RunningServer) -> None:
        found.append(one)
        begun.set()

    def run() -> None:
        try:
            serve(folder, ReviewOptions(open=False, **options), ready=ready)
        except BaseException as error:
            failed.append(error)
        finally:
            begun.set()

    thread = Thread(target=run, daemon=True)
    thread.start()
    begun.wait(60)
    if failed:
        raise failed[0]
    try:
        yield Browser(found[0], folder)
    finally:
        found[0].stop()
        thread.join(30)
        assert not thread.is_alive()
        if failed:
            raise failed[0]


def captions(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every caption below a folder."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*.txt"))
        if ".dsk" not in p.parts
    }


def numbers(browser: Browser, where: str = "") -> list[int]:
    found: list[int] = browser.get("ids", where=where)["id"]
    return found
