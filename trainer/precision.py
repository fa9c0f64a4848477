"""mixed_precision = "auto": the precision in which the device computes fastest.

bf16 where the hardware computes it itself, else fp16 on a GPU, else float32. PyTorch also emulates
bf16, on older GPUs and CPUs, which is slower than float32. Needs no torch where there is no GPU.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, Literal

from datasetkit.options.train import TrainOptions
from trainer import cpu_threads

Precision = Literal["no", "fp16", "bf16"]
AUTO: Final = "auto"
_CPU_INFO: Final = Path("/proc/cpuinfo")
# How Linux calls bfloat16 arithmetic of x86 processors (AVX-512, AMX) and of ARM's.
_BF16_FLAGS: Final = {"avx512_bf16", "amx_bf16", "bf16"}


def decided(options: TrainOptions) -> TrainOptions:
    """Return the options with the precision of the device in place of "auto"."""
    if options.mixed_precision != AUTO:
        return options
    return replace(options, mixed_precision=of_device()[0])


def notice(options: TrainOptions) -> str:
    """Return the line that tells which precision "auto" is, and why; "" for another value."""
    if options.mixed_precision != AUTO:
        return ""
    precision, reason = of_device()
    return f'mixed_precision = "auto" is "{precision}" here: {reason}'


@cache
def of_device() -> tuple[Precision, str]:
    """Return the precision of the device that a run would take, and the reason."""
    if may_have_gpu() and not _wants_cpu():
        cpu_threads.set_environment()
        import torch

        if torch.cuda.is_available():  # AMD's GPUs too
            name = torch.cuda.get_device_name()
            return _of_gpu(name, torch.cuda.is_bf16_supported(including_emulation=False))
        if torch.xpu.is_available():
            return _of_gpu(
                torch.xpu.get_device_name(), torch.xpu.is_bf16_supported(including_emulation=False)
            )
        if torch.backends.mps.is_available():
            # Before macOS 14 Metal has no bf16. Its fp16 needs no scaler there: none is tested.
            if torch.backends.mps.is_macos_or_newer(14, 0):
                return "bf16", "Apple's GPU computes bf16"
            return "no", "bf16 on Apple's GPU needs macOS 14"
    if _BF16_FLAGS & _cpu_flags():
        return "bf16", "this CPU computes bf16"
    return "no", "without a GPU, this CPU is fastest in float32"


def _of_gpu(name: str, has_bf16: bool) -> tuple[Precision, str]:
    if has_bf16:
        return "bf16", f"{name} computes bf16"
    return "fp16", f"{name} does not compute bf16 itself"


def _wants_cpu() -> bool:
    """Tell whether accelerate's environment asks for the CPU (as trainer/device.py reads it)."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def may_have_gpu() -> bool:
    """Tell whether it is worth loading PyTorch to look for a GPU, which takes seconds."""
    try:
        if version("torch").endswith("+cpu"):
            return False
    except PackageNotFoundError:
        return False
    drivers = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg", "/dev/dri")
    return (
        sys.platform in ("darwin", "win32")
        or shutil.which("nvidia-smi") is not None
        or any(Path(driver).exists() for driver in drivers)
    )


def _cpu_flags() -> set[str]:
    """Return the names of the CPU's features, of Linux alone: elsewhere they are not known."""
    try:
        lines = _CPU_INFO.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    key = "flags" if platform.machine() in ("x86_64", "AMD64") else "Features"
    return next((set(line.split()) for line in lines if line.startswith(key)), set())
