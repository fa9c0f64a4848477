"""The wheel contains the built page, and an installed wheel serves it without Node."""

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

from trainer.tinybase import shipped

pytest.importorskip("hatchling", reason="the wheel cannot be built without hatchling")

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "datasetkit" / "web" / "static"
BUNDLE = sorted(path.name for path in STATIC.iterdir())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.long
def test_the_wheel_contains_the_page_but_not_its_source(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        for name in BUNDLE:
            assert packed.read(f"datasetkit/web/static/{name}") == (STATIC / name).read_bytes()
    assert [name for name in names if "/ui/" in name or "node_modules" in name] == []
    assert [name for name in names if "/tools/" in name] == []


@pytest.mark.long
def test_the_wheel_contains_the_tiny_and_the_random_base(wheel):
    with zipfile.ZipFile(wheel) as packed:
        names = set(packed.namelist())
    assert {
        "trainer/random_base.py",
        "trainer/tinybase/shipped.py",
        *(f"trainer/tinybase/weights/{name}" for name in shipped.SHA256),
    } <= names


def test_the_page_loads_only_files_of_the_bundle():
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    urls = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sorted(urls) == ["./icon.svg", "./page.css", "./page.js"]
    for name in (name for name in BUNDLE if name.endswith((".css", ".js"))):
        text = (STATIC / name).read_text(encoding="utf-8")
        assert (
            re.findall(
                r"@import|url\((?!data:)|//[a-z0-9.-]*(?:cdn|unpkg|googleapis|jsdelivr)", text
            )
            == []
        )


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    # What pip does with a wheel of pure Python, in a tenth of the time.
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(site)
    return site


@pytest.fixture
def url(installed, folder, tmp_path) -> Iterator[str]:
    """Run `dsk review` from the installed wheel, with no checkout to import and an empty PATH."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "PATH": str(tmp_path / "nothing")}
    imported = subprocess.run(
        [sys.executable, "-P", "-c", "import datasetkit; print(datasetkit.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    assert imported.stdout.strip().startswith(str(installed))
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


@pytest.mark.long
def test_an_installed_wheel_serves_the_page(url):
    at = urlsplit(url)

    def get(path: str, cookie: str = "") -> tuple[int, str | None, bytes]:
        connection = HTTPConnection(at.netloc, timeout=30)
        connection.request("GET", path, headers={"Cookie": cookie} if cookie else {})
        response = connection.getresponse()
        result = response.status, response.getheader("set-cookie"), response.read()
        connection.close()
        return result

    status, set_cookie, _ = get(f"/?{at.query}")
    assert status == 303 and set_cookie is not None
    cookie = set_cookie.partition(";")[0]
    for name in BUNDLE:
        path = "/" if name == "index.html" else f"/{name}"
        assert get(path, cookie)[::2] == (200, (STATIC / name).read_bytes())
    assert get("/thumb/1", cookie)[2].startswith(b"\xff\xd8\xff")
