"""Two runs on one GPU: the second says who uses it and ends with 11, waits, or starts beside it."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from datasetkit import api
from datasetkit.core.errors import Exit, Locked
from datasetkit.core.progress import SilentReporter
from datasetkit.project import gpu_locks, jobs
from datasetkit.project.session import RunContext
from datasetkit.verbs.shared import gpus
from tests.cli.commands import commands, options
from tests.cli.conftest import dsk, here  # noqa: F401 - fixtures
from tests.cli.test_train import given
from tests.grid.test_axes import LAYER
from tests.grid.test_grid import drawer  # noqa: F401 - a fixture
from tests.lora_files.files import pair, save
from tests.safety.harness import tree
from tests.trainer import tiny
from trainer import device

HOLDER = """
import sys, time
from datasetkit.project import gpu_locks, jobs
with jobs.registered("train", "sks, 10 steps") as job, gpu_locks.hold(sys.argv[1].split(",")):
    print("ready", flush=True)
    while job.stop_request() is None:
        time.sleep(0.01)
"""
TRY = "from datasetkit.project import gpu_locks\nwith gpu_locks.hold(['gpu-0']): print('free')"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "datasetkit"


@contextmanager
def holder(gpus="gpu-0"):
    """A training of another process that uses GPUs."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, gpus], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def is_free():
    """Tell whether another process could lock the GPU now."""
    ended = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True)
    return ended.stdout == "free\n"


class Recorder(SilentReporter):
    """Keeps what is shown, and stops the job that is waited for."""

    def __init__(self, stops=False):
        self.phases, self.warnings, self.stops = [], [], stops

    def phase(self, name):
        self.phases.append(name)
        if self.stops:
            api.stop_job()

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def ours(monkeypatch):
    """Let this process compute on the first GPU."""
    monkeypatch.setattr(device, "gpus", lambda: ("gpu-0",))


def test_a_gpu_in_use_names_its_user_since_when_and_the_next_step(state):
    with holder(), pytest.raises(Locked) as busy, gpu_locks.hold(["gpu-0"]):
        pass
    (job,) = api.jobs()
    since = time.strftime("%Y-%m-%d %H:", time.localtime())
    assert f"GPU 0 is in use by dsk train (sks, 10 steps) since {since}" in busy.value.message
    assert busy.value.exit_code == 11
    for step in ("--wait", "--now", f"dsk jobs stop {job.id}"):
        assert step in busy.value.hint


def test_its_lock_is_a_file_of_the_user_alone_and_is_free_after_a_kill(state):
    with holder() as process:
        lock = state / "devices" / "gpu-0.lock"
        assert lock.stat().st_mode & 0o077 == lock.parent.stat().st_mode & 0o077 == 0
        process.kill()
        process.wait()
        with gpu_locks.hold(["gpu-0"]):
            assert not is_free()
        assert is_free()


def test_another_gpu_is_free():
    with holder(), gpu_locks.hold(["gpu-1"]):
        pass
    with holder("gpu-0,gpu-1"), pytest.raises(Locked, match="GPU 1 "), gpu_locks.hold(["gpu-1"]):
        pass


def test_what_a_run_calls_does_not_wait_for_the_run():
    with gpu_locks.hold(["gpu-0"]):
        with gpu_locks.hold(["gpu-0"]):
            pass
        assert not is_free()


def test_wait_shows_who_is_waited_for_and_starts_when_it_ends():
    shown = Recorder(stops=True)
    with holder(), gpu_locks.hold(["gpu-0"], wait=True, reporter=shown):
        assert "waiting: GPU 0 is in use by dsk train (sks, 10 steps)" in shown.phases[0]


def test_now_starts_beside_the_other_and_holds_the_gpu_after_it(monkeypatch):
    monkeypatch.setattr(gpu_locks, "_SECONDS_BETWEEN", 0.02)
    shown = Recorder()
    with holder() as other, gpu_locks.hold(["gpu-0"], now=True, reporter=shown):
        assert "; this run starts beside it" in shown.warnings[0]
        api.stop_job()
        other.wait()
        time.sleep(0.2)
        assert not is_free()
    assert is_free()


