"""Any model that a server describes images with: an OpenAI-compatible API, such as that of
llama.cpp, vLLM, Ollama and LM Studio.
"""

from __future__ import annotations

import base64
import json
import os
import threading
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from PIL import Image

from datasetkit.core.errors import ConfigError
from datasetkit.core.files import display
from datasetkit.core.progress import SILENT, Reporter
from datasetkit.images import pixels
from taggers.answers import description_of
from taggers.captioner import (
    CAPTION,
    DETAILED,
    PARAGRAPH,
    TRAINING,
    CaptionerIdentity,
    CaptionerOptions,
    Description,
    NoDescription,
    ResolvedCaptioner,
)
from taggers.chat_client import (
    KEY_VARIABLE,
    ChatClient,
    RequestFailed,
    ServerUnusable,
    base_of,
    is_this_machine,
)

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:8080/v1"
JPEG_QUALITY: Final = 90
# So many images that the server fails for, one after the other, end the run.
GIVE_UP_AFTER: Final = 5
_MOST_NAMES: Final = 10
_PER_JOB: Final = 4


class ServerCaptioner:
    """A server in use; see `taggers.captioner.Captioner`."""

    def __init__(self, client: ChatClient, model: str, options: CaptionerOptions) -> None:
        self._client, self._model, self._options = client, model, options
        self.device = "server"
        # With several requests at once, nobody waits for the slowest one of so few.
        self.batch_size = options.jobs * _PER_JOB if options.jobs > 1 else 1
        self._lock = threading.Lock()
        self._failed_in_a_row = 0
        self._unusable: ServerUnusable | None = None

    @staticmethod
    def resolve(
        name: str, options: CaptionerOptions, reporter: Reporter = SILENT
    ) -> ResolvedCaptioner:
        """Check the address, and find the model: by its name, or the only one that there is."""
        base = base_of(options.endpoint or DEFAULT_ENDPOINT)
        host = urllib.parse.urlsplit(base).hostname or ""
        is_local = is_this_machine(base)
        if not is_local and not options.remote:
            raise ConfigError(
                f"{display(host)} is another machine: your images would be sent to it",
                hint="--remote allows that; without it, --endpoint is on this machine "
                "(127.0.0.1, localhost)",
            )
        model = options.model or _only_model(_client(base, options.timeout), base)
        settings = json.dumps(
            [
                options.system, options.temperature, options.top_p, options.max_tokens,
                options.seed, options.max_side, JPEG_QUALITY,
            ]
        )  # fmt: skip
        how = "" if base.startswith("https:") else ", and nothing is encrypted on the way"
        return ResolvedCaptioner(
            CaptionerIdentity(f"server:{model}", "", settings),
            open=partial(_open, base, model, options),
            fetch=partial(_require_running, base, options.timeout),
            notice="" if is_local else f"the images are sent to {display(host)}{how}",
            follows_instructions=True,
            prompts=(CAPTION, DETAILED, PARAGRAPH, TRAINING),
        )

    def prepare(self, image: Image.Image) -> str:
        """Return the image as a data URL: a JPEG, not larger than `max_side`."""
        longest = max(image.size)
        if longest > self._options.max_side:
            scale = self._options.max_side / longest
            size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
            image = image.resize(size, Image.Resampling.LANCZOS)
        data = pixels.encode(image, "JPEG", quality=JPEG_QUALITY)
        return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"

    def describe(
        self, batch: Sequence[tuple[object, str]]
    ) -> Sequence[Description | NoDescription]:
        """Ask for a description of each image. Raises ServerUnusable once the server has failed for
        several images in a row; with several requests at once at the next call, so that the
        answers of this one are not lost.
        """
        if self._unusable is not None:
            raise self._unusable
        if len(batch) == 1 or self._options.jobs == 1:
            return [self._describe(str(url), prompt) for url, prompt in batch]
        # Not in a `with`, which waits for the requests that were sent: Ctrl-C, and a second one
        # while the first is obeyed, must not wait for answers that take minutes.
        pool = ThreadPoolExecutor(self._options.jobs, thread_name_prefix="dsk-server")
        try:
            futures = [pool.submit(self._answer, str(url), prompt) for url, prompt in batch]
            return [future.result() for future in futures]
        except BaseException:
            self._client.close()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End the requests that are on their way."""
        self._client.close()

    def _answer(self, url: str, prompt: str) -> Description | NoDescription:
        """Do what `_describe` does; keep the error that stops the run for the next call."""
        if self._unusable is None:
            try:
                return self._describe(url, prompt)
            except ServerUnusable as error:
                self._unusable = error
        return NoDescription(self._unusable.message, self._unusable.hint)

    def _describe(self, url: str, prompt: str) -> Description | NoDescription:
        try:
            answer = self._client.complete(self._request(url, prompt))
            described = _read(answer)
        except RequestFailed as error:
            self._count(error)
            return NoDescription(error.message, error.hint)
        self._count(None)
        return described

    def _request(self, url: str, prompt: str) -> dict[str, object]:
        options = self._options
        content = [
            {"type": "text", "text": prompt},
            {"type": "image_url", "image_url": {"url": url}},
        ]
        messages: list[dict[str, object]] = [{"role": "user", "content": content}]
        if options.system:
            messages.insert(0, {"role": "system", "content": options.system})
        return {
            "model": self._model, "messages": messages, "temperature": options.temperature,
            "top_p": options.top_p, "max_tokens": options.max_tokens, "seed": options.seed,
            "stream": False,
        }  # fmt: skip

    def _count(self, error: RequestFailed | None) -> None:
        """Count the images that the server fails for; raise ServerUnusable after several."""
        with self._lock:
            is_failure = error is not None and error.is_server
            self._failed_in_a_row = self._failed_in_a_row + 1 if is_failure else 0
            count = self._failed_in_a_row
        if error is not None and count >= GIVE_UP_AFTER:
            raise ServerUnusable(
                f"the server failed for {count} images in a row: {error.message}",
                hint="the descriptions so far are stored; look at the server, then run the same "
                "command again",
            ) from error


def _read(answer: dict[str, Any]) -> Description | NoDescription:
    """Return the description in an answer. Raises RequestFailed where it has none of the form of
    the API.
    """
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        problem = answer.get("error")
        inner = problem.get("message") if isinstance(problem, dict) else problem
        why = f": {display(inner[:200])}" if isinstance(inner, str) else ""
        raise RequestFailed(f"the answer of the server has no message{why}")
    reason = first.get("finish_reason")
    if isinstance(refusal := message.get("refusal"), str) and refusal.strip():
        return NoDescription(
            f"the model refused to describe it: {display(refusal[:120])}", "try another prompt"
        )
    if reason == "content_filter":
        return NoDescription("the server's filter refused to describe it", "try another model")
    return description_of(_text(message.get("content")), cut_off=reason == "length")


def _text(content: object) -> str:
    """Return the text of a message: a string, or a list of parts."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    return "".join(text for text in texts if isinstance(text, str))


def _client(base: str, timeout: float) -> ChatClient:
    return ChatClient(base, key=os.environ.get(KEY_VARIABLE, "").strip(), timeout=timeout)


def _only_model(client: ChatClient, base: str) -> str:
    """Return the name of the server's only model."""
    try:
        names = client.models()
    except RequestFailed as error:
        raise ServerUnusable(
            f"{display(base)} does not list its models: {error.message}",
            hint="name the model: --model",
        ) from error
    if len(names) == 1:
        return names[0]
    if not names:
        raise ServerUnusable(f"{display(base)} has no model", hint="load one there, or name it")
    more = f", and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    raise ConfigError(
        f"{display(base)} has several models",
        hint=f"name one: --model {' | '.join(map(display, names[:_MOST_NAMES]))}{more}",
    )


def _open(base: str, model: str, options: CaptionerOptions) -> ServerCaptioner:
    return ServerCaptioner(_client(base, options.timeout), model, options)


def _require_running(base: str, timeout: float) -> None:
    """Raise ServerUnusable unless the server answers. It need not have a list of models, and may
    still be loading one: the requests wait for it.
    """
    with suppress(RequestFailed):
        _client(base, timeout).models()
