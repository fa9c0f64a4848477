"""The device of a run, its precision, and dtypes that a device does not support."""

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
from tests.trainer import tiny
from tests.trainer.test_loop import ready
from tests.trainer.test_run import planned
from trainer import device, loop, setup
from trainer.device import DeviceContext
from trainer.run import train


@pytest.fixture
def there(monkeypatch):
    """Let accelerate find a device."""

    def found(name):
        state = SimpleNamespace(device=torch.device(name), num_processes=2, process_index=1)
        monkeypatch.setattr(device, "processes", lambda: state)

    return found


@pytest.mark.parametrize(
    ("name", "precision", "dtype"),
    [
        ("cuda:1", "bf16", torch.bfloat16),  # AMD's GPUs too
        ("cuda", "fp16", torch.float16),
        ("cuda", "no", torch.float32),
        ("mps", "bf16", torch.bfloat16),
        ("mps", "fp16", torch.float16),
        ("cpu", "bf16", torch.bfloat16),
        ("cpu", "no", torch.float32),
    ],
)
def test_a_run_uses_the_device_that_accelerate_finds(there, name, precision, dtype):
    there(name)
    assert device.select(precision) == (DeviceContext(torch.device(name), dtype, 2, 1), "")


def test_fp16_without_a_gpu_falls_back_to_float32_with_a_warning(there):
    there("cpu")
    found, remark = device.select("fp16")
    assert found.dtype == torch.float32 and "needs a GPU" in remark


class State:
    """Records the arguments of accelerate's state."""

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
    device.processes()
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


def test_a_step_uses_no_dtype_that_apples_gpus_lack(data, options, monkeypatch):
    assert [
        DeviceContext(torch.device(name), torch.float32).loss_dtype
        for name in ("mps", "cuda", "cpu")
    ] == [
        torch.float32,
        torch.float64,
        torch.float64,
    ]
    run = ready(data, options)
    read = next(loop.reader(run).steps(workers=0))
    with NoDoubles(), pytest.raises(TypeError, match="float64"):
        loop.gradients(run, read)
    monkeypatch.setattr(DeviceContext, "loss_dtype", torch.float32)
    with NoDoubles():
        loss, samples = loop.gradients(run, read)
    assert loss > 0 and samples == 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
def test_peak_memory_without_a_gpu_is_that_of_the_process():
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = (
        next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
        * 1024
    )
    assert device.peak_memory(torch.device("cpu")) == pytest.approx(peak, rel=0.1)


def test_out_of_memory_is_an_error_with_a_next_step(data, options, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")

    monkeypatch.setattr(loop, "gradients", full)
    with pytest.raises(
        ConfigError, match=r"does not fit .*: CUDA out of memory\. Tried to allocate 2\.00 GiB\.$"
    ) as e:
        train(options, planned(data, options))
    assert "gradient_checkpointing" in e.value.hint


@pytest.mark.parametrize(
    ("name", "precision", "expected"),
    [("cuda", "no", "highest"), ("cuda", "bf16", "high"), ("cpu", "bf16", "highest")],
)
def test_float32_is_tf32_on_a_gpu_in_half_precision_alone(there, name, precision, expected):
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    try:
        there(name)
        device.select(precision)
        assert torch.get_float32_matmul_precision() == expected
        assert torch.backends.cudnn.allow_tf32 is (expected == "high")
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("cuda", torch.bfloat16, True),
        ("cuda", torch.float32, False),
        ("cpu", torch.bfloat16, False),
        ("mps", torch.float16, False),
    ],
)
def test_channels_come_last_on_a_gpu_in_half_precision(name, dtype, expected):
    assert device.prefers_channels_last(DeviceContext(torch.device(name), dtype)) is expected


# The tracer asks tensors that are no leaves for their gradients.
@pytest.mark.filterwarnings("default:The .grad attribute")
@pytest.mark.slow
def test_channels_last_and_compiled_blocks_train_the_same(data, model, tmp_path, monkeypatch):
    """Bounds: the order of sums in a convolution, and what the compiler fuses."""

    def trained(name, **others):
        options = tiny.options(
            model, tmp_path / name, max_train_steps=2, save_state=False, **others
        )
        return train(options, planned(data, options))

    plain = trained("plain")
    monkeypatch.setattr(setup, "_COMPILER", "aot_eager")  # it traces, and generates no code
    compiled = trained("compiled", torch_compile=True)
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-5)
    assert compiled.modules == plain.modules  # which passed the LoRA check
    monkeypatch.setattr(device, "prefers_channels_last", lambda context: True)
    last = trained("last")
    assert last.loss == pytest.approx(plain.loss, rel=1e-5)
