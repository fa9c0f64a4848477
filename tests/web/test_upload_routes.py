"""Uploads and folders over HTTP: the real server, called as the page does."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit.core.files import PROJECT
from tests.web.client import Browser, Response, studio
from tests.web.test_uploads import below, jpeg, png


@pytest.fixture
def page(tmp_path) -> Iterator[Browser]:
    folder = tmp_path / "project"
    folder.mkdir()
    with studio(folder) as browser:
        yield browser


def put(page: Browser, upload: str, number: int, data: bytes) -> Response:
    headers = {**page.headers, "Content-Type": "application/octet-stream"}
    return page.ask("PUT", f"/api/uploads/{upload}/{number}", data, headers)


def announced(files: Mapping[str, bytes]) -> list[dict[str, Any]]:
    return [{"path": path, "size": len(data), "modified": 1e12} for path, data in files.items()]


def test_a_dropped_folder_is_imported_and_undone(page):
    files = {"a.png": png(1), "a.txt": b"sks\n", "b.jpg": jpeg(), "Thumbs.db": b"x"}
    begun = page.post("uploads", to="images", files=announced(files))
    assert begun["waiting"] == 3
    for row in begun["files"]:
        if row["state"] == "wanted":
            assert put(page, begun["id"], row["n"], files[row["path"]]).json["state"] == "arrived"
    ended = page.post(f"uploads/{begun['id']}/end")
    assert ended["images"] == 2 and [item["name"] for item in ended["left_out"]] == ["Thumbs.db"]
    assert set(below(page.folder)) == {"images/a.png", "images/a.txt", "images/b.jpg"}
    assert page.ask("GET", f"/api/uploads/{begun['id']}", None, page.headers).status == 404


def test_an_upload_goes_on_after_the_page_and_the_server_were_closed(tmp_path):
    files = {f"{n}.png": png(n) for n in range(4)}
    with studio(tmp_path) as page:
        begun = page.post("uploads", to="images", files=announced(files))
        put(page, begun["id"], 2, files["2.png"])
    with studio(tmp_path) as page:
        (row,) = page.get("uploads")["uploads"]
        assert (row["id"], row["waiting"]) == (begun["id"], 3)
        again = page.post("uploads", to="images", files=announced(files))
        assert again["id"] == begun["id"]
        waiting = [row["n"] for row in again["files"] if row["state"] == "wanted"]
        assert waiting == [0, 1, 3]
        response = page.send(f"uploads/{begun['id']}/end")
        assert response.status == 400 and "3 files" in response.json["error"]
        for n in waiting:
            put(page, begun["id"], n, files[f"{n}.png"])
        page.post(f"uploads/{begun['id']}/end")
    assert below(tmp_path / "images") == files


def test_an_abandoned_upload_is_removed_when_the_studio_starts(tmp_path):
    with studio(tmp_path) as page:
        begun = page.post("uploads", to="", files=announced({"a.png": png(1)}))
    staged = tmp_path / PROJECT / "uploads" / begun["id"]
    yesterday = time.time() - 90_000
    for path in (staged / "upload.json", staged):
        os.utime(path, (yesterday, yesterday))
    with studio(tmp_path) as page:
        assert page.get("uploads")["uploads"] == []
    assert not staged.exists()


def test_a_file_that_is_sent_twice_or_too_long_arrives_once(page):
    data = png(1)
    begun = page.post("uploads", to="images", files=announced({"a.png": data}))
    assert put(page, begun["id"], 0, data + b"x").status == 400
    assert put(page, begun["id"], 0, data[:-1]).status == 400
    assert [put(page, begun["id"], 0, data).status for _ in range(2)] == [200, 200]
    page.post(f"uploads/{begun['id']}/end")
    assert below(page.folder) == {"images/a.png": data}


def test_a_cancelled_upload_is_gone(page):
    begun = page.post("uploads", to="", files=announced({"a.png": png(1)}))
    put(page, begun["id"], 0, png(1))
    cancelled = page.ask("DELETE", f"/api/uploads/{begun['id']}", None, page.headers)
    assert cancelled.status == 200
    assert page.get("uploads")["uploads"] == [] and below(page.folder) == {}


@pytest.mark.parametrize("name", ["1", "..", "%2e%2e", "0" * 16, "../../x", "a" * 500, "\u0661"])
def test_an_upload_that_does_not_exist_is_not_found(page, name):
    encoded = name.encode().decode("latin-1") if not name.isascii() else name
    for path in (f"/api/uploads/{encoded}/0", f"/api/uploads/{encoded}/-1"):
        headers = {**page.headers, "Content-Type": "application/octet-stream"}
        try:
            status = page.ask("PUT", path, b"x", headers).status
        except UnicodeEncodeError:
            continue
        assert status in (400, 404, 415)  # 415: of a route of another path
    assert page.send("uploads/1/end").status == 404


def test_folders_are_listed_with_their_images_and_captions(page):
    images = page.folder / "images"
    (images / "sub").mkdir(parents=True)
    (images / ".hidden").mkdir()
    (images / "a.png").write_bytes(png())
    (images / "a.txt").write_text("sks\n")
    (page.folder / "link").symlink_to(images)
    listed = page.post("browse", path="")
    assert listed["path"] == str(page.folder) and listed["exists"]
    rows = {row["name"]: row for row in listed["folders"]}
    path = str(images)
    assert rows["images"] == {
        "name": "images", "path": path, "link": False, "images": 1, "captions": 1
    }  # fmt: skip
    assert rows["link"]["link"] and rows["link"]["images"] is None
    assert PROJECT not in rows
    below_images = page.post("browse", path="images")
    assert [row["name"] for row in below_images["folders"]] == ["sub"]
    assert below_images["parent"] == str(page.folder)
    assert [row["name"] for row in page.post("browse", path="", filter="IM")["folders"]] == [
        "images"
    ]
    typed = page.post("browse", path=str(page.folder / "ima"))
    assert not typed["exists"] and [row["name"] for row in typed["folders"]] == ["images"]


OUTSIDE = [
    "..",
    "/",
    "/etc",
    "../..",
    "images/../..",
    "link",
    "link/x",
    "/proc/self/cwd/..",
    "/tmp",
]


@pytest.mark.parametrize("path", OUTSIDE)
def test_folders_outside_of_the_roots_are_not_listed(page, path):
    (page.folder.parent / "secret").mkdir()
    (page.folder / "link").symlink_to(page.folder.parent)
    response = page.send("browse", path=path)
    assert response.status == 403 and "outside" in response.json["error"]
    assert b"secret" not in response.body


@pytest.mark.parametrize(
    "path", ["\0", "a\0b", "x" * 5000, "~nobody-at-all/x", "ring", None, 5, []]
)
def test_a_path_that_cannot_exist_is_refused(page, path):
    (page.folder / "ring").symlink_to(page.folder / "ring")
    assert page.send("browse", path=path).status in (400, 403)


def test_the_home_folder_is_a_root_on_this_machine_alone(tmp_path, monkeypatch):
    home = tmp_path / "home"
    (home / "photos").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    folder = tmp_path / "project"
    folder.mkdir()
    with studio(folder) as page:
        listed = page.post("browse", path="~")
        assert [row["name"] for row in listed["folders"]] == ["photos"]
        assert listed["parent"] is None
    with studio(folder, host="0.0.0.0", allow_host=("127.0.0.1",)) as page:
        assert page.send("browse", path="~").status == 403


# ---- many and large files


@pytest.fixture
def server(tmp_path) -> Iterator[tuple[subprocess.Popen[str], Browser, Path]]:
    """The studio as a process of its own, so that its memory can be read."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the memory of another process is read from /proc")
    folder = tmp_path / "project"
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "datasetkit", "studio", str(folder), "--no-open"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    link = None
    for line in process.stdout:
        if link := re.search(r"http://[\w.:]+:(\d+)/\?token=\w+", line):
            break
    assert link is not None
    try:
        yield process, entered(link[0], int(link[1]), folder), folder
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def entered(link: str, port: int, folder: Path) -> Browser:
    class Running:
        def __init__(self) -> None:
            self.port = port

        def link(self, used: object) -> str:
            return link

    return Browser(Running(), folder).enter()  # type: ignore[arg-type]


