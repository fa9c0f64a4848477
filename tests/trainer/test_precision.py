"""mixed_precision = "auto": bf16 where the device computes it, fp16 on older GPUs, else float32."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer import precision
from trainer.plan import memory
from trainer.plan.plan import find_subsets, make_plan


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Forget the answer for this machine before and after each test."""
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    precision.of_device.cache_clear()
    yield
    precision.of_device.cache_clear()


def on_cpu(monkeypatch, tmp_path, line, machine="x86_64"):
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor\t: 0\n{line}\n\nprocessor\t: 1\n{line}\n", "utf-8")
    monkeypatch.setattr(precision, "_CPU_INFO", info)
    monkeypatch.setattr(precision, "may_have_gpu", lambda: False)
    monkeypatch.setattr(platform, "machine", lambda: machine)


@pytest.mark.parametrize(
    ("line", "machine", "expected"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 vaes", "x86_64", "bf16"),
        ("flags\t\t: fpu sse2 avx2 amx_bf16", "x86_64", "bf16"),
        ("flags\t\t: fpu sse2 avx2 avx512f avx512bw", "x86_64", "no"),  # PyTorch emulates it
        ("flags\t\t: fpu not_bf16x", "x86_64", "no"),
        ("Features\t: fp asimd i8mm bf16", "aarch64", "bf16"),
        ("Features\t: fp asimd", "aarch64", "no"),
    ],
)
def test_cpu_takes_bf16_where_it_has_the_instructions(
    monkeypatch, tmp_path, line, machine, expected
):
    on_cpu(monkeypatch, tmp_path, line, machine)
    assert precision.of_device()[0] == expected


def test_cpu_whose_features_are_unknown_takes_float32(monkeypatch, tmp_path):
    on_cpu(monkeypatch, tmp_path, "")
    monkeypatch.setattr(precision, "_CPU_INFO", tmp_path / "missing")
    assert precision.of_device()[0] == "no"


@pytest.mark.parametrize(("capability", "expected"), [((8, 0), "bf16"), ((7, 5), "fp16")])
def test_gpu_takes_bf16_from_compute_capability_8(monkeypatch, capability, expected):
    """PyTorch emulates bf16 on a T4 and says that it is supported, unless it is asked exactly."""
    monkeypatch.setattr(precision, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: type("Properties", (), {"major": capability[0], "minor": capability[1]}),
    )
    chosen, reason = precision.of_device()
    assert chosen == expected and "Tesla T4" in reason


def test_cpu_run_on_a_machine_with_a_gpu_asks_the_cpu(monkeypatch, tmp_path):
    on_cpu(monkeypatch, tmp_path, "flags\t: avx2")
    monkeypatch.setattr(precision, "may_have_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert precision.of_device()[0] == "no"


@pytest.mark.parametrize(
    ("installed", "driver", "expected"),
    [
        ("2.13.0+cpu", True, False),
        ("2.13.0", True, True),
        ("2.13.0", False, False),
        ("", True, False),
    ],
)
def test_torch_is_loaded_only_where_a_gpu_is_possible(monkeypatch, installed, driver, expected):
    def version(name):
        if not installed:
            raise PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(precision, "version", version)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(Path, "exists", lambda path: driver and os.fspath(path) == "/dev/kfd")
    assert precision.may_have_gpu() is expected


def test_decided_options_differ_in_the_precision_alone(monkeypatch, tmp_path):
    on_cpu(monkeypatch, tmp_path, "flags\t: avx512_bf16")
    assert precision.decided(TrainOptions()) == TrainOptions(mixed_precision="bf16")
    assert precision.notice(TrainOptions()).startswith('mixed_precision = "auto" is "bf16" here')
    chosen = TrainOptions(mixed_precision="fp16")
    assert precision.decided(chosen) is chosen and precision.notice(chosen) == ""


def test_memory_is_that_of_the_decided_precision(monkeypatch, tmp_path):
    on_cpu(monkeypatch, tmp_path, "flags\t: avx2")
    auto = memory.estimate(TrainOptions(), (512, 512), None)
    assert auto == memory.estimate(TrainOptions(mixed_precision="no"), (512, 512), None)


@pytest.mark.long
def test_a_run_from_a_program_records_the_decided_precision(data, model, tmp_path, monkeypatch):
    from safetensors import safe_open

    from trainer.run import train

    on_cpu(monkeypatch, tmp_path, "flags\t: avx2")
    options = tiny.options(
        model, tmp_path / "out", max_train_steps=1, save_state=False, mixed_precision="auto"
    )
    result = train(options, make_plan(find_subsets(data, options)[0], options))
    with safe_open(result.files[-1], "pt") as file:
        assert file.metadata()["ss_mixed_precision"] == "no"
