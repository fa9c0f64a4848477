"""`dsk review` as a process: what it prints, how it ends, and that the printed URL gives access."""

from __future__ import annotations

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

from datasetkit.cli.main import run
from datasetkit.core.errors import Exit


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
