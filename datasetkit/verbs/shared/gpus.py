"""The GPUs that a command fills: one of them at a time does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from datasetkit.project import gpu_locks
from datasetkit.project.session import RunContext


@contextmanager
def held(context: RunContext) -> Iterator[None]:
    """Hold the GPUs that this process computes on; on a CPU nothing is held. Loads torch.

    Raises Locked while another run uses one of them, unless `context` waits or starts beside it.
    """
    from trainer import device  # here: it loads torch

    with gpu_locks.hold(
        device.gpus(),
        wait=context.wait,
        now=context.now,
        # Processes that were launched together give up on one that waits.
        may_wait="LOCAL_WORLD_SIZE" not in os.environ,
        reporter=context.reporter,
    ):
        yield
