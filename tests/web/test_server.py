"""The review page's server over a real socket: who gets in, and that its edits are the command line's."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

CAPTIONS = {"a": "sks, solo, lips", "b": "sks, smile", "c": "sks, lips, smile"}


@dataclass
class Page:
    """A running page, and what a browser that opened its address knows."""

    folder: Path
    host: str
    entry: str
    cookie: str = ""
    token: str = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send one request with what a browser would send; a header given as "" is left out."""
        sent = {"Host": self.host, "Cookie": self.cookie, "Sec-Fetch-Site": "same-origin"}
        if method == "POST":
            sent |= {"Content-Type": "application/json", "X-Dsk-Token": self.token, "Origin": f"http://{self.host}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(self.host, timeout=20)
        data = json.dumps(body).encode() if body is not None else None
        connection.request(method, path, data, {name: value for name, value in sent.items() if value})
        answer = connection.getresponse()
        found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        connection.close()
        return found

    def call(self, path: str, body: Any) -> dict[str, Any]:
        status, _, data = self.ask("POST", path, body)
        assert status == 200, data
        return dict(json.loads(data))

    def get(self, path: str) -> dict[str, Any]:
        status, _, data = self.ask("GET", path)
        assert status == 200, data
        return dict(json.loads(data))

    def captions(self) -> dict[str, str]:
        return {path.stem: path.read_text(encoding="utf-8").strip() for path in sorted(self.folder.glob("*.txt"))}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imgs")
    for number, (name, caption) in enumerate(CAPTIONS.items()):
        Image.new("RGB", (320 + number, 240), (90 * number, 60, 200)).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(caption + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "datasetkit", "review", str(folder), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8") as server:
        assert server.stdout is not None
        found = re.search(r"http://(127\.0\.0\.1:\d+)/\?token=(\w+)", server.stdout.readline())
        assert found is not None
        page = Page(folder, found[1], found[2])
        status, headers, _ = page.ask("GET", f"/?token={page.entry}")
        assert status == 303
        page.cookie = headers["set-cookie"].split(";")[0]
        page.token = page.get("/api/session")["token"]
        yield page
        server.send_signal(signal.SIGINT)
        assert server.wait(20) in (0, 130)


def test_address_without_its_token_opens_nothing(served):
    assert served.ask("GET", "/", Cookie="")[0] == 401
    assert served.ask("GET", "/?token=" + "0" * 64, Cookie="")[0] == 401
    assert served.ask("GET", "/api/pictures", Cookie="dsk_review=guess")[0] == 401


def test_cookie_is_kept_from_scripts_and_other_sites(served):
    _, headers, _ = served.ask("GET", f"/?token={served.entry}", Cookie="")
    assert "HttpOnly" in headers["set-cookie"] and "SameSite=Strict" in headers["set-cookie"]


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example:80", "localhost.:1", "[::1]:1", "127.0.0.1"])
def test_request_for_another_host_is_refused(served, name):
    assert served.ask("GET", "/api/session", Host=name)[0] == 400


def test_change_needs_the_pages_own_token_origin_and_kind(served):
    before = served.captions()
    change = {"version": 1, "scope": {"in": "all"}, "do": {"remove": ["sks"]}}
    host = served.host
    for wrong in (
        {"X_Dsk_Token": ""},
        {"X_Dsk_Token": "0" * 64},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": f"https://{host}"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "application/x-www-form-urlencoded"},
    ):
        assert served.ask("POST", "/api/apply", change, **wrong)[0] in (403, 415), wrong
    assert served.ask("GET", "/api/apply")[0] in (404, 405)
    assert served.captions() == before


@pytest.mark.parametrize(
    "path",
    ["/../a.txt", "/%2e%2e/a.txt", "/thumb/../a.txt", "/thumb/a.png", "/thumb/%2e%2e%2fa.txt", "/.dsk/store.sqlite",
     "/static/index.html", "/thumb/99999", "/preview/-1", "//etc/passwd", "/page.js/../../server.py"],
)  # fmt: skip
def test_no_path_leads_to_a_file(served, path):
    assert served.ask("GET", path)[0] in (400, 404)


def test_every_answer_forbids_what_the_page_does_not_need(served):
    for path in ("/", "/api/session", "/nothing", "/page.js"):
        _, headers, _ = served.ask("GET", path)
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_page_and_pictures_come_without_asking_another_machine(served):
    status, headers, page = served.ask("GET", "/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    assert not re.search(rb"https?://", page)
    listed = served.get("/api/pictures?captions=1")
    assert listed["name"] == ["a.png", "b.png", "c.png"] and listed["caption"] == list(CAPTIONS.values())
    status, headers, picture = served.ask("GET", f"/thumb/{listed['id'][0]}?v={listed['v'][0]}")
    assert (status, headers["content-type"], picture[:2]) == (200, "image/jpeg", b"\xff\xd8")


def test_removed_tag_is_in_the_history_and_comes_back(served):
    before = served.captions()
    version = served.get("/api/pictures")["version"]
    done = served.call("/api/apply", {"version": version, "scope": {"in": "all"}, "do": {"remove": ["lips"]}})
    assert done["changed"] == 2
    assert served.captions() == {"a": "sks, solo", "b": "sks, smile", "c": "sks, smile"}
    undone = served.call("/api/undo", {"version": done["version"]})
    assert served.captions() == before
    again = served.call("/api/redo", {"version": undone["version"]})
    assert served.captions()["c"] == "sks, smile"
    served.call("/api/undo", {"version": again["version"]})
    assert served.captions() == before


def test_dry_run_counts_and_writes_nothing(served):
    before = served.captions()
    version = served.get("/api/pictures")["version"]
    change = {"version": version, "scope": {"in": "where", "where": "tag:solo"}, "do": {"add": ["hat"]}}
    assert served.call("/api/apply", {**change, "dry_run": True})["changed"] == 1
    assert served.captions() == before


def test_caption_that_was_changed_outside_is_never_overwritten(served):
    listed = served.get("/api/pictures?captions=1")
    path = served.folder / "a.txt"
    kept = path.read_bytes()
    try:
        path.write_bytes(b"mine, by hand\n")
        os.utime(path, ns=(1, 1))
        edit = {"version": listed["version"], "id": listed["id"][0], "hash": listed["hash"][0], "caption": "theirs"}
        status, _, data = served.ask("POST", "/api/caption", edit)
        assert status == 409 and json.loads(data)["changed"][0]["now"] == "mine, by hand"
        assert path.read_bytes() == b"mine, by hand\n"
    finally:
        path.write_bytes(kept)


def test_bad_filter_says_where_and_changes_nothing(served):
    status, _, data = served.ask("GET", "/api/pictures?where=tag:(")
    answer = json.loads(data)
    assert status == 400 and answer["error"] and "at" in answer
