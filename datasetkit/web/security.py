"""Security: who may speak to the review page. Everything is refused that does not come from the
page itself.

The address that is printed holds a token of 256 bits. It is exchanged for a cookie that scripts
cannot read and other sites cannot send, and vanishes from the address by a redirect. Calls that
change something, and all others that are not plain reads, need a second token in a header, which
only this page's script can get to know. `Host` must be one of a few names, so that no other site
can reach the server under its own name (DNS rebinding).
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


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The secrets of one run. entry: in the address; cookie: what it is exchanged for; header: for
    calls.
    """

    entry: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    header: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)


class Refused(Exception):
    """A request is not answered. status: of HTTP."""

    def __init__(self, status: int, error: str, hint: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint


class Guard:
    """Lets through what comes from the page; adds the headers that bind the browser to everything
    that goes out.
    """

    def __init__(
        self, app: ASGIApp, keys: SessionKeys, *, hosts: frozenset[str], port: int
    ) -> None:
        """hosts: the names under which the server may be spoken to, without the port."""
        self.app, self.keys = app, keys
        self.hosts = frozenset(f"{host}:{port}" for host in hosts) | (
            hosts if port == 80 else frozenset()
        )
        # Cookies do not know ports: two pages open at once must not take each other's.
        self.cookie = f"dsk_review_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                more = [(name, value) for name, value in HEADERS if name not in given]
                kept = [] if b"cache-control" in given else [(b"cache-control", b"no-store")]
                message = {**message, "headers": [*message["headers"], *more, *kept]}
            await send(message)

        try:
            headers = _headers(scope)
            self._require_host(headers)
            if (
                scope["path"] == "/"
                and scope["method"] == "GET"
                and (entry := _entry(scope)) is not None
            ):
                await self._let_in(entry, guarded)
                return
            self._require_cookie(headers)
            self._require_same_site(headers)
            if scope["method"] not in ("GET", "HEAD"):
                self._require_page(headers)
                receive = await _bounded(receive, headers)
        except Refused as refused:
            await _answer(refused, guarded)
            return
        await self.app(scope, receive, guarded)

    def _require_host(self, headers: Mapping[bytes, list[bytes]]) -> None:
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or hosts[0].decode("latin-1").lower() not in self.hosts:
            raise Refused(
                400, "this server has another name", "open the address that dsk review printed"
            )

    async def _let_in(self, entry: str, send: Send) -> None:
        if not secrets.compare_digest(entry.encode(), self.keys.entry.encode()):
            raise Refused(
                401,
                "this address is of another run",
                "open the address that dsk review printed last",
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
        sent = [_cookie(line, self.cookie) for line in headers.get(b"cookie", [])]
        if not any(
            secrets.compare_digest(value.encode(), self.keys.cookie.encode()) for value in sent
        ):
            raise Refused(
                401, "this page is not open to you", "open the address that dsk review printed"
            )

    def _require_same_site(self, headers: Mapping[bytes, list[bytes]]) -> None:
        """Browsers say where a request comes from. Another port of this machine is no same
        origin.
        """
        if any(
            value not in (b"same-origin", b"none") for value in headers.get(b"sec-fetch-site", [])
        ):
            raise Refused(403, "another site asks", "open the address that dsk review printed")

    def _require_page(self, headers: Mapping[bytes, list[bytes]]) -> None:
        """Let a call through that may change something."""
        origins = headers.get(b"origin", [])
        host = headers[b"host"][0].lower()
        if len(origins) > 1 or any(origin.lower() != b"http://" + host for origin in origins):
            raise Refused(403, "another site asks", "open the address that dsk review printed")
        tokens = headers.get(TOKEN_HEADER, [])
        if len(tokens) != 1 or not secrets.compare_digest(tokens[0], self.keys.header.encode()):
            raise Refused(403, "the call has no token", "reload the page")
        kinds = headers.get(b"content-type", [])
        if len(kinds) != 1 or kinds[0].split(b";")[0].strip().lower() != b"application/json":
            raise Refused(415, "calls are JSON", "send Content-Type: application/json")


def _headers(scope: Scope) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        found.setdefault(name.lower(), []).append(value)
    return found


def _entry(scope: Scope) -> str | None:
    """Return the token in the address, None where it has none or asks for too much at once."""
    with suppress(ValueError):
        given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=10).get("token")
        return given[0] if given else None
    return None


def _cookie(line: bytes, name: str) -> str:
    try:
        found = SimpleCookie(line.decode("latin-1")).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


async def _bounded(receive: Receive, headers: Mapping[bytes, list[bytes]]) -> Receive:
    """Read a body of at most MAX_BODY bytes whole, and give it on at once."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            raise Refused(
                413,
                f"a call has at most {MAX_BODY:,} bytes",
                "choose by a filter instead of by numbers",
            )
        if not message.get("more_body", False):
            break
    waiting: list[Message] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


async def _answer(refused: Refused, send: Send) -> None:
    body = json.dumps({"error": refused.error, "hint": refused.hint}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if refused.status == 413:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
