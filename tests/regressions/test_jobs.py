"""`dsk jobs`: a lock shows which runs are alive, and nothing in the state folder crashes it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from datasetkit import api
from datasetkit.core.errors import ConfigError, InputError
from datasetkit.core.stopping import RunPause, StopRequests
from datasetkit.project import jobs

CHILD = """
import sys, time
from datasetkit.core.stopping import RunPause, StopRequests
from datasetkit.project import jobs
with jobs.registered("train", "sks, 10 steps") as job:
    stop = StopRequests(job.stop_request)
    with stop.listening(), stop.saving():
        print("ready", flush=True)
        while not stop.is_asked():
            time.sleep(0.01)
        raise SystemExit(7) if "fail" in sys.argv else RunPause("stopped after step 2 of 10")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "datasetkit" / "jobs"


@pytest.fixture
def child():
    """A job of another process."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def states():
    return [job.state for job in api.jobs()]


def make(folder, *, age=timedelta(days=1), number=0, **files):
    """Write the folder of a job that no process runs."""
    started = datetime.now(UTC) - age
    path = folder / f"{started.strftime('%Y%m%dT%H%M%S')}-{number:010x}"
    path.mkdir(parents=True)
    for name, content in {"alive": " ", **files}.items():
        (path / name.replace("_", ".")).write_text(content)
    return path


def test_a_job_of_another_process_is_stopped_without_a_signal(child, folder, dsk):
    ended = dsk("jobs", "list", "--json")
    (row,) = json.loads(ended.out)["result"]
    assert (row["state"], row["title"]) == ("running", "sks, 10 steps")
    assert dsk("jobs", "stop").code == 0
    assert child.wait(20) != 0
    (job,) = api.jobs()
    assert (job.state, job.code) == ("stopped", 130)
    assert dsk("jobs", "stop", job.id).code == 2  # it has ended


def test_a_killed_job_is_lost_and_its_lock_free(child):
    assert states() == ["running"]
    child.kill()
    child.wait()
    assert states() == ["lost"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_folders_and_files_are_the_users_alone(folder):
    with jobs.registered("train", "x"):
        job = next(folder.iterdir())
        modes = {p.name: p.stat().st_mode & 0o777 for p in (folder, job, *job.iterdir())}
    assert modes.pop(folder.name) == modes.pop(job.name) == 0o700
    assert set(modes.values()) == {0o600} and modes.keys() == {"spec.json", "pid.json", "alive"}


def test_listing_does_not_free_the_lock_of_the_own_process(folder):
    with jobs.registered("train", "x"):
        assert states() == states() == ["running"]
        look = "from datasetkit import api; print([job.state for job in api.jobs()])"
        other = subprocess.run(
            [sys.executable, "-c", look], capture_output=True, text=True, check=True
        )
        assert other.stdout.strip() == "['running']"
        api.stop_job()
        assert states() == ["stopping"]
    assert states() == ["done"]


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (RunPause("stopped", 15), "stopped", 143),
        (KeyboardInterrupt(), "stopped", 130),
        (InputError("no"), "failed", 2),
        (ZeroDivisionError(), "failed", 1),
    ],
)
def test_how_a_job_ended_is_recorded(error, state, code):
    with pytest.raises(type(error)), jobs.registered("train", "x"):
        raise error
    (job,) = api.jobs()
    assert (job.state, job.code) == (state, code)


def test_a_stop_needs_an_id_where_two_run(child, folder, dsk):
    with jobs.registered("train", "x"):
        ended = dsk("jobs", "stop")
        assert ended.code == 2 and "2 jobs are running" in ended.err
        ids = [job.id for job in api.jobs()]
        assert all(job_id in ended.err for job_id in ids)
        own = next(job_id for job_id in ids if job_id in jobs._own)
        other = next(job_id for job_id in ids if job_id != own)
        assert dsk("jobs", "stop", other, "--now").code == 0
        assert dsk("jobs", "stop", "2").code == 2  # the beginning of both
        assert child.wait(20) != 0
        assert dsk("jobs", "stop", "nothing").code == 2


def test_without_a_running_job_stop_says_so(dsk):
    ended = dsk("jobs", "stop")
    assert ended.code == 2 and "no job is running" in ended.err
    assert dsk("jobs", "list").code == 0


@pytest.mark.parametrize(
    "content",
    ["", "[]", "null", "{", '{"verb": 3, "argv": [1, {}], "code": "x"}', "[" * 100_000, "\x00"],
)
def test_damaged_files_of_a_job_are_shown_and_crash_nothing(folder, content, dsk):
    make(folder, spec_json=content, end_json=content, pid_json=content, stop=content)
    assert states() == ["lost"]
    assert dsk("jobs", "list").code == 0 and dsk("jobs", "list", "--json").code == 0


def test_a_request_that_cannot_be_read_is_one_to_save(folder):
    with jobs.registered("train", "x") as job:
        (path,) = folder.iterdir()
        for content, how in (('{"how": "now"}', "now"), ("{}", "save"), ("\x00", "save")):
            (path / "stop").write_text(content)
            assert job.stop_request() == how
        (path / "stop").unlink()
        assert job.stop_request() is None


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
def test_special_files_links_and_strangers_are_left_alone(folder, tmp_path):
    job = make(folder)
    os.mkfifo(job / "spec.json")
    (job / "alive").unlink()
    os.mkfifo(job / "alive")
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "20260101T000000-0000000001").symlink_to(outside)
    (folder / "not a job").mkdir()
    (folder / "20269999T000000-0000000001").mkdir()
    (folder / "20260101T000000-0000000002").write_text("a file")
    assert states() == ["lost"]


def test_old_jobs_are_removed_but_none_that_runs_or_just_began(folder):
    for n in range(70):
        make(folder, age=timedelta(days=1, minutes=n), number=n)
    young = make(folder, age=timedelta(seconds=-5), number=99)
    with jobs.registered("train", "x"):
        assert young.is_dir()
        assert len(api.jobs()) == 51


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_folder_that_cannot_be_written_is_a_problem_and_no_error(folder):
    folder.parent.mkdir()
    folder.parent.chmod(0o500)
    with jobs.registered("train", "x") as job:
        assert job.problem and job.stop_request() is None


def test_a_file_in_the_place_of_the_folder_is_a_problem_and_no_error(folder):
    folder.parent.mkdir()
    folder.write_text("")
    with jobs.registered("train", "x") as job:
        assert job.problem and job.stop_request() is None
    assert api.jobs() == ()


def test_a_run_goes_on_when_the_folder_of_its_job_is_removed(folder):
    with jobs.registered("train", "x") as job:
        stop = StopRequests(job.stop_request)
        for path in next(folder.iterdir()).iterdir():
            path.unlink()
        next(folder.iterdir()).rmdir()
        assert not stop.is_asked()
    assert api.jobs() == ()


def test_what_a_job_is_asked_to_do_is_taken_once():
    with jobs.registered("train", "sks, 10 steps") as job:
        [running] = jobs.list_jobs()
        assert job.take_actions() == frozenset() and jobs.pending_actions(running) == ()
        jobs.request_action(running, "preview")
        jobs.request_action(running, "preview")
        assert jobs.pending_actions(running) == ("preview",) and states() == ["running"]
        assert job.take_actions() == {"preview"} and job.take_actions() == frozenset()
        assert jobs.pending_actions(running) == ()
    with jobs.unregistered() as nothing:
        assert nothing.take_actions() == frozenset()


def test_a_training_is_asked_from_the_command_line():
    with jobs.registered("train", "sks, 10 steps") as job:
        [running] = jobs.list_jobs()
        assert api.ask_job("save").job.id == running.id
        assert api.ask_job("preview", running.id[:-3]).action == "preview"
        assert job.take_actions() == {"save", "preview"}
        with pytest.raises(ConfigError, match="action"):
            api.ask_job("stop")
    with jobs.registered("tag", "faces") as job:
        with pytest.raises(InputError, match="dsk tag is not a training"):
            api.ask_job("save")
        assert job.take_actions() == frozenset()
    with pytest.raises(InputError):
        api.ask_job("save")
