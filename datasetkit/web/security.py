"""Security of the page: only the page itself may send requests.

- A link contains a token of 256 bits, which counts once. The first request exchanges it for a
  cookie that scripts cannot read and other sites cannot send, and it leaves the address bar.
- A POST, and any other request that is not a plain read, needs a second token in a header, which
  only the script of this page can know.
- `Host` must be one of a few names, so that no other site can reach the server under a name of its
  own (DNS rebinding).
- Every response has headers that forbid the browser to load anything from elsewhere.
"""

from __future__ import annotations

import hashlib
import html
import json
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from threading import Lock
from typing import Literal
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from datasetkit.verbs.studio.open_studios import ENTRY_PATH, KEY_HEADER

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
_NEW_LINK = "press Enter in the terminal in which `dsk review` runs: it prints a new link"
# What a browser gets when it asks for the page, and not the script of the page for data.
_HTML = """<!doctype html>
<html lang="en">
<meta charset="utf-8">{head}
<title>datasetkit review</title>
{body}
</html>
"""
_CONTINUE = _HTML.format(
    # With an icon, as browsers else ask for /favicon.ico, which does not exist.
    head='\n<link rel="icon" href="./icon.svg" type="image/svg+xml">'
    '\n<meta http-equiv="refresh" content="0; url=./">',
    body='<p><a href="./">Open the review page</a></p>',
)


class EntryTokens:
    """The tokens of links. Each lets one browser in, once."""

    def __init__(self) -> None:
        self._lock = Lock()
        # By hash, so that the time of a look-up says nothing about a token. None: it was used.
        self._tokens: dict[bytes, Callable[[], None] | None] = {}

    def new(self, used: Callable[[], None] = lambda: None) -> str:
        """Return a new token. used: called when a browser got in with it."""
        token = secrets.token_hex(32)
        with self._lock:
            self._tokens[_hash(token)] = used
        return token

    def use(self, token: str) -> None:
        """Use a token up. Raises RequestRefused if it was used before, or is of another run."""
        with self._lock:
            if _hash(token) not in self._tokens:
                raise RequestRefused(401, "this link belongs to an earlier `dsk review`", _NEW_LINK)
            used = self._tokens[_hash(token)]
            self._tokens[_hash(token)] = None
        if used is None:
            raise RequestRefused(403, "this link was used already: it works once", _NEW_LINK)
        used()


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """The secrets of one run: `entry` in links, `cookie` in exchange for it, `header` for POST
    requests; `key` with which another process of this user asks for a link.
    """

    entry: EntryTokens = field(default_factory=EntryTokens, repr=False)
    key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
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
        self,
        app: ASGIApp,
        keys: SessionKeys,
        *,
        hosts: frozenset[str],
        port: int,
        body_of: Callable[[str, str], Literal["json", "bytes"]],
    ) -> None:
        """hosts: the allowed host names, without the port. body_of: the kind of body that a method
        and a path take.
        """
        self.app, self.keys, self.body_of = app, keys, body_of
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
            if scope["path"] == ENTRY_PATH and scope["method"] == "POST":
                await self._give_entry(headers, send_with_headers)
                return
            if (
                scope["path"] == "/"
                and scope["method"] == "GET"
                and (entry := _entry_token(scope)) is not None
            ):
                await self._let_in(entry, headers, send_with_headers)
                return
            self._require_cookie(headers)
            self._require_same_origin(headers)
            if scope["method"] not in ("GET", "HEAD"):
                self._require_header_token(headers)
                body = self.body_of(scope["method"], scope["path"])
                _require_content_type(headers, body)
                if body == "json":
                    receive = await _read_body(receive)
        except RequestRefused as refused:
            await _answer(refused, _headers(scope), send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)

    def _require_host(self, headers: Mapping[bytes, list[bytes]]) -> None:
        hosts = headers.get(b"host", [])
        if len(hosts) != 1 or hosts[0].decode("latin-1").lower() not in self.hosts:
            raise RequestRefused(400, "this host name is not allowed", _NEW_LINK)

    async def _give_entry(self, headers: Mapping[bytes, list[bytes]], send: Send) -> None:
        """Answer another process of this user, which has read the key, with a token for a link. No
        page can send that header without asking, and nothing answers that.
        """
        self._require_same_origin(headers)
        keys = headers.get(KEY_HEADER.lower().encode(), [])
        if len(keys) != 1 or not secrets.compare_digest(keys[0], self.keys.key.encode()):
            raise RequestRefused(403, "the request has no valid key", _NEW_LINK)
        body = json.dumps({"token": self.keys.entry.new()})
        await _send(200, body, b"application/json", send)

    async def _let_in(self, entry: str, headers: Mapping[bytes, list[bytes]], send: Send) -> None:
        """Exchange the token of a link for the cookie, and lead on to the plain URL."""
        self.keys.entry.use(entry)
        cookie = f"{self.cookie}={self.keys.cookie}; Path=/; HttpOnly; SameSite=Strict".encode()
        if _wants_html(headers):
            # A redirect would not do for a browser that followed a link of another site, or of a
            # file: to a redirect it sends no Strict cookie, to what this page leads to it does.
            await _send_html(200, _CONTINUE, send, (b"set-cookie", cookie))
            return
        await send(
            {
                "type": "http.response.start",
                "status": 303,
                "headers": [
                    (b"location", b"./"),
                    (b"set-cookie", cookie),
                    (b"content-length", b"0"),
                ],
            }
        )
        await send({"type": "http.response.body", "body": b""})

    def _require_cookie(self, headers: Mapping[bytes, list[bytes]]) -> None:
        values = [_cookie_value(line, self.cookie) for line in headers.get(b"cookie", [])]
        if not any(
            secrets.compare_digest(value.encode(), self.keys.cookie.encode()) for value in values
        ):
            raise RequestRefused(401, "this browser has no access to the page", _NEW_LINK)

    def _require_same_origin(self, headers: Mapping[bytes, list[bytes]]) -> None:
        """Refuse what another site started, by the header that browsers set themselves. Another
        port of this machine is another origin.
        """
        sites = headers.get(b"sec-fetch-site", [])
        if any(value not in (b"same-origin", b"none") for value in sites):
            raise RequestRefused(403, "requests from other sites are refused", _NEW_LINK)

    def _require_header_token(self, headers: Mapping[bytes, list[bytes]]) -> None:
        """Refuse what the script of this page did not send."""
        origins = headers.get(b"origin", [])
        host = headers[b"host"][0].lower()
        if len(origins) > 1 or any(origin.lower() != b"http://" + host for origin in origins):
            raise RequestRefused(403, "requests from other sites are refused", _NEW_LINK)
        tokens = headers.get(TOKEN_HEADER, [])
        if len(tokens) != 1 or not secrets.compare_digest(tokens[0], self.keys.header.encode()):
            raise RequestRefused(403, "the request has no valid token", "reload the page")


