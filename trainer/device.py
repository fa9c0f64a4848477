"""The device of a run, the processes of `accelerate launch`, and the precision of the
arithmetic.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

DTYPES: Final = {
    "no": torch.float32,
    "float": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


@dataclass(frozen=True, slots=True)
class DeviceContext:
    """A device and this process. dtype: of the frozen base and autocast; float32 means no autocast.
    process: its index; process 0 writes the files.
    """

    device: torch.device
    dtype: torch.dtype
    processes: int = 1
    process: int = 0

    @property
    def is_main(self) -> bool:
        return self.process == 0

    @property
    def loss_dtype(self) -> torch.dtype:
        """Return the dtype of summed losses: float64, which Apple's GPUs do not support."""
        return torch.float32 if self.device.type == "mps" else torch.float64

    def autocast(self) -> torch.autocast:
        """Return the autocast context for the model."""
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        )

    def to_device(self, tensor: Tensor) -> Tensor:
        """Copy a CPU tensor to the device; to a GPU asynchronously, from pinned memory."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def sum_over_processes(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all processes."""
        if self.processes == 1 or not tensors:
            return
        from accelerate.utils import reduce

        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        total = reduce(flat, reduction="sum")
        offset = 0
        for tensor in tensors:
            tensor.detach().copy_(total[offset : offset + tensor.numel()].view_as(tensor))
            offset += tensor.numel()

    def in_any_process(self, flag: bool) -> bool:
        """Tell whether a flag is set in any process; each of them must ask."""
        flags = torch.tensor([float(flag)], device=self.device)
        self.sum_over_processes([flags])
        return bool(flags.item())


def processes() -> Any:
    """Return accelerate's state of the launched processes; without a GPU they communicate on the
    CPU.
    """
    from accelerate import PartialState

    use_cpu = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=use_cpu or not torch.accelerator.is_available())


def gpus() -> tuple[str, ...]:
    """Return the GPUs that the processes of a run use on this machine: `gpu-0` is the first one of
    the machine. () on a CPU, and for all processes but the first one of a machine.
    """
    state = processes()
    if state.device.type == "cpu" or not state.is_local_main_process:
        return ()
    first = state.device.index or 0
    count = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return tuple(f"gpu-{_number(state.device.type, first + n)}" for n in range(count))


def _number(kind: str, index: int) -> int:
    """Return the number of a GPU among all of the machine, of which CUDA_VISIBLE_DEVICES may show
    this process some only.
    """
    if kind != "cuda":
        return index
    try:
        return torch.cuda._get_nvml_device_index(index)
    except (RuntimeError, AttributeError, KeyError):  # the driver does not say
        return index


def is_first_failure() -> bool:
    """Tell whether this process is the first of the launched ones to fail, and record it.

    The record is in the launcher's store, which outlives the processes.
    """
    host, port, count = (
        os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")
    )
    if not host or not port or count in ("", "1"):
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    try:
        run = os.environ.get("TORCHELASTIC_RUN_ID", "")
        return (
            int(TCPStore(host, int(port), is_master=False).add(f"datasetkit {run} failed", 1)) == 1
        )
    except RuntimeError:  # the store is gone, together with the launcher
        return True


def select(mixed_precision: str) -> tuple[DeviceContext, str]:
    """Return the device context, and a warning ("" for none).

    CPUs have no fast fp16 arithmetic: there a run with fp16 computes in float32, with a warning. In
    a run with fp16 or bf16 what stays float32 is multiplied in TF32 where the GPU has it.
    """
    state = processes()
    dtype = DTYPES[mixed_precision]
    tf32 = state.device.type == "cuda" and dtype != torch.float32
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    # cuDNN's convolutions use TF32 by default.
    torch.backends.cudnn.allow_tf32 = tf32
    if dtype == torch.float16 and state.device.type == "cpu":
        context = DeviceContext(
            state.device, torch.float32, state.num_processes, state.process_index
        )
        return context, "mixed_precision = fp16 needs a GPU: this CPU run computes in float32"
    return DeviceContext(state.device, dtype, state.num_processes, state.process_index), ""


def prefers_channels_last(context: DeviceContext) -> bool:
    """Tell whether convolutions are faster with their channels last in memory: on an NVIDIA or AMD
    GPU in half precision, and not on a CPU, as measured.
    """
    return context.device.type == "cuda" and context.dtype != torch.float32


def peak_memory(device: torch.device) -> int:
    """Return the peak memory so far in bytes: the GPU's, or without one the process's; 0:
    unknown.
    """
    if device.type == "cuda":  # AMD's GPUs too
        return torch.cuda.max_memory_reserved(device)
    if device.type == "mps":  # it does not record a peak
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return 0
    import resource

    # In KiB, and on macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def cast_base(model: nn.Module, dtype: torch.dtype) -> None:
    """Cast the frozen weights of a model to `dtype`; trained weights stay float32."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