def peak_memory(process: subprocess.Popen[str]) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


def uncompressed(shade: int, size: int) -> bytes:
    """Return a PNG of about so many bytes."""
    file = io.BytesIO()
    side = int((size / 3) ** 0.5)
    Image.new("RGB", (side, side), (shade, 0, 0)).save(file, "PNG", compress_level=0)
    return file.getvalue()


@pytest.mark.slow
def test_half_a_gigabyte_is_killed_continued_and_whole_in_little_memory(server, tmp_path):
    """2,000 small files and 20 large ones; the server is killed in the middle."""
    process, page, folder = server
    large = {f"large {n}.png": uncompressed(n, 24_000_000) for n in range(20)}
    small = {f"{n:05}.png": png(n % 256, (16 + n // 256, 16)) for n in range(2_000)}
    files = {**large, **small, "clip.mp4": b"x"}
    begun = page.post("uploads", to="images", files=announced(files))
    waiting = [row for row in begun["files"] if row["state"] == "wanted"]
    assert len(waiting) == len(files) - 1
    for row in waiting[:15]:
        put(page, begun["id"], row["n"], files[row["path"]])
    grown = peak_memory(process)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    with studio(folder) as again:
        state = again.post("uploads", to="images", files=announced(files))
        assert state["id"] == begun["id"] and state["waiting"] == len(waiting) - 15
        for row in state["files"]:
            if row["state"] == "wanted":
                put(again, state["id"], row["n"], files[row["path"]])
        ended = again.post(f"uploads/{begun['id']}/end")
    assert ended["images"] == len(files) - 1 and len(ended["left_out"]) == 1
    assert below(folder / "images") == {n: d for n, d in files.items() if n != "clip.mp4"}
    assert grown < 150e6


@pytest.mark.long
def test_a_large_file_does_not_pass_through_memory(server):
    process, page, _ = server
    before = peak_memory(process)
    data = uncompressed(1, 60_000_000)
    begun = page.post("uploads", to="", files=announced({"a.png": data}))
    assert put(page, begun["id"], 0, data).json["state"] == "arrived"
    assert peak_memory(process) - before < 30e6


def test_a_file_may_take_longer_than_a_request(page, monkeypatch):
    """A slow line: each part arrives in time, the whole does not."""
    from http.client import HTTPConnection

    from datasetkit.web import server

    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.6)
    monkeypatch.setattr(server, "REQUEST_BYTES", 1000)
    data = uncompressed(1, 20_000)
    begun = page.post("uploads", to="", files=announced({"a.png": data}))
    connection = HTTPConnection("127.0.0.1", page.server.port, timeout=20)
    connection.putrequest("PUT", f"/api/uploads/{begun['id']}/0")
    headers = {**page.headers, "Content-Type": "application/octet-stream"}
    for name, value in {**headers, "Content-Length": str(len(data))}.items():
        connection.putheader(name, value)
    connection.endheaders()
    for start in range(0, len(data), 4000):
        connection.send(data[start : start + 4000])
        time.sleep(0.2)
    response = connection.getresponse()
    assert json.loads(response.read())["state"] == "arrived"
    connection.close()


def test_a_file_that_stops_arriving_is_given_up(page, monkeypatch):
    from datasetkit.web import server

    monkeypatch.setattr(server, "REQUEST_SECONDS", 0.3)
    begun = page.post("uploads", to="", files=announced({"a.png": png(1)}))
    head = f"PUT /api/uploads/{begun['id']}/0 HTTP/1.1\r\nHost: {page.host}\r\n"
    headers = {**page.headers, "Content-Type": "application/octet-stream", "Content-Length": "70"}
    text = head + "".join(f"{name}: {value}\r\n" for name, value in headers.items()) + "\r\n\x89P"
    assert page.raw(text.encode("latin-1")) == b""
    staged = page.folder / PROJECT / "uploads" / begun["id"]
    for _ in range(50):
        if not list(staged.glob("*.part")):
            break
        time.sleep(0.1)
    assert [path.name for path in staged.iterdir()] == ["upload.json"]
