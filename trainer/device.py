"""Where a run computes: the device, the processes of `accelerate launch`, and the precision of the
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
    """dtype: of the frozen base and of autocast, float32: no autocast. process: from 0; that one
    writes the files.
    """

    device: torch.device
    dtype: torch.dtype
    processes: int = 1
    process: int = 0

    @property
    def is_main(self) -> bool:
        return self.process == 0

    @property
    def tally(self) -> torch.dtype:
        """Return the type in which losses are added up on the device: Apple's GPUs have no
        float64.
        """
        return torch.float32 if self.device.type == "mps" else torch.float64

    def autocast(self) -> torch.autocast:
        """Return the context in which the model computes."""
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32
        )

    def sent(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the CPU on the device; a GPU takes it from pinned memory, and nobody
        waits for it.
        """
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def summed(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the processes; nothing happens where there is one."""
        if self.processes == 1 or not tensors:
            return
        from accelerate.utils import reduce

        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
        total = reduce(flat, reduction="sum")
        offset = 0
        for tensor in tensors:
            tensor.detach().copy_(total[offset : offset + tensor.numel()].view_as(tensor))
            offset += tensor.numel()


def processes() -> Any:
    """Return accelerate's view of the processes that were launched; without an accelerator they
    meet on the CPU.
    """
    from accelerate import PartialState

    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return PartialState(cpu=asked or not torch.accelerator.is_available())


def first_to_fail() -> bool:
    """Tell whether this process is the first of those that were launched together to fail, and note
    that it did.

    They meet at the launcher's own store, which outlives them.
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
    except RuntimeError:  # it is gone, with whoever launched the processes
        return True


def find(mixed_precision: str) -> tuple[DeviceContext, str]:
    """Return where to compute, and what should be said about it ("" for nothing).

    CPUs have no fp16 arithmetic worth the name: there a run of fp16 computes in float32, and says
    so.
    """
    state = processes()
    dtype = DTYPES[mixed_precision]
    if dtype == torch.float16 and state.device.type == "cpu":
        place = DeviceContext(state.device, torch.float32, state.num_processes, state.process_index)
        return place, "mixed_precision = fp16 needs a GPU: this CPU run computes in float32"
    return DeviceContext(state.device, dtype, state.num_processes, state.process_index), ""


def most_memory(device: torch.device) -> int:
    """Return the most memory that was held so far, in bytes: a GPU's, or without one the process's;
    0: not known.
    """
    if device.type == "cuda":  # AMD's are called so too
        return torch.cuda.max_memory_reserved(device)
    if device.type == "mps":  # it remembers no peak
        return torch.mps.driver_allocated_memory()
    if sys.platform == "win32":
        return 0
    import resource

    # In KiB, and on macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )


def lower_base(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen weights of a model in `dtype`; what is trained stays float32."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