def test_a_job_of_the_queue_waits_by_itself(tmp_path):
    path = jobs.add("train", "", ["train"], tmp_path)
    with holder(), jobs.executing(path.name):
        running = next(job.id for job in api.jobs() if job.gpus)
        shown = Recorder()
        shown.phase = lambda name: (shown.phases.append(name), api.stop_job(running))  # type: ignore
        with gpu_locks.hold(["gpu-0"], reporter=shown):
            assert shown.phases


def test_a_state_folder_that_cannot_be_used_locks_nothing(tmp_path, monkeypatch):
    (tmp_path / "state").write_text("a file")
    with gpu_locks.hold(["gpu-0"]):
        pass


@pytest.mark.parametrize(
    ("kind", "index", "local", "visible", "count", "names"),
    [
        ("cpu", None, True, "", 1, ()),
        ("cuda", 0, True, "", 1, ("gpu-0",)),
        ("cuda", 0, True, "2", 1, ("gpu-2",)),
        ("cuda", 1, True, "3,5", 1, ("gpu-5",)),
        ("cuda", 0, True, "4,6", 2, ("gpu-4", "gpu-6")),
        ("cuda", 1, False, "", 2, ()),  # the first process holds those of all
        ("mps", None, True, "", 1, ("gpu-0",)),
    ],
)
def test_the_gpus_of_a_run_have_the_numbers_of_the_machine(
    kind, index, local, visible, count, names, monkeypatch
):
    place = torch.device(kind) if index is None else torch.device(kind, index)
    state = SimpleNamespace(device=place, is_local_main_process=local)
    monkeypatch.setattr(device, "processes", lambda: state)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.gpus() == names


def test_the_commands_of_the_gpu_lane_have_now_and_no_other():
    """`dsk run` prepares datasets: its steps take no GPU."""
    with_now = {name for name, command in commands().items() if "--now" in options(command)}
    lane = {name for name in commands() if jobs.lane_of(name.split()) == "gpu"}
    assert with_now - {"jobs stop"} == lane - {"run"}


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.save_images(tmp_path / "ds" / "train" / "2_sks", [(64, 64)])
    header = {"ss_epoch": "2", "ss_resolution": "(64, 64)"}
    save(tmp_path / "loras" / "k-000002.safetensors", pair(LAYER, 8, 8, 2, seed=1), header)
    return tmp_path


SMALL = given("pretrained_model_name_or_path=tiny", "resolution=64")
FILLS_A_GPU = {
    "train": ["train", "ds", *SMALL],
    "find-lr": ["find-lr", "ds", *SMALL],
    "grid": ["grid", "loras", "--base", "tiny", "--prompt", "sks", "--steps", "2"],
    "reg generate": ["reg", "generate", "ds", "--base", "tiny", "--class", "1girl", "--count", "1",
                     "--steps", "2", "--size", "64"],
}  # fmt: skip


@pytest.mark.parametrize("name", FILLS_A_GPU)
def test_a_command_that_fills_a_gpu_ends_before_it_changes_anything(name, data, ours, dsk):  # noqa: F811
    before = tree(data / "ds"), tree(data / "loras")
    with holder():
        ended = dsk(*FILLS_A_GPU[name])
    assert ended.code == Exit.LOCKED
    assert "error: GPU 0 is in use by dsk train (sks, 10 steps) since" in ended.err
    assert "hint: add --wait" in ended.err
    assert (tree(data / "ds"), tree(data / "loras")) == before
    assert not (data / "output").exists()


def test_now_is_passed_on_to_the_command(data, ours, drawer, dsk):  # noqa: F811
    with holder():
        ended = dsk(*FILLS_A_GPU["grid"], "--now")
    assert ended.code == 0, ended.err
    assert "this run starts beside it" in ended.err
    assert drawer.drawn


def test_nothing_is_locked_on_a_cpu(state, monkeypatch):
    monkeypatch.setattr(device, "processes", lambda: SimpleNamespace(device=torch.device("cpu")))
    with gpus.held(RunContext()):
        assert not (state / "devices").exists()
