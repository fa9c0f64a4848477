"""`dsk review` as a process: what it prints, how it ends, and that the printed URL gives access."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import uvicorn

from datasetkit.cli.main import run
from datasetkit.core.errors import Exit
from datasetkit.web.server import _Server


@contextmanager
def started(folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; yield the process and the first line of its stdout."""
    command = [sys.executable, "-m", "datasetkit", "review", str(folder), "--no-open", *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as server:
        assert server.stdout is not None
        try:
            yield server, server.stdout.readline()
        finally:
            server.kill()


@pytest.mark.parametrize("signals", [1, 2])
def test_a_page_that_stays_ends_after_the_jobs_or_at_the_second_signal(signals):
    async def app(scope: object, receive: object, send: object) -> None: ...

    warned: list[str] = []
    left = [2, 1, 0]
    server = _Server(uvicorn.Config(app, interface="asgi3"))
    server.config.load()
    server.warn, server.stay_for = warned.append, lambda: left.pop(0)

    async def ticks() -> list[bool]:
        ended = [await server.on_tick(1)]
        server.handle_exit(signal.SIGTERM, None)
        ended.append(await server.on_tick(2))
        if signals == 2:
            server.handle_exit(signal.SIGINT, None)
        return [*ended, *[await server.on_tick(n) for n in (3, 10, 11, 20)]]

    ended = asyncio.run(ticks())
    assert ended[:2] == [False, False]
    assert ended[2:] == ([True] * 4 if signals == 2 else [False, False, False, True])
    assert warned == ["2 jobs left, then the page ends; Ctrl-C ends it now"]


def test_without_jobs_a_page_that_stays_ends_at_once():
    server = _Server(uvicorn.Config(print))
    server.stay_for = lambda: 0
    server.handle_exit(signal.SIGTERM, None)
    assert asyncio.run(server.on_tick(1))


def ends(server: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = server.communicate(timeout=30)
    return server.returncode, out, err


def status(url: str, cookie: str = "") -> tuple[int, str]:
    """Open a URL, or with a cookie the page; return the status and the cookie that it sets."""
    at = urlsplit(url)
    connection = HTTPConnection(at.netloc, timeout=30)
    connection.request(
        "GET", f"/?{at.query}" if not cookie else "/", headers={"Cookie": cookie} if cookie else {}
    )
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, str(response.getheader("set-cookie")).partition(";")[0]


@pytest.mark.long
def test_the_first_line_is_the_url_and_ctrl_c_ends_it(folder):
    with started(folder) as (server, line):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[0-9a-f]{64}\n", line)
        redirect, cookie = status(line.strip())
        assert redirect == 303 and status(line.strip(), cookie)[0] == 200
        server.send_signal(signal.SIGINT)
        code, out, err = ends(server)
        assert (code, out) == (Exit.DONE, "")
        assert (
            "7 images; Ctrl-C stops the page" in err
            and "token" not in err
            and "Traceback" not in err
        )


@pytest.mark.long
def test_a_hanging_request_does_not_keep_it_from_ending(folder):
    with started(folder) as (server, line):
        at = urlsplit(line.strip())
        connection = HTTPConnection(at.netloc, timeout=30)
        connection.putrequest("POST", "/api/apply")
        connection.putheader("Content-Length", "100")
        connection.endheaders()
        server.send_signal(signal.SIGTERM)
        code, _, err = ends(server)
        assert code in (Exit.DONE, Exit.TERMINATED, -signal.SIGTERM) and "Traceback" not in err
        connection.close()


@pytest.mark.long
def test_two_pages_of_one_folder_work_at_once(folder):
    with started(folder) as (one, first), started(folder) as (other, second):
        assert first != second
        assert status(first.strip())[0] == status(second.strip())[0] == 303
        for server in (one, other):
            server.send_signal(signal.SIGINT)
            assert ends(server)[0] == Exit.DONE


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--host", "0.0.0.0"), Exit.USAGE, "--allow-host"),
        (("--host", "nowhere"), Exit.USAGE, "--allow-host"),
        (("--host", "nowhere", "--allow-host", "x"), Exit.USAGE, "is not an IP address"),
        (("--port", "70000"), Exit.USAGE, "out of range"),
        (("--max-pixels", "0"), Exit.USAGE, "out of range"),
    ],
)
def test_invalid_options_are_refused(folder, capsys, options, code, message):
    assert run(["review", str(folder), "--no-open", *options]) == code
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert run(["review", str(folder), "--no-open"]) == Exit.DATASET
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.startswith("error: ")
