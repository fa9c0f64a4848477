"""A Hugging Face hub on the loopback, for tests that download."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from huggingface_hub import constants

BRANCH_COMMIT = "c" * 40


@dataclass(frozen=True)
class FakeHub:
    """files: the bytes to serve, by their path in any repository. requests: each download, as
    `file from byte`. blobs: the folder of the cache that holds the files of a repository.
    """

    cache: Path
    files: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def blobs(self, repo: str) -> Path:
        return self.cache / f"models--{repo.replace('/', '--')}" / "blobs"

    def plant_part(self, repo: str, file: str, data: bytes) -> Path:
        """Leave a part of a file in the cache, as a killed download does."""
        digest = hashlib.sha256(self.files[file]).hexdigest()
        part = self.blobs(repo) / f"{digest}.dsk-part"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        return part


@contextmanager
def serve(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """Run a hub that the hub's client asks; a branch of any name stands for `BRANCH_COMMIT`."""
    hub = FakeHub(cache)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            if "/resolve/" in self.path:  # the hub's client asks other things now and then
                hub.requests.append(f"{self.file} from {self.start}")
            self.answer(with_body=True)

        @property
        def file(self) -> str:
            return self.path.partition("/resolve/")[2].partition("/")[2]

        @property
        def start(self) -> int:
            return int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])

        def answer(self, *, with_body: bool) -> None:
            data = hub.files.get(self.file)
            if data is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            revision = self.path.partition("/resolve/")[2].partition("/")[0]
            self.send_response(206 if self.start else 200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", revision if len(revision) == 40 else BRANCH_COMMIT)
            self.send_header("Content-Length", str(len(data) - self.start))
            if self.start:
                end = f"{len(data) - 1}/{len(data)}"
                self.send_header("Content-Range", f"bytes {self.start}-{end}")
            self.end_headers()
            if with_body:
                self.wfile.write(data[self.start :])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
