"""U12: the wheel brings the built page, and an installed one serves it without Node."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

pytest.importorskip("hatchling", reason="the wheel cannot be built without hatchling")

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "datasetkit" / "web" / "static"
BUNDLE = ("index.html", "page.js", "page.css", "icon.svg")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (made,) = place.glob("*.whl")
    return made


def test_the_wheel_holds_the_page_and_not_its_source(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        for name in BUNDLE:
            assert packed.read(f"datasetkit/web/static/{name}") == (STATIC / name).read_bytes()
    assert [name for name in names if "/ui/" in name or "node_modules" in name] == []
    assert [name for name in names if "/tools/" in name] == []


def test_what_the_page_asks_for_is_in_the_bundle_and_nothing_else_is_asked_for():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    asked = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sorted(asked) == ["./icon.svg", "./page.css", "./page.js"]
    for name in ("page.css", "page.js"):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert (
            re.findall(
                r"@import|url\((?!data:)|//[a-z0-9.-]*(?:cdn|unpkg|googleapis|jsdelivr)", text
            )
            == []
        )


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(place),
    ]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return place


@pytest.fixture
def address(installed, folder, tmp_path) -> Iterator[str]:
    """Run `dsk review` of the installed wheel, where neither this checkout nor any other program is
    to be found.
    """
    environment = {**os.environ, "PYTHONPATH": str(installed), "PATH": str(tmp_path / "nothing")}
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import datasetkit; print(datasetkit.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert where.stdout.strip().startswith(str(installed))
    command = [sys.executable, "-P", "-m", "datasetkit", "review", str(folder), "--no-open"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0


def test_an_installed_wheel_serves_the_page(address):
    at = urlsplit(address)

    def get(path: str, cookie: str = "") -> tuple[int, str | None, bytes]:
        connection = HTTPConnection(at.netloc, timeout=30)
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        answer = connection.getresponse()
        found = answer.status, answer.getheader("set-cookie"), answer.read()
        connection.close()
        return found

    status, set_cookie, _ = get(f"/?{at.query}")
    assert status == 303 and set_cookie is not None
    cookie = set_cookie.partition(";")[0]
    for name in BUNDLE:
        path = "/" if name == "index.html" else f"/{name}"
        assert get(path, cookie)[::2] == (200, (STATIC / name).read_bytes())
    assert get("/thumb/1", cookie)[2].startswith(b"\xff\xd8\xff")
