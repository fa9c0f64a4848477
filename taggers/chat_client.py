"""A client of an OpenAI-compatible API, as llama.cpp, vLLM, Ollama and LM Studio serve it.

A request goes to one address and nowhere else: redirects are not followed, and on this machine no
proxy is used. Every answer has a limit in time and size. Failures of the server that may pass
(429, 5xx, a connection that breaks) are repeated with growing pauses.
"""

from __future__ import annotations

import email.utils
import http.client
import ipaddress
import json
import math
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeGuard

from datasetkit.core.errors import ConfigError, InputError, ModelFileError
from datasetkit.core.files import display
from datasetkit.core.words import counted

ATTEMPTS: Final = 5
# Seconds before the second attempt; each later pause is twice as long.
FIRST_PAUSE = 1.0
LONGEST_PAUSE: Final = 120.0
LARGEST_ANSWER: Final = 4_000_000  # bytes; an answer has a few thousand
_ASK_TIMEOUT: Final = 20.0  # seconds, for the list of models
_SHOWN: Final = 200  # characters of a server's own message
_PASSING: Final = frozenset({408, 409, 425, 429})
KEY_VARIABLE: Final = "DSK_CAPTION_KEY"


class ServerUnusable(ModelFileError):
    """The server cannot be used at all: the run stops."""


class RequestFailed(InputError):
    """One request failed. is_server: the server is at fault, and not the image.

    may_pass: another attempt may succeed. wait: how many seconds the server asks to wait for.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        is_server: bool = True,
        may_pass: bool = False,
        wait: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.is_server, self.may_pass, self.wait = is_server, may_pass, wait


def base_of(endpoint: str) -> str:
    """Return the base of an API, such as `http://127.0.0.1:8080/v1`, from what people copy.

    Raises ConfigError for what is not an address, and for one with a key in it.
    """
    example = "write it as http://127.0.0.1:8080/v1"
    try:
        parts = urllib.parse.urlsplit(endpoint.strip())
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(
            f"--endpoint {display(endpoint)} is not an address", hint=example
        ) from error
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"--endpoint {display(str(host))}: an address with a user, a password or a ? cannot be "
            "used",
            hint=f"give the key in the environment, as {KEY_VARIABLE}",
        )
    is_plain = endpoint.isascii() and endpoint.strip().isprintable() and " " not in parts.netloc
    if parts.scheme not in ("http", "https") or not host or not is_plain:
        raise ConfigError(f"--endpoint {display(endpoint)} is not an address", hint=example)
    path = parts.path.rstrip("/").removesuffix("/chat/completions").removesuffix("/models")
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"


def is_this_machine(base: str) -> bool:
    """Tell whether an address is on the loopback."""
    host = urllib.parse.urlsplit(base).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ChatClient:
    """A client of one server. Its requests may run in several threads; `close` ends them.

    base: see `base_of`. key: sent as a bearer token, "" for none; no message shows it. timeout:
    seconds for one answer, from the connection to its last byte.
    """

    def __init__(self, base: str, *, key: str = "", timeout: float = 300.0) -> None:
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise ConfigError(
                f"{KEY_VARIABLE} is not a key: it has spaces or other characters than ASCII",
                hint="set it again, without the line break at its end",
            )
        self.base, self._key, self._timeout = base, key, timeout
        self._closed = threading.Event()
        self._watches: set[_Watch] = set()

    def models(self) -> list[str]:
        """Return the names of the server's models. Raises ServerUnusable, or RequestFailed where
        the server does not have such a list.
        """
        try:
            answer = self._once("/models", None, _ASK_TIMEOUT)
        except RequestFailed as error:
            if error.may_pass and not isinstance(error, _ErrorStatus):
                raise ServerUnusable(
                    f"{self._shown} cannot be reached: {error.message}",
                    hint="start the server, or correct --endpoint",
                ) from error
            raise
        rows = answer.get("data")
        names = [row.get("id") for row in rows if isinstance(row, dict)] if _is_list(rows) else []
        return [name for name in names if isinstance(name, str) and name]

    def complete(self, body: Mapping[str, object]) -> dict[str, Any]:
        """Send a request for a chat completion and return the answer.

        Raises RequestFailed once all attempts have failed, ServerUnusable where others would fail
        too.
        """
        data = json.dumps(body).encode()
        pause = FIRST_PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._once("/chat/completions", data, self._timeout)
            except RequestFailed as error:
                if not error.may_pass:
                    raise
                if attempt == ATTEMPTS:
                    raise RequestFailed(
                        f"{error.message}, {counted(ATTEMPTS, 'time')}", hint=error.hint
                    ) from error
                wait = pause if error.wait is None else error.wait
                pause *= 2
                if self._closed.wait(min(wait, LONGEST_PAUSE)):
                    raise
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the requests that are on their way; they raise RequestFailed."""
        self._closed.set()
        for watch in list(self._watches):
            watch.shut()

    @property
    def _shown(self) -> str:
        return display(self.base)

    def _once(self, path: str, data: bytes | None, timeout: float) -> dict[str, Any]:
        """Send one request, and return the JSON object of its answer."""
        if self._closed.is_set():
            raise RequestFailed("the run was stopped")
        headers = {"Accept": "application/json", "User-Agent": "datasetkit"}
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.base + path, data, headers)
        watch = _Watch()
        self._watches.add(watch)
        if self._closed.is_set():  # since it was looked at: `close` may not have seen this watch
            watch.shut()
        deadline = threading.Timer(timeout, watch.expire)
        deadline.daemon = True
        deadline.start()
        try:
            with self._opener(watch).open(request, timeout=timeout) as response:
                body = response.read(LARGEST_ANSWER + 1)
                if response.length and len(body) <= LARGEST_ANSWER:
                    raise http.client.IncompleteRead(body, response.length)
                kind = response.headers.get_content_type()
        except urllib.error.HTTPError as error:
            raise self._refused(error, path) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error, watch.is_late, timeout) from error
        finally:
            deadline.cancel()
            self._watches.discard(watch)
        if watch.is_late:  # what had arrived until then reads like a whole answer
            raise self._broken(TimeoutError(), True, timeout)
        return self._object(body, kind)

    def _opener(self, watch: _Watch) -> urllib.request.OpenerDirector:
        proxies: dict[str, str] | None = {} if is_this_machine(self.base) else None
        handlers = [urllib.request.ProxyHandler(proxies), _NoRedirect(), _Http(watch)]
        if self.base.startswith("https:"):  # its certificates take a while to load
            handlers.append(_Https(watch))
        return urllib.request.build_opener(*handlers)

    def _object(self, body: bytes, kind: str) -> dict[str, Any]:
        if len(body) > LARGEST_ANSWER:
            raise RequestFailed(f"the answer of {self._shown} is larger than 4 MB")
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise RequestFailed(
                f"the answer of {self._shown} is not JSON but {display(kind)}",
                hint="--endpoint is the base of the API, which usually ends in /v1",
            ) from error
        if not isinstance(answer, dict):
            raise RequestFailed(f"the answer of {self._shown} is not a JSON object")
        return answer

    def _refused(self, error: urllib.error.HTTPError, path: str) -> Exception:
        """Return what a status other than 200 means."""
        status = error.code
        if 300 <= status < 400:
            to = error.headers.get("Location") or "another address"
            error.close()
            return ServerUnusable(
                f"{self._shown} redirects to {self._clean(to)}, and dsk does not follow",
                hint="give that address as --endpoint, if you trust it with the images",
            )
        answered = f"{self._shown} answered {status}{self._message(error)}"
        if status in (401, 403):
            hint = f"give its key in the environment, as {KEY_VARIABLE}"
            return ServerUnusable(answered, hint=hint)
        if status in (404, 405):
            if path == "/models":
                return RequestFailed(answered)
            hint = "check --endpoint, which usually ends in /v1, and the name of the --model"
            return ServerUnusable(answered, hint=hint)
        if status in _PASSING or status >= 500:
            wait = _retry_after(error.headers.get("Retry-After"))
            return _ErrorStatus(answered, may_pass=True, wait=wait)
        hint = "a smaller --max-side may help; the model must be one that takes images"
        return RequestFailed(answered, hint=hint, is_server=False)

    def _message(self, error: urllib.error.HTTPError) -> str:
        """Return the server's own words about an error, "" if it has none."""
        try:
            with error:
                answer = json.loads(error.read(LARGEST_ANSWER))
        except (OSError, ValueError, RecursionError, http.client.HTTPException):
            return ""
        inner = answer.get("error", answer) if isinstance(answer, dict) else None
        text = inner.get("message") if isinstance(inner, dict) else inner
        return f": {self._clean(text)}" if isinstance(text, str) and text.strip() else ""

    def _broken(self, error: Exception, is_late: bool, timeout: float) -> RequestFailed:
        """Return what happened to a connection."""
        if self._closed.is_set():
            return RequestFailed("the run was stopped")
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if is_late or isinstance(reason, TimeoutError):
            return RequestFailed(
                f"{self._shown} did not answer within {timeout:g} s", hint="a larger --timeout "
                "leaves it more time", may_pass=True,
            )  # fmt: skip
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return RequestFailed(
            f"the connection to {self._shown} broke: {self._clean(str(text))}", may_pass=True
        )

    def _clean(self, text: str) -> str:
        """Return a text of the server for a message: safe to print, short, without the key."""
        plain = " ".join(text.split())
        if self._key:
            plain = plain.replace(self._key, "...")
        return display(plain[:_SHOWN])


