"""Security of the review page: only the page itself may send requests.

- The printed URL contains a token of 256 bits. The first request exchanges it for a cookie that
  scripts cannot read and other sites cannot send, and a redirect removes it from the address bar.
- A POST, and any other request that is not a plain read, needs a second token in a header, which
  only the script of this page can know.
- `Host` must be one of a few names, so that no other site can reach the server under a name of its
  own (DNS rebinding).
- Every response has headers that forbid the browser to load anything from elsewhere.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

TOKEN_HEADER = b"x-dsk-token"
MAX_BODY = 16 * 2**20
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
    "connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_OPEN_URL = "open the URL that `dsk review` printed"


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The secrets of one run: `entry` in the printed URL, `cookie` in exchange for it, `header` for
    POST requests.
    """

    entry: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    header: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)


class RequestRefused(Exception):
    """A request is refused. status: of HTTP."""

    def __init__(self, status: int, error: str, hint: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint


class Guard:
    """ASGI middleware: passes on the requests of the page, and adds HEADERS to every response."""

    def __init__(
        self, app: ASGIApp, keys: SessionKeys, *, hosts: frozenset[str], port: int
    ) -> None:
        """hosts: the allowed host names, without the port."""
        self.app, self.keys = app, keys
        self.hosts = frozenset(f"{host}:{port}" for host in hosts) | (
            hosts if port == 80 else frozenset()
        )
        # Cookies ignore ports: two pages that are open at once need two names.
        self.cookie = f"dsk_review_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name for name, _ in message["headers"]}
                defaults = (*HEADERS, (b"cache-control", b"no-store"))
                missing = [(name, value) for name, value in defaults if name not in present]
                message = {**message, "headers": [*message["headers"], *missing]}
            await send(message)

        try:
            headers = _headers(scope)
            self._require_host(headers)
            if (
                scope["path"] == "/"
                and scope["method"] == "GET"
                and (entry := _entry_token(scope)) is not None
            ):
                await self._set_cookie(entry, send_with_headers)
                return
            self._require_cookie(headers)
            self._require_same_origin(headers)
            if scope["method"] not in ("GET", "HEAD"):
                self._require_header_token(headers)
                receive = await _read_body(receive)
        except RequestRefused as refused:
            await _answer(refused, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _require_host(self, headers: Mapping[bytes, list[bytes]]) -> None:
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or hosts[0].decode("latin-1").lower() not in self.hosts:
            raise RequestRefused(400, "this host name is not allowed", _OPEN_URL)

    async def _set_cookie(self, entry: str, send: Send) -> None:
        """Exchange the token of the printed URL for the cookie, and redirect to the plain URL."""
        if not secrets.compare_digest(entry.encode(), self.keys.entry.encode()):
            raise RequestRefused(
                401, "this link belongs to an earlier `dsk review`", f"{_OPEN_URL} last"
            )
        cookie = f"{self.cookie}={self.keys.cookie}; Path=/; HttpOnly; SameSite=Strict"
        headers = [
            (b"location", b"./"),
            (b"set-cookie", cookie.encode()),
            (b"content-length", b"0"),
        ]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    def _require_cookie(self, headers: Mapping[bytes, list[bytes]]) -> None:
        values = [_cookie_value(line, self.cookie) for line in headers.get(b"cookie", [])]
        if not any(
            secrets.compare_digest(value.encode(), self.keys.cookie.encode()) for value in values
        ):
            raise RequestRefused(401, "this browser has no access to the page", _OPEN_URL)

    def _require_same_origin(self, headers: Mapping[bytes, list[bytes]]) -> None:
        """Refuse what another site started, by the header that browsers set themselves. Another
        port of this machine is another origin.
        """
        sites = headers.get(b"sec-fetch-site", [])
        if any(value not in (b"same-origin", b"none") for value in sites):
            raise RequestRefused(403, "requests from other sites are refused", _OPEN_URL)

    def _require_header_token(self, headers: Mapping[bytes, list[bytes]]) -> None:
        """Refuse what the script of this page did not send."""
        origins = headers.get(b"origin", [])
        host = headers[b"host"][0].lower()
        if len(origins) > 1 or any(origin.lower() != b"http://" + host for origin in origins):
            raise RequestRefused(403, "requests from other sites are refused", _OPEN_URL)
        tokens = headers.get(TOKEN_HEADER, [])
        if len(tokens) != 1 or not secrets.compare_digest(tokens[0], self.keys.header.encode()):
            raise RequestRefused(403, "the request has no valid token", "reload the page")
        types = headers.get(b"content-type", [])
        if len(types) != 1 or types[0].split(b";")[0].strip().lower() != b"application/json":
            raise RequestRefused(
                415, "the request is not JSON", "send Content-Type: application/json"
            )


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    headers: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    return headers


def _entry_token(scope: Scope) -> str | None:
    """Return the token in the URL; None without one, or with an excessive query."""
    with suppress(ValueError):
        tokens = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=10).get("token")
        return tokens[0] if tokens else None
    return None


def _cookie_value(line: bytes, name: str) -> str:
    try:
        cookie = SimpleCookie(line.decode("latin-1")).get(name)
    except CookieError:
        return ""
    return cookie.value if cookie is not None else ""


async def _read_body(receive: Receive) -> Receive:
    """Read a body of at most MAX_BODY bytes; return what passes it on in one message."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise RequestRefused(
                413,
                f"the request is larger than {MAX_BODY:,} bytes",
                "select images by a filter instead of by id",
            )
        if not message.get("more_body", False):
            break
    messages: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def receive_whole() -> Message:
        return messages.pop() if messages else await receive()

    return receive_whole


async def _answer(refused: RequestRefused, send: Send) -> None:
    body = json.dumps({"error": refused.error, "hint": refused.hint}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
