"""The queue of jobs: their order, lanes, deaths of the runner and of jobs, and nothing stored."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.core.errors import InputError
from datasetkit.project import job_queue, job_runner, jobs
from datasetkit.project.job_progress import FILE, JobReporter, read
from datasetkit.verbs.shared.job import execute, registered_job
from tests.safety.datasets import write_image

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and sessions of POSIX")
# A job of the queue, in place of `python -m datasetkit.cli.job`: its arguments say what it does.
JOB = """
import os, sys, time
from datasetkit.core.stopping import StopRequests, end_by_signals
from datasetkit.project import jobs
end_by_signals()
with jobs.executing(sys.argv[-1]) as job:
    how = jobs.find(sys.argv[-1]).argv
    with open(os.environ["ORDER"], "a") as file:
        file.write(how[1] + "\\n")
    print("working on", how[1], flush=True)
    if "wait" in how:
        stop = StopRequests(job.stop_request)
        with stop.listening(), stop.saving():
            while not stop.is_asked() and not os.path.exists(os.environ["ORDER"] + ".go"):
                time.sleep(0.02)
    if "die" in how:
        os.kill(os.getpid(), 9)
    job.end(5 if "fail" in how else 0)
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Use a state folder and jobs of our own; no runner is started in the background."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("ORDER", str(tmp_path / "order"))
    monkeypatch.setattr(job_runner, "_JOB", (sys.executable, "-c", JOB))
    monkeypatch.setattr(job_runner, "start", lambda: False)
    monkeypatch.setattr(job_runner, "_SECONDS_BETWEEN", 0.1)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state" / "datasetkit"


def order(tmp_path):
    file = tmp_path / "order"
    return file.read_text().split() if file.exists() else []


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def states():
    return {job.argv[1]: job.state for job in api.jobs() if len(job.argv) > 1}


RUNNER = """
import sys
from datasetkit.project import job_runner
job_runner._JOB = (sys.executable, "-c", sys.argv[1])
job_runner._SECONDS_BETWEEN = 0.1
job_runner.run()
"""


@pytest.fixture
def runner(tmp_path):
    """Start runners as processes, and end what is left of them and of their jobs."""
    started = []

    def run():
        started.append(subprocess.Popen([sys.executable, "-c", RUNNER, JOB]))
        return started[-1]

    yield run
    (tmp_path / "order.go").touch()
    for process in started:
        process.kill()
        process.wait()


def test_jobs_run_in_order_and_one_that_fails_stops_no_other(tmp_path):
    for name, *how in (("a",), ("b", "fail"), ("c", "die"), ("d",)):
        api.add_job(["train", name, *how])
    assert [job.place for job in api.jobs()] == [1, 2, 3, 4]
    assert api.run_jobs() == 4
    assert order(tmp_path) == ["a", "b", "c", "d"]
    assert states() == {"a": "done", "b": "failed", "c": "failed", "d": "done"}
    ends = {job.argv[1]: (job.code, job.reason) for job in api.jobs()}
    assert ends["b"] == (5, "") and ends["c"] == (137, "ended by signal 9")
    assert "working on a" in api.job_log(next(j.id for j in api.jobs() if j.argv[1] == "a")).text


def test_order_holding_and_removal(tmp_path):
    ids = {name: api.add_job(["train", name]).id for name in "abcd"}
    assert api.move_job(ids["d"], 1).place == 1
    assert api.move_job(ids["a"], 99).place == 4
    assert api.hold_job(ids["b"]).held
    api.remove_job(ids["c"])
    assert [(job.argv[1], job.place, job.held) for job in api.jobs()] == [
        ("d", 1, False), ("b", 2, True), ("a", 3, False),
    ]  # fmt: skip
    assert api.run_jobs() == 2
    assert order(tmp_path) == ["d", "a"] and states()["b"] == "queued"
    assert not api.hold_job(ids["b"], held=False).held
    assert api.run_jobs() == 1 and order(tmp_path) == ["d", "a", "b"]
    assert list((tmp_path / "state/datasetkit/queue").iterdir()) == []


def test_lanes_one_training_at_a_time_and_others_beside_it(tmp_path, runner):
    other = tmp_path / "another project"
    other.mkdir()
    for words in (["train", "first", "wait"], ["train", "second"], ["tag", "light", "wait"],
                  ["check", "later"]):  # fmt: skip
        api.add_job(words)
    api.add_job(["resize", "free"], other)
    runner()
    until(lambda: sorted(order(tmp_path)) == ["first", "free", "light"])
    time.sleep(0.4)  # more looks of the runner
    assert sorted(order(tmp_path)) == ["first", "free", "light"]
    assert states() == {
        "first": "running", "light": "running", "free": "done",
        "second": "queued", "later": "queued",
    }  # fmt: skip
    (tmp_path / "order.go").touch()
    until(lambda: set(states().values()) == {"done"})