class _ErrorStatus(RequestFailed):
    """The server answered, with an error that may pass."""


class _Watch:
    """The socket of one request, which another thread may shut. is_late: its time was over."""

    def __init__(self) -> None:
        self.is_late = False
        self._socket: socket.socket | None = None
        self._is_shut = False

    def opened(self, connected: socket.socket) -> None:
        self._socket = connected
        if self._is_shut:
            self.shut()

    def expire(self) -> None:
        self.is_late = True
        self.shut()

    def shut(self) -> None:
        self._is_shut = True
        if self._socket is not None:
            with suppress(OSError):  # it was closed meanwhile
                # Not the method of a TLS socket: it would change what the other thread reads from.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow nothing: the image and the key would go to another address."""


class _Http(urllib.request.HTTPHandler):
    """Opens connections that a `_Watch` knows."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__()
        self._watch = watch

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_watched(http.client.HTTPConnection, self._watch), request)


class _Https(urllib.request.HTTPSHandler):
    """Opens TLS connections that a `_Watch` knows."""

    def __init__(self, watch: _Watch) -> None:
        super().__init__(context=ssl.create_default_context())
        self._watch = watch

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        kind = _watched(http.client.HTTPSConnection, self._watch)
        return self.do_open(kind, request, context=self._context)  # type: ignore[attr-defined]


def _watched(kind: Any, watch: _Watch) -> Any:
    """Return a class of connections that tells a watch of its socket."""

    class WatchedConnection(kind):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            watch.opened(self.sock)

    return WatchedConnection


def _retry_after(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which may be a date; None for anything else."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _is_list(value: object) -> TypeGuard[list[Any]]:
    return isinstance(value, list)
