"""Kills: whatever dies, the state that is shown is right, and nothing is stuck."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.project import job_runner, jobs
from tests.web.client import Browser, captions, studio

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and sessions of POSIX")
SERVER = """
import sys
from pathlib import Path
from datasetkit import api
folder = Path(sys.argv[1])
options = api.ReviewOptions(open=False, keep_token=True)
api.studio(folder, options, ready=lambda server: print(server.url, flush=True))
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def until(condition: Callable[[], object], seconds: float = 40) -> object:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return value


def state_of(page: Browser, job_id: str) -> str:
    return str(page.get(f"jobs/{job_id}")["job"]["state"])


def pid_of(job_id: str) -> int:
    path = jobs.folder_of(jobs.find(job_id)).path_of("pid.json")
    until(path.exists)
    return int(json.loads(path.read_text())["pid"])


def command_lines(part: str) -> list[int]:
    """Return the processes of this test's runner."""
    pids = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = entry.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode()
                environment = entry.joinpath("environ").read_bytes().decode()
            except OSError:
                continue
            if part in line and os.environ["XDG_STATE_HOME"] in environment:
                pids.append(int(entry.name))
    return pids


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the runner in /proc")
@pytest.mark.parametrize("dies", ["job", "runner", "server"])
@pytest.mark.parametrize("verb", ["tag", "check", "layout", "rules"])
def test_after_a_kill_the_state_is_right_and_captions_are_whole(folder, dies, verb):
    """Each verb of data is killed once with each of the processes; then the same runs through."""
    options = {"tag": {"tagger": "basic"}, "rules": {"exclude": ["hat"]}}.get(verb, {})
    arguments = ["5_sks=."] if verb == "layout" else ["."]
    before = captions(folder)
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        with studio(folder, new=True) as page:
            assert server.stdout is not None and server.stdout.readline().startswith("http://")
            job = page.post(
                "jobs", verb=verb, arguments=arguments, options=options, when="now"
            )["job"]["id"]  # fmt: skip
            if dies == "server":
                server.send_signal(signal.SIGKILL)
            elif dies == "runner":
                until(lambda: command_lines("jobs runner"))
                for pid in command_lines("jobs runner"):
                    os.kill(pid, signal.SIGKILL)
            else:
                os.kill(pid_of(job), signal.SIGKILL)
            ends = ("done", "failed", "stopped", "lost")
            if dies == "runner" and state_of(page, job) == "queued":
                job_runner.start()  # any start of a job or studio does so
            until(lambda: state_of(page, job) in ends)
            state = state_of(page, job)
            assert state == "done" if dies == "server" else state in ends
            # Nothing is stuck: the same command runs through.
            again = page.post(
                "jobs", verb=verb, arguments=arguments, options=options, when="now"
            )["job"]["id"]  # fmt: skip
            until(lambda: state_of(page, again) in ends)
            assert state_of(page, again) in ("done", "failed"), page.get(f"jobs/{again}")["log"]
        after = captions(folder)
        own = {name: text for name, text in after.items() if name in before}
        if verb in ("check", "layout"):
            assert own == before
        assert all(text.decode().endswith("\n") for text in own.values())
    finally:
        server.kill()
        server.wait()
        if server.stdout is not None:
            server.stdout.close()
        for pid in command_lines("jobs runner"):
            os.kill(pid, signal.SIGKILL)


IGNORING = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
"""
WAITING = """
import signal, sys, time
from datasetkit.project import jobs
from datasetkit.core.stopping import StopRequests, end_by_signals
end_by_signals()
with jobs.registered("train", "x, 8 steps") as job:
    stop = StopRequests(job.stop_request)
    with stop.listening(), stop.saving():
        while not stop.is_asked():
            time.sleep(0.02)
"""


@pytest.mark.parametrize("ignored", [False, True], ids=["plain", "SIGINT ignored, as with &"])
@pytest.mark.parametrize("has_pid", [True, False])
def test_stop_works_without_signals_and_without_a_pid(folder, ignored, has_pid):
    with studio(folder) as page:
        process = subprocess.Popen([sys.executable, "-c", IGNORING * ignored + WAITING], cwd=folder)
        try:
            job = until(lambda: page.get("jobs")["jobs"])
            assert isinstance(job, list)
            job_id = job[0]["id"]
            path = jobs.folder_of(jobs.find(job_id)).path_of("pid.json")
            until(path.exists)
            if not has_pid:
                path.unlink()
            assert state_of(page, job_id) == "running"
            page.post(f"jobs/{job_id}/stop", how="save")
            assert process.wait(20) == 0
            assert state_of(page, job_id) == "done"
        finally:
            process.kill()
            process.wait()


def test_a_stored_status_is_believed_nowhere(folder):
    """A planted file that says the job runs changes nothing: the lock is free."""
    with studio(folder) as page:
        job = api.add_job(["rules", "."], folder, held=True)
        place = jobs.folder_of(job)
        for name in ("status", "state.json", "alive"):
            place.path_of(name).write_text('{"state": "running"}')
        place.path_of("pid.json").write_text(json.dumps({"pid": os.getpid()}))
        assert state_of(page, job.id) == "lost"
