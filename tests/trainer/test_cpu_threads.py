"""How PyTorch's threads wait, and how many there are: set before it is loaded."""

import os
import subprocess
import sys

import pytest

from trainer import cpu_threads


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.max": "?"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_cores_are_those_of_the_process_and_of_its_container(files, cores, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_threads.usable_cores(tmp_path) == cores


def environment(monkeypatch, *, cores, machine, **given):
    for name in ("OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cpu_threads, "usable_cores", lambda: cores)
    monkeypatch.setattr(os, "cpu_count", lambda: machine)
    cpu_threads.set_environment()
    return os.environ.get("OMP_WAIT_POLICY"), os.environ.get("OMP_NUM_THREADS")


def test_threads_that_wait_sleep_and_are_as_many_as_the_cores(monkeypatch):
    assert environment(monkeypatch, cores=8, machine=8) == ("passive", None)
    assert environment(monkeypatch, cores=2, machine=64) == ("passive", "2")


def test_what_the_user_has_set_stays(monkeypatch):
    given = {"OMP_WAIT_POLICY": "active", "OMP_NUM_THREADS": "5"}
    assert environment(monkeypatch, cores=2, machine=64, **given) == ("active", "5")


def test_the_environment_is_set_before_pytorch_is_loaded(monkeypatch):
    """A plan and the module itself load no torch."""
    code = (
        "import sys, datasetkit.verbs.train, datasetkit.verbs.reg_generate, trainer.cpu_threads;"
        "print('torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "False"
