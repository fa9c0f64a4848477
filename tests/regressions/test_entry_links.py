"""Links to the review page: other users of the machine see none among the arguments of processes,
each lets one browser in, and Enter prints another.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
import webbrowser
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from datasetkit.project.signature import state_folder
from datasetkit.verbs.review.browser import opened_in_browser
from tests.web import datasets
from tests.web.client import Browser, review, run_server

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def folder(tmp_path) -> Path:
    return datasets.many(tmp_path / "imgs", 2)


def follow(browser: Browser, link: str, headers=None):
    return browser.ask("GET", f"/?{urlsplit(link).query}", headers=headers)


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = state_folder()
    assert folder is not None
    return folder


# ---- a link counts once
# --------------------------------------------------------------------------------------------------


def test_a_link_lets_one_browser_in_and_a_second_reads_how_to_get_another(folder):
    with run_server(folder) as browser:
        first = follow(browser, browser.server.url)
        assert (first.status, first.headers["location"]) == (303, "./")
        for headers in (None, HTML):
            again = follow(browser, browser.server.url, headers)
            assert again.status == 403
            assert "set-cookie" not in again.headers
            assert b"used already" in again.body
            assert b"Enter" in again.body
        assert follow(browser, browser.server.link(lambda: None)).status == 303


@pytest.mark.long
def test_a_browser_reads_every_refusal_as_a_page(folder):
    with run_server(folder) as browser:
        for path in ("/", "/?token=0", f"/?token={'0' * 64}"):
            answer = browser.ask("GET", path, headers=HTML)
            assert answer.status == 401
            assert answer.headers["content-type"].startswith("text/html")
            assert b"<h1>" in answer.body
            assert b"Enter" in answer.body


def test_of_browsers_that_come_at_once_exactly_one_gets_in(folder):
    with run_server(folder) as browser, ThreadPoolExecutor(16) as threads:
        for _ in range(4):
            link = browser.server.link(lambda: None)
            answers = list(threads.map(lambda _, to=link: follow(browser, to).status, range(16)))
            assert sorted(answers) == [303, *[403] * 15]


def test_unused_links_and_the_browsers_that_are_in_are_not_affected(folder):
    with review(folder) as browser:
        links = [browser.server.link(lambda: None) for _ in range(3)]
        for link in reversed(links):
            assert follow(browser, link).status == 303
        assert browser.get("session")["images"] == 2


def test_a_head_request_does_not_use_a_link_up(folder):
    with run_server(folder) as browser:
        query = urlsplit(browser.server.url).query
        assert browser.ask("HEAD", f"/?{query}").status == 401
        assert follow(browser, browser.server.url).status == 303


# ---- the browser is given a file
# --------------------------------------------------------------------------------------------------


def file_of(argument: str) -> Path:
    assert argument.startswith("file:")
    return Path(unquote(urlsplit(argument).path).lstrip("/" if os.name == "nt" else ""))


def test_the_browser_is_given_a_private_file_that_is_removed_when_its_link_was_used(
    folder, state, monkeypatch
):
    given: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: given.__iadd__([url]) is given)
    with run_server(folder) as browser, opened_in_browser(browser.server) as opened:
        assert opened
        assert "token" not in given[0]
        assert str(browser.server.port) not in given[0]
        path = file_of(given[0])
        if os.name == "posix":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert path.parent == state
        (link,) = re.findall(r'url=([^"]*)"', path.read_text(encoding="utf-8"))
        assert link != browser.server.url
        assert follow(browser, link).status == 303
        assert not path.exists()
        assert follow(browser, link).status == 403


@pytest.mark.parametrize("lacking", ["no home folder", "a file in its place"])
def test_without_a_state_folder_the_file_is_private_and_removed_too(
    folder, tmp_path, monkeypatch, lacking
):
    given: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: given.__iadd__([url]) is given)
    (tmp_path / "file").write_text("x")
    place = None if lacking == "no home folder" else tmp_path / "file" / "state"
    monkeypatch.setattr("datasetkit.verbs.review.browser.state_folder", lambda: place)
    with run_server(folder) as browser:
        with opened_in_browser(browser.server):
            path = file_of(given[0])
            if os.name == "posix":
                assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert "token=" in path.read_text()
        assert not path.exists()


@pytest.mark.parametrize("found", [True, False])
def test_a_file_that_no_browser_read_is_removed_at_the_end(folder, state, monkeypatch, found):
    monkeypatch.setattr(webbrowser, "open", lambda _url: found)
    with run_server(folder) as browser:
        with opened_in_browser(browser.server) as opened:
            assert opened == found
            assert len(list(state.glob("*.html"))) == 1
        assert list(state.glob("*.html")) == []


def test_files_of_killed_runs_are_removed_and_those_of_running_ones_kept(
    folder, state, monkeypatch
):
    monkeypatch.setattr(webbrowser, "open", lambda _url: True)
    state.mkdir(parents=True)
    old, new, other = state / "review-0.html", state / "review-1.html", state / "mine.html"
    for path in (old, new, other):
        path.write_text("x")
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    os.utime(other, (hours_ago, hours_ago))
    with run_server(folder) as browser, opened_in_browser(browser.server):
        assert [path.exists() for path in (old, new, other)] == [False, True, True]


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="the browser is a shell script")
def test_no_argument_of_any_process_holds_a_token(folder, tmp_path):
    """Of the command as a whole: the arguments that its browser gets."""
    log, script = tmp_path / "arguments", tmp_path / "browser"
    script.write_text(f'#!/bin/sh\nfor a in "$@"; do echo "$a"; done > {log}.new\n'
                      f"mv {log}.new {log}\n")  # fmt: skip
    script.chmod(0o700)
    environment = {**os.environ, "BROWSER": str(script), "XDG_STATE_HOME": str(tmp_path / "s")}
    with started(folder, env=environment, stdin=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        link = server.stdout.readline()
        for _ in range(500):
            if log.exists():
                break
            time.sleep(0.02)
        arguments = log.read_text().split()
        assert "token=" in link
        assert len(arguments) == 1
        assert "token" not in arguments[0]
        assert "token=" in file_of(arguments[0]).read_text()
        server.terminate()
        server.wait(30)
        assert not file_of(arguments[0]).exists()


# ---- Enter
# --------------------------------------------------------------------------------------------------


def started(folder: Path, *options: str, **more) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "datasetkit", "review", str(folder), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", **more
    )


@pytest.mark.long
@pytest.mark.skipif(os.name == "nt", reason="this system has no pseudo-terminals")
def test_enter_in_the_terminal_prints_another_link(folder):
    terminal, inside = os.openpty()
    try:
        with started(folder, "--no-open", stdin=inside) as server:
            assert server.stdout is not None
            links = [server.stdout.readline().strip()]
            for typed in (b"\n", b"new link please\n"):
                os.write(terminal, typed)
                links.append(server.stdout.readline().strip())
            assert len(set(links)) == 3
            assert all(re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=\w{64}", x) for x in links)
            server.terminate()
            _, err = server.communicate(timeout=30)
            assert "Enter prints another link" in err
            assert "Traceback" not in err
    finally:
        os.close(terminal)
        os.close(inside)
