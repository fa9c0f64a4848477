"""Where a run computes: the device that is there, its precision, and nothing that the device has
not.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import accelerate
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from datasetkit.core.errors import ConfigError
from tests.trainer.test_loop import ready
from tests.trainer.test_run import planned
from trainer import device as place
from trainer import loop
from trainer.device import DeviceContext
from trainer.run import train


@pytest.fixture
def there(monkeypatch):
    """Let accelerate find a device."""

    def found(device):
        state = SimpleNamespace(device=torch.device(device), num_processes=2, process_index=1)
        monkeypatch.setattr(place, "processes", lambda: state)

    return found


@pytest.mark.parametrize(
    ("device", "precision", "dtype"),
    [
        ("cuda:1", "bf16", torch.bfloat16),  # AMD's are called so too
        ("cuda", "fp16", torch.float16),
        ("cuda", "no", torch.float32),
        ("mps", "bf16", torch.bfloat16),
        ("mps", "fp16", torch.float16),
        ("cpu", "bf16", torch.bfloat16),
        ("cpu", "no", torch.float32),
    ],
)
def test_run_computes_where_accelerate_finds_a_device(there, device, precision, dtype):
    there(device)
    assert place.find(precision) == (DeviceContext(torch.device(device), dtype, 2, 1), "")


def test_half_precision_without_a_gpu_is_said(there):
    there("cpu")
    found, remark = place.find("fp16")
    assert found.dtype == torch.float32 and "needs a GPU" in remark


class State:
    """Notes what accelerate was told."""

    told: ClassVar[list[bool]] = []

    def __init__(self, cpu):
        self.told.append(cpu)


@pytest.mark.parametrize(
    ("accelerator", "asked", "cpu"),
    [(True, "", False), (True, "true", True), (False, "", True), (True, "0", False)],
)
def test_gpu_is_taken_where_there_is_one_and_the_cpu_is_not_asked_for(
    monkeypatch, accelerator, asked, cpu
):
    monkeypatch.setattr(accelerate, "PartialState", State)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    monkeypatch.setenv("ACCELERATE_USE_CPU", asked)
    place.processes()
    assert State.told[-1] is cpu


class NoDoubles(TorchDispatchMode):
    """Refuses float64, as Apple's GPUs do."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if any(
            isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float64
            for leaf in tree_leaves(made)
        ):
            raise TypeError(f"{func} makes float64")
        return made


def test_a_step_makes_no_number_that_apples_gpus_have_not(data, options, monkeypatch):
    assert [
        DeviceContext(torch.device(name), torch.float32).tally for name in ("mps", "cuda", "cpu")
    ] == [
        torch.float32,
        torch.float64,
        torch.float64,
    ]
    run = ready(data, options)
    read = next(loop.reader(run).steps(workers=0))
    with NoDoubles(), pytest.raises(TypeError, match="float64"):
        loop.gradients(run, read)
    monkeypatch.setattr(DeviceContext, "tally", torch.float32)
    with NoDoubles():
        loss, samples = loop.gradients(run, read)
    assert loss > 0 and samples == 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_memory_of_a_run_without_a_gpu_is_the_programs_own():
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        * 1024
    )
    assert place.most_memory(torch.device("cpu")) == pytest.approx(peak, rel=0.1)


def test_run_that_does_not_fit_says_what_to_do(data, options, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(loop, "gradients", full)
    with pytest.raises(
        ConfigError, match=r"does not fit .*: CUDA out of memory\. Tried to allocate 2\.00 GiB\.$"
    ) as e:
        train(options, planned(data, options))
    assert "gradient_checkpointing" in e.value.hint