def _require_content_type(
    headers: Mapping[bytes, list[bytes]], body: Literal["json", "bytes"]
) -> None:
    """Refuse a body of another kind. Pages of other sites can send neither kind without asking."""
    types = headers.get(b"content-type", [])
    given = types[0].split(b";")[0].strip().lower() if len(types) == 1 else b""
    if body == "json" and given != b"application/json":
        raise RequestRefused(415, "the request is not JSON", "send Content-Type: application/json")
    if body == "bytes" and given != b"application/octet-stream":
        raise RequestRefused(
            415, "the request is not a file", "send Content-Type: application/octet-stream"
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


def _wants_html(headers: Mapping[bytes, list[bytes]]) -> bool:
    """Tell whether a browser asks for a page: its scripts and images accept other types."""
    return any(b"text/html" in accept for accept in headers.get(b"accept", []))


async def _answer(
    refused: RequestRefused, headers: Mapping[bytes, list[bytes]], send: Send
) -> None:
    if _wants_html(headers):
        body = f"<h1>{_sentence(refused.error)}</h1>\n<p>{_sentence(refused.hint)}</p>"
        await _send_html(refused.status, _HTML.format(head="", body=body), send)
        return
    body = json.dumps({"error": refused.error, "hint": refused.hint})
    # The rest of a body that is too large is not read.
    end = [(b"connection", b"close")] if refused.status == 413 else []
    await _send(refused.status, body, b"application/json", send, *end)


def _sentence(text: str) -> str:
    return html.escape(text[:1].upper() + text[1:]) + "."


async def _send_html(status: int, page: str, send: Send, *more: tuple[bytes, bytes]) -> None:
    await _send(status, page, b"text/html; charset=utf-8", send, *more)


async def _send(
    status: int, text: str, content_type: bytes, send: Send, *more: tuple[bytes, bytes]
) -> None:
    body = text.encode()
    headers = [
        (b"content-type", content_type),
        (b"content-length", str(len(body)).encode()),
        *more,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