def test_commands_of_one_project_take_turns_and_a_training_waits_for_its_dataset(tmp_path, runner):
    """Started at once, the second would end at the lock of the project."""
    for words in (["rename", "1", "wait"], ["resize", "2"], ["layout", "3", "fail"], ["reg", "4"],
                  ["train", "5"]):  # fmt: skip
        api.add_job(words)
    runner()
    until(lambda: order(tmp_path) == ["1"])
    time.sleep(0.4)  # more looks of the runner
    assert order(tmp_path) == ["1"]
    (tmp_path / "order.go").touch()
    until(lambda: order(tmp_path) == ["1", "2", "3", "4", "5"])


def chain(*commands):
    """Add commands of which each comes after all before it."""
    ids: list[str] = []
    for words in commands:
        ids.append(api.add_job(words, after=tuple(ids)).id)
    return ids


def test_a_job_starts_after_those_that_it_comes_after_and_no_other_takes_its_lane(tmp_path, runner):
    other = tmp_path / "another project"
    other.mkdir()
    chain(["layout", "1", "wait"], ["reg", "2"], ["train", "3"])
    api.add_job(["train", "long"], other)
    api.add_job(["resize", "free"], other)
    runner()
    until(lambda: sorted(order(tmp_path)) == ["1", "free"])
    time.sleep(0.4)  # more looks of the runner
    assert sorted(order(tmp_path)) == ["1", "free"]
    (tmp_path / "order.go").touch()
    until(lambda: [name for name in order(tmp_path) if name != "free"] == ["1", "2", "3", "long"])


@pytest.mark.parametrize(
    ("how", "reason"),
    [("fail", "dsk layout 1 fail failed"), ("die", "dsk layout 1 die failed: ended by signal 9")],
)
def test_a_job_does_not_start_after_one_that_failed(tmp_path, how, reason):
    chain(["layout", "1", how], ["reg", "2"], ["train", "3"])
    api.add_job(["train", "4"])
    assert api.run_jobs() == 2
    assert order(tmp_path) == ["1", "4"]
    assert states() == {"1": "failed", "2": "failed", "3": "failed", "4": "done"}
    reasons = {job.argv[1]: job.reason for job in api.jobs()}
    assert reasons["2"] == reasons["3"] == f"not started: {reason}"
    assert list((tmp_path / "state/datasetkit/queue").iterdir()) == []


