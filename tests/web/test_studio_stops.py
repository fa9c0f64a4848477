"""A training is stopped on the page and continued in a terminal, and the other way round: the LoRA
file has the same bytes as that of a run which nobody stopped.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from datasetkit.project import job_runner, jobs
from tests.trainer import tiny
from tests.web.client import Browser, studio
from tests.web.warm_python import WarmPython, warm_python

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and sessions of POSIX")
STOPS, STEPS = (7, 13, 19), 24
# A training that waits within step $STOP until it is asked to stop. The LoRA check and the plot
# take longer than all steps, and are left out.
TRAINING = """
import os, sys, time
from trainer import loop, run
from trainer.monitor import loss_plot
run.check_files = lambda *_: ()
loss_plot.plot = lambda *_, **__: None
asked = []
real, at = loop._step, int(os.environ["STOP"])
def step(*arguments):
    log = real(*arguments)
    if log.step == at:
        end = time.monotonic() + 60
        open(os.environ["REACHED"], "x").close()
        while not any(request.is_asked() for request in asked) and time.monotonic() < end:
            time.sleep(0.01)
    return log
loop._step = step
from datasetkit.core import stopping
begin = stopping.StopRequests.__init__
def remember(self, *arguments, **options):
    begin(self, *arguments, **options)
    asked.append(self)
stopping.StopRequests.__init__ = remember
"""
IN_TERMINAL = (
    TRAINING
    + """
from datasetkit.cli import main
sys.exit(main.run(sys.argv[1:]))
"""
)
IN_QUEUE = (
    TRAINING
    + """
from datasetkit.cli import job
sys.exit(job.run(sys.argv[1]))
"""
)
RUNNER = """
import json, sys
from datasetkit.project import job_runner
job_runner._JOB = json.loads(sys.argv[1])
job_runner._SECONDS_BETWEEN = 0.05
job_runner.run()
"""


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def warm(module_path: Path) -> Iterator[WarmPython]:
    with warm_python(module_path, trainer=True) as started:
        yield started


@pytest.fixture(scope="module")
def base(module_path: Path) -> Path:
    return tiny.save_small(module_path / "base")


class Project:
    """A project whose training is started, stopped and continued from both sides."""

    def __init__(self, folder: Path, warm: WarmPython, page: Browser) -> None:
        self.folder, self.warm, self.page = folder, warm, page
        self.reached = folder / "reached"

    def wait_for(self, step: int, start: Callable[[], Any]) -> Any:
        """Start something, and wait until it is within a step."""
        self.reached.unlink(missing_ok=True)
        os.environ["STOP"] = str(step)
        started = start()
        if step:
            until(self.reached.exists)
        return started

    def job(self) -> dict[str, Any]:
        return next(job for job in self.page.get("jobs")["jobs"] if job["verb"] == "train")

    def on_page(self, stop: int, resume: bool) -> None:
        """Train to a step, or to the end for 0, as a person does on the page."""
        before = self.job()["id"] if resume else ""

        def start() -> None:
            if resume:
                self.page.post(f"jobs/{before}/resume")
            else:
                self.page.post("jobs", verb="train", arguments=["."], options={}, when="now")

        self.wait_for(stop, start)
        job = until(lambda: (job := self.job())["id"] != before and job)
        if stop:
            assert job["state"] == "running"
            until(lambda: self.job()["run"])
            self.page.post(f"jobs/{job['id']}/stop", how="save")
        until(lambda: self.job()["state"] not in ("queued", "running", "stopping"))
        expected = ("stopped", 130) if stop else ("done", 0)
        log = self.page.get(f"jobs/{job['id']}")["log"]
        assert (self.job()["state"], self.job()["code"]) == expected, log

    def in_terminal(self, stop: int, resume: bool) -> None:
        """The same with the command, stopped with Ctrl-C."""
        words = ["train", ".", *(["--resume"] if resume else [])]
        process = self.wait_for(stop, lambda: subprocess.Popen(
            self.warm.command(IN_TERMINAL, *words), cwd=self.folder, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
        if stop:
            job = self.job()
            assert job["state"] == "running" and job["run"] is not None
            pid = json.loads(jobs.folder_of(jobs.find(job["id"])).path_of("pid.json").read_text())
            os.kill(pid["pid"], signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == (130 if stop else 0), output
        assert self.job()["state"] == ("stopped" if stop else "done")

    @property
    def run(self) -> dict[str, Any]:
        (run,) = self.page.get("runs")["runs"]
        return dict(run)

    def states(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "out").glob("k-state-*"))


@pytest.fixture
def project(tmp_path: Path, base: Path, warm: WarmPython, monkeypatch) -> Iterator[Project]:
    folder = tmp_path / "project"
    tiny.save_images(folder / "train" / "2_sks", [(64, 64)] * 4)
    (folder / "dsk.toml").write_text(
        f"[train]\npretrained_model_name_or_path = '{base}'\nresolution = 64\n"
        "max_bucket_reso = 128\nmax_train_epochs = 3\nsave_every_n_epochs = 0\nnetwork_dim = 1\n"
        "network_dropout = 0.2\nflip_aug = true\nshuffle_caption = true\n"
        "mixed_precision = 'no'\noutput_dir = 'out'\noutput_name = 'k'\n"
    )
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")  # the header of the LoRA has times
    monkeypatch.setenv("REACHED", str(folder / "reached"))
    monkeypatch.setenv("STOP", "0")
    runner = warm.command(RUNNER, json.dumps(warm.command(IN_QUEUE)))
    monkeypatch.setattr(job_runner, "_RUNNER", runner)
    with studio(folder) as page:
        yield Project(folder, warm, page)


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, bytes]:
    return {}


@pytest.mark.parametrize(
    "begins",
    [
        pytest.param("page", marks=pytest.mark.long),
        pytest.param("terminal", marks=pytest.mark.slow),
    ],
)
def test_what_stops_on_one_side_continues_on_the_other(project, uninterrupted, begins):
    """Stopped at three steps, each time continued on the other side; no step is done twice."""
    sides = [project.on_page, project.in_terminal]
    if begins == "terminal":
        sides.reverse()
    for number, stop in enumerate((*STOPS, 0)):
        sides[number % 2](stop, resume=number > 0)
        if stop:
            run = project.run
            assert (run["state"], run["step"], run["steps"]) == ("stopped", stop, STEPS)
            assert project.states() == [f"k-state-pause-{stop:08d}"]
    assert project.run["state"] == "finished" and project.states() == []
    metrics = (project.folder / "out" / "k-metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in metrics] == list(range(1, STEPS + 1))
    lora = project.folder / "out" / "k.safetensors"
    resumed = lora.read_bytes()
    if not uninterrupted:
        project.in_terminal(0, resume=False)
        uninterrupted["lora"] = lora.read_bytes()
    assert resumed == uninterrupted["lora"]
