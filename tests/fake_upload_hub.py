"""A Hugging Face hub on the loopback that takes uploads: it speaks the requests that
huggingface_hub makes for `repo_info`, `create_repo` and `create_commit` with LFS.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from huggingface_hub import constants

TOKEN = "hf_for_tests"


@dataclass
class Repository:
    """private: whether only its owner sees it. files: path -> bytes. commits: their messages."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)


@dataclass
class UploadHub:
    """repos: by "models/owner/name" or "datasets/owner/name". requests: method and path of each.
    blobs: what arrived as a large file, by its sha256. refuses: the status of every commit, 0 to
    take them.
    """

    repos: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    refuses: int = 0


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    """Run the hub, and let the hub's client use it with a token."""
    hub = UploadHub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))

        def answer(self, value: Any, status: int = 200, code: str = "") -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def heard(self) -> bytes:
            data = self.body()
            hub.requests.append(f"{self.command} {self.path}")
            if self.path.startswith(("/api/models/", "/api/datasets/", "/api/repos/")):
                assert self.headers["Authorization"] == f"Bearer {TOKEN}"
            return data

        def do_GET(self) -> None:
            self.heard()
            key = self.path.removeprefix("/api/").partition("?")[0].removesuffix("/revision/main")
            repo = hub.repos.get(key)
            if repo is None:
                self.answer({"error": "Repository not found"}, 404, "RepoNotFound")
                return
            siblings = [{"rfilename": name} for name in repo.files]
            name = key.partition("/")[2]
            self.answer({"id": name, "private": repo.private, "siblings": siblings, "tags": []})

        def do_POST(self) -> None:
            data = self.heard()
            if self.path == "/api/repos/create":
                self.create(json.loads(data))
            elif self.path == "/api/validate-yaml":  # the front matter of a README.md
                assert json.loads(data)["content"].startswith("---\n")
                self.answer({"errors": [], "warnings": []})
            elif "/preupload/" in self.path:
                sent = json.loads(data)["files"]
                modes = [
                    {"path": f["path"], "uploadMode": _mode(f["path"]), "shouldIgnore": False}
                    for f in sent
                ]
                self.answer({"files": modes})
            elif self.path.endswith("/info/lfs/objects/batch"):
                sent = json.loads(data)
                address = f"http://{self.headers['Host']}/lfs/"
                objects = [
                    {"oid": o["oid"], "size": o["size"],
                     "actions": {"upload": {"href": address + o["oid"]}}}
                    for o in sent["objects"]
                ]  # fmt: skip
                self.answer({"transfer": "basic", "objects": objects})
            elif "/commit/" in self.path:
                self.commit(data)
            else:
                self.answer({"error": "no such request"}, 500)

        def create(self, sent: dict[str, Any]) -> None:
            owner = sent.get("organization") or "me"
            kind = f"{sent.get('type') or 'model'}s"
            hub.repos[f"{kind}/{owner}/{sent['name']}"] = Repository(_is_private(sent))
            self.answer({"url": f"http://{self.headers['Host']}/{owner}/{sent['name']}"})

        def commit(self, data: bytes) -> None:
            if hub.refuses:
                self.answer({"error": "you may not write here"}, hub.refuses)
                return
            [key] = re.findall(r"/api/((?:models|datasets)/[^/]+/[^/]+)/commit/", self.path)
            repo = hub.repos[key]
            for line in map(json.loads, data.splitlines()):
                value = line["value"]
                if line["key"] == "header":
                    repo.commits.append(value["summary"])
                elif line["key"] == "file":
                    repo.files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    repo.files[value["path"]] = hub.blobs[value["oid"]]
            url = f"http://{self.headers['Host']}/{key}/commit/{'c' * 40}"
            self.answer({"success": True, "commitOid": "c" * 40, "commitUrl": url})

        def do_PUT(self) -> None:
            data = self.heard()
            oid = self.path.removeprefix("/lfs/")
            assert hashlib.sha256(data).hexdigest() == oid
            hub.blobs[oid] = data
            self.answer({})

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "ENDPOINT": address, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True,
    }.items():  # fmt: skip
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _is_private(sent: dict[str, Any]) -> bool:
    """Read the visibility, which older clients send as `private`."""
    return bool(sent.get("private", sent.get("visibility") == "private"))


def _mode(path: str) -> str:
    """Return how the hub wants a file: images, tables and weights as large files."""
    return "regular" if path.endswith((".md", ".json", ".jsonl")) else "lfs"
