"""An OpenAI-compatible server on the loopback, which tests make misbehave."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

Handler = http.server.BaseHTTPRequestHandler
# Sends an answer. body: of the request.
Reply = Callable[[Handler, dict[str, Any]], None]


def send(
    handler: Handler,
    data: bytes,
    *,
    status: int = 200,
    kind: str = "application/json",
    headers: dict[str, str] | None = None,
    length: int | None = None,
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Type", kind)
    handler.send_header("Content-Length", str(len(data) if length is None else length))
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)


def says(text: object, *, reason: str | None = "stop", **message: object) -> Reply:
    """Answer with a message."""
    content = {"role": "assistant", "content": text, **message}
    answer = {"choices": [{"message": content, "finish_reason": reason}]}
    return lambda handler, _: send(handler, json.dumps(answer).encode())


def raw(data: bytes, **how: Any) -> Reply:
    return lambda handler, _: send(handler, data, **how)


def error(status: int, text: str = "", **headers: str) -> Reply:
    data = json.dumps({"error": {"message": text}}).encode() if text else b""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return raw(data, status=status, headers=named)


@dataclass
class ChatServer:
    """replies: what is answered, one for each request; the last one stays. requests: the bodies.
    headers: of the last request. models: what `/models` lists, None for 404.
    """

    address: str = ""
    replies: list[Reply] = field(default_factory=lambda: [says("A red square.")])
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    models: list[str] | None = field(default_factory=lambda: ["tiny"])
    most_at_once: int = 0
    release: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        return f"{self.address}/v1"

    @property
    def prompts(self) -> list[str]:
        return [text_of(request) for request in self.requests]

    def hang(self, handler: Handler, body: dict[str, Any]) -> None:
        """Answer nothing until the test ends."""
        self.release.wait(30)


def text_of(request: dict[str, Any]) -> str:
    return str(request["messages"][-1]["content"][0]["text"])


@contextmanager
def serve() -> Iterator[ChatServer]:
    server = ChatServer()
    lock = threading.Lock()
    running = 0

    class Answering(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            server.headers = dict(self.headers)
            if server.models is None or not self.path.endswith("/models"):
                send(self, b"", status=404)
                return
            rows = [{"id": name} for name in server.models]
            send(self, json.dumps({"data": rows}).encode())

        def do_POST(self) -> None:
            nonlocal running
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                running += 1
                server.most_at_once = max(server.most_at_once, running)
                server.headers = dict(self.headers)
                server.requests.append(body)
                number = min(len(server.requests), len(server.replies)) - 1
            try:
                server.replies[number](self, body)
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with lock:
                    running -= 1
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    server.address = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield server
    finally:
        server.release.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()