def test_a_job_does_not_start_after_one_that_was_removed_or_that_is_lost(tmp_path, runner, state):
    first, second = chain(["layout", "1"], ["train", "2"])
    api.remove_job(first)
    assert api.run_jobs() == 0
    (job,) = api.jobs()
    assert (job.id, job.state) == (second, "failed") and "taken out of the queue" in job.reason
    first, second = chain(["layout", "3", "wait"], ["train", "4"])
    process = runner()
    until(lambda: order(tmp_path) == ["3"])
    process.kill()
    process.wait()
    os.kill(json.loads((state / "jobs" / first / "pid.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: states()["3"] == "lost")
    assert api.run_jobs() == 0
    assert states()["4"] == "failed"


def test_a_job_waits_for_one_that_is_held_without_a_runner(tmp_path):
    first, _ = chain(["layout", "1"], ["train", "2"])
    api.hold_job(first)
    assert api.run_jobs() == 0
    api.hold_job(first, held=False)
    assert api.run_jobs() == 2 and order(tmp_path) == ["1", "2"]


@pytest.mark.long
@pytest.mark.parametrize(("moved", "place"), [("1", 3), ("1", 4), ("2", 1), ("3", 1)])
def test_no_order_of_the_queue_keeps_jobs_waiting_for_each_other(tmp_path, moved, place):
    ids = dict(zip("123", chain(["layout", "1"], ["reg", "2"], ["train", "3"]), strict=True))
    api.add_job(["run", "4"])  # it takes the lane of the training, and changes the folder
    api.move_job(ids[moved], place)
    assert api.run_jobs() == 4
    assert [name for name in order(tmp_path) if name != "4"] == ["1", "2", "3"]


def test_what_is_waited_for_is_not_forgotten_until_that_is_removed(tmp_path):
    first, second = chain(["layout", "1"], ["train", "2"])
    api.hold_job(second)
    assert api.run_jobs() == 1
    with pytest.raises(InputError, match=f"the job {second} waits for {first}"):
        jobs.forget(jobs.find(first))
    api.remove_job(second)
    jobs.forget(jobs.find(first))
    assert api.jobs() == ()


def test_a_training_of_a_terminal_takes_the_lane(tmp_path, runner):
    with jobs.registered("train", "in a terminal"):
        api.add_job(["train", "next"])
        runner()
        time.sleep(0.4)
        assert order(tmp_path) == []
    until(lambda: order(tmp_path) == ["next"])


def test_a_killed_runner_leaves_its_job_alive_and_the_next_goes_on(tmp_path, runner):
    api.add_job(["train", "a", "wait"])
    api.add_job(["train", "b"])
    first = runner()
    until(lambda: order(tmp_path) == ["a"])
    first.kill()
    first.wait()
    assert states() == {"a": "running", "b": "queued"}
    second = runner()
    time.sleep(0.4)
    assert order(tmp_path) == ["a"]  # it waits for the lane of the job that it did not start
    (tmp_path / "order.go").touch()
    assert second.wait(20) == 0
    assert order(tmp_path) == ["a", "b"] and states() == {"a": "done", "b": "done"}


def test_a_job_killed_without_its_runner_is_lost(tmp_path, runner, state):
    api.add_job(["train", "a", "wait"])
    process = runner()
    until(lambda: order(tmp_path) == ["a"])
    process.kill()
    process.wait()
    (folder,) = (state / "jobs").iterdir()
    os.kill(json.loads((folder / "pid.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: states() == {"a": "lost"})


def test_a_second_runner_ends_at_once(tmp_path, runner):
    api.add_job(["train", "a", "wait"])
    runner()
    until(lambda: order(tmp_path) == ["a"])
    api.add_job(["train", "b"])
    assert runner().wait(20) == 0
    assert order(tmp_path) == ["a"] and states()["b"] == "queued"
    (tmp_path / "order.go").touch()
    until(lambda: states() == {"a": "done", "b": "done"})


def test_a_job_that_is_started_twice_runs_once(tmp_path, runner, state):
    """A runner was killed before the job had registered, and the next one starts it again."""
    api.add_job(["train", "a", "wait"])
    runner()
    until(lambda: order(tmp_path) == ["a"])
    (folder,) = (state / "jobs").iterdir()
    again = [sys.executable, "-c", JOB, folder.name]
    second = subprocess.run(again, capture_output=True, text=True, check=False)
    assert second.returncode != 0 and "was started already" in second.stderr
    assert states() == {"a": "running"}
    (tmp_path / "order.go").touch()
    until(lambda: states() == {"a": "done"})
    assert order(tmp_path) == ["a"]


def test_a_job_whose_process_died_before_it_registered_is_started_again(tmp_path, state):
    """As in a power cut: its file for the lock is there, and nothing else."""
    job = api.add_job(["train", "a"])
    (state / "jobs" / job.id / "alive").touch()
    assert states() == {"a": "queued"}
    assert api.run_jobs() == 1
    assert states() == {"a": "done"} and order(tmp_path) == ["a"]


def test_what_waits_after_a_killed_runner_is_started_when_a_job_ends(monkeypatch):
    waiting = api.add_job(["train", "a"])
    started = []
    monkeypatch.setattr(job_runner, "start", lambda: started.append("runner"))
    with registered_job("train", "in a terminal"):
        assert started == []
    assert started == ["runner"]
    other = api.add_job(["train", "b"])
    job_queue.move(other.id, 1)
    started.clear()
    execute(other.id, lambda words: 0)
    assert started == ["runner"]
    api.hold_job(waiting.id)
    with registered_job("train", "in a terminal"):
        pass
    assert started == ["runner"], "nothing may start that is held"


def test_a_stop_reaches_a_job_of_the_queue(tmp_path, runner):
    job = api.add_job(["train", "a", "wait"])
    runner()
    until(lambda: order(tmp_path) == ["a"])
    api.stop_job(job.id)
    until(lambda: states() == {"a": "done"})


def test_a_job_whose_folder_is_gone_fails_with_the_reason(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    api.add_job(["train", "a"], gone)
    api.add_job(["train", "b"])
    gone.rmdir()
    assert api.run_jobs() == 1
    failed = next(job for job in api.jobs() if job.argv[1] == "a")
    assert failed.state == "failed" and "could not be started" in failed.reason


def test_foreign_files_in_the_queue_are_left_alone(tmp_path, state):
    api.add_job(["train", "a"])
    queue = state / "queue"
    (queue / "000001-20260101T000000-0000000001").write_text("of no job")
    (queue / "notes.txt").write_text("mine")
    (queue / "000002-../../x").parent.mkdir(parents=True, exist_ok=True)
    assert [job.argv[1] for job in job_queue.queue()] == ["a"]
    assert api.run_jobs() == 1 and (queue / "notes.txt").exists()


@pytest.mark.parametrize(
    "words", [[], ["review", "x"], ["jobs", "runner"], ["undo"], ["--help"], ["-h"]]
)
def test_what_asks_or_shows_a_page_cannot_wait(words):
    with pytest.raises(InputError, match="cannot wait in the queue"):
        api.add_job(words)


def test_the_queue_has_a_limit(monkeypatch):
    monkeypatch.setattr(job_queue, "LIMIT", 2)
    for name in "ab":
        api.add_job(["train", name])
    with pytest.raises(InputError, match="which is the limit"):
        api.add_job(["train", "c"])
    assert len(api.jobs()) == 2


def test_a_stopped_training_is_resumed_in_the_queue(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["dsk", "train", "set", "--set", "network_dim=4"])
    with pytest.raises(KeyboardInterrupt), jobs.registered("train", "sks, 10 steps"):
        raise KeyboardInterrupt
    (stopped,) = api.jobs()
    assert stopped.state == "stopped"
    added = api.resume_job(stopped.id)
    assert added.argv == ("train", "set", "--set", "network_dim=4", "--resume")
    assert added.folder == str(tmp_path) and added.place == 1
    api.remove_job(added.id)
    monkeypatch.setattr(sys, "argv", ["dsk", "tag", "set"])
    with jobs.registered("tag", ""):
        pass
    with pytest.raises(InputError, match="not a training"):
        api.resume_job(next(job.id for job in api.jobs() if job.argv[0] == "tag"))


def test_a_command_line_that_is_wrong_is_not_added(dsk, state):
    for words in (["trian", "x"], ["tag", "x", "--treshold", "1"], ["jobs", "add"]):
        assert dsk("jobs", "add", *words).code == 2
    assert api.jobs() == ()


@pytest.mark.long
def test_the_real_process_of_a_job(tmp_path, dsk, monkeypatch, state):
    """As a user: add a command, run the queue, read log and state."""
    monkeypatch.setattr(job_runner, "_JOB", (sys.executable, "-m", "datasetkit.cli.job"))
    for n in range(3):
        write_image(tmp_path / "imgs" / f"{n}.png", n)
    added = dsk("jobs", "add", "--json", "resize", "imgs", "--max", "32")
    assert added.code == 0, added.err
    failing = dsk("jobs", "add", "--hold", "tag", "missing")
    assert failing.code == 0 and "is held at place 2" in failing.out
    assert dsk("jobs", "runner").code == 0
    job_id = json.loads(added.out)["result"]["id"]
    (done,) = [job for job in api.jobs() if job.id == job_id]
    assert (done.state, done.code, done.lane) == ("done", 0, "io")
    assert done.progress and done.progress.done == done.progress.of == 3
    held = next(job for job in api.jobs() if job.held)
    assert dsk("jobs", "hold", held.id, "--release").code == 0
    assert dsk("jobs", "runner").code == 0
    (failed,) = [job for job in api.jobs() if job.id == held.id]
    assert (failed.state, failed.code) == ("failed", 10)
    log = dsk("jobs", "log", failed.id).out.splitlines()
    assert log[0].startswith("error: missing") and log[1].startswith("hint: ")
    listed = dsk("jobs", "list").out
    assert "dsk tag missing" in listed and "failed" in listed
    assert dsk("jobs", "log", "nothing").code == 2


class Recorder:
    warnings = ("a warning",)

    def __init__(self):
        self.calls = []

    def __getattr__(self, name):
        return lambda *values: self.calls.append((name, *values))


def last(job):
    progress = read(job.path_of(FILE).parent)
    assert progress is not None
    return progress


def test_progress_is_written_beside_what_is_shown(state):
    shown = Recorder()
    with jobs.registered("tag", "") as job:
        reporter = JobReporter(shown, job)
        assert reporter.warnings == ("a warning",)
        reporter.phase("loading")
        reporter.start("tagging", 100)
        for _ in range(100):
            reporter.advance()
        reporter.note("fast")
        progress = last(job)
        reporter.finish()
    assert progress.phase == "tagging" and (progress.done, progress.of) == (100, 100)
    assert len(job.path_of(FILE).read_text().splitlines()) <= 4  # not a line for each item
    assert [call[0] for call in shown.calls[:3]] == ["phase", "start", "advance"]
    (listed,) = api.jobs()
    assert listed.progress == progress


@pytest.mark.parametrize("content", ["", "{", "[]\n", '{"done": "x"}\n', "\x00" * 5000])
def test_damaged_progress_is_no_progress(state, content):
    with jobs.registered("tag", "") as job:
        job.path_of(FILE).write_text(content)
        assert read(job.path_of(FILE).parent) is None
        assert dict(states()) == {} and api.jobs()[0].progress is None


def test_a_full_disk_costs_the_progress_alone(state, monkeypatch):
    with jobs.registered("tag", "") as job:
        reporter = JobReporter(Recorder(), job)

        def full(*args, **options):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "open", full)
        reporter.start("tagging", 2)
        reporter.advance(2)
