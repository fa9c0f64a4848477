"""A second studio of a project opens the first; keys are this user's alone; kept tokens."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.project import job_locks, job_runner, jobs
from datasetkit.project.signature import state_folder
from datasetkit.verbs.studio import open_studios
from datasetkit.verbs.studio import studio as serve
from tests.web.client import studio


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def studios() -> Path:
    folder = state_folder()
    assert folder is not None
    return folder / "studios"


def studio_file() -> Path:
    return next(studios().glob("*.json"))


def second(folder, **options):
    """Start another studio of the project in this process; return what it is told."""
    servers = []

    def ready(server):
        servers.append(server)
        server.stop()

    serve(folder, api.ReviewOptions(open=False, **options), ready=ready)
    return servers[0]


def test_the_second_one_gets_a_link_of_the_first(folder, monkeypatch):
    """The lock of this process is not seen by itself, so it is taken for held."""
    with studio(folder) as page:
        monkeypatch.setattr(job_locks, "is_held", lambda path: path.exists())
        other = second(folder)
        assert other.runs_already and other.port == page.server.port
        before = page.cookie
        page.server = other
        entered = page.ask("GET", "/?" + other.link(lambda: None).partition("?")[2])
        assert entered.status == 303
        assert entered.headers["set-cookie"].startswith(before)  # the same server, the same key
        assert page.ask("GET", "/?" + other.url.partition("?")[2]).status == 303
        assert page.ask("GET", "/?" + other.url.partition("?")[2]).status == 403
        new = second(folder, new=True)
        assert not new.runs_already and new.port != page.server.port
    assert not list(studios().glob("*.json"))
    assert not second(folder).runs_already


def test_a_server_that_was_killed_is_not_asked(folder):
    with studio(folder):
        file = studio_file()
        record = file.read_text()
    file.write_text(record)
    assert open_studios.running(folder) is None and open_studios.stored(folder) is not None
    assert not second(folder).runs_already


def test_the_key_is_this_users_alone_and_needed(folder):
    with studio(folder) as page:
        file = studio_file()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        key = json.loads(file.read_text())["key"]
        name = open_studios.KEY_HEADER
        refused: tuple[dict[str, str], ...] = (
            {}, {name: ""}, {name: "0" * 64}, {name: page.token}, {"X-Dsk-Token": key},
            {name: key, "Host": "evil.example"}, {name: key, "Sec-Fetch-Site": "cross-site"},
            {"Cookie": page.cookie, "X-Dsk-Token": page.token},
        )  # fmt: skip
        for headers in refused:
            assert page.ask("POST", "/api/entry", None, headers).status in (400, 403), headers
        assert page.ask("GET", "/api/entry", None, {name: key}).status == 401
        assert "token" in page.ask("POST", "/api/entry", None, {name: key}).json
        assert key not in (page.cookie, page.token)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"port": "x"}', '{"port": 1, "host": 3}', "\0"])
def test_a_damaged_file_is_no_server(folder, text):
    with studio(folder):
        file = studio_file()
    file.write_text(text)
    assert open_studios.stored(folder) is None
    assert not second(folder, keep_token=True).runs_already


def test_a_kept_token_lets_an_open_page_go_on(folder):
    with studio(folder, keep_token=True) as page:
        cookie, token, port = page.cookie, page.token, page.server.port
    with studio(folder, keep_token=True) as again:
        assert (again.server.port, again.cookie, again.token) == (port, cookie, token)
    with studio(folder) as other:
        assert other.token != token
    assert open_studios.stored(folder) is None


def test_a_large_log_goes_on_in_a_second_file(folder, monkeypatch):
    monkeypatch.setattr(job_runner, "start", lambda: False)
    monkeypatch.setattr(job_runner, "_LARGEST_LOG", 100)
    job = api.add_job(["rules", "."], folder, held=True)
    place = jobs.folder_of(job)
    log = place.path_of(jobs.LOG)
    with log.open("ab") as written:
        written.write(b"x" * 99)
        written.flush()
        job_runner._cap_log(place)
        assert log.stat().st_size == 99
        written.write(b"yy")
        written.flush()
        job_runner._cap_log(place)
        written.write(b"z")
        written.flush()
    assert log.read_bytes() == b"z" and log.with_name("log.1").read_bytes() == b"x" * 99 + b"yy"
