"""The threads of PyTorch on a CPU: how many there are, and how they wait for each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")


def set_environment() -> None:
    """Set OpenMP's environment, which PyTorch reads when it is loaded. What the user has set
    stays.

    Threads that wait sleep: by default they spin, and beside other programs each step waits for a
    thread that has no core. The number is that of the cores of this process; PyTorch does not know
    a container's limit.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    cores = usable_cores()
    if cores < (os.cpu_count() or 1):
        os.environ.setdefault("OMP_NUM_THREADS", str(cores))


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the number of cores that this process may use, by its affinity and by the limit of its
    container, at least 1.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    limit = _limit(cgroup)
    return cores if limit is None else max(1, min(cores, int(limit)))


def _limit(cgroup: Path) -> float | None:
    """Return how many cores' time a container may take, None without a limit."""
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            text = " ".join((cgroup / name).read_text(encoding="ascii") for name in names)
            quota, period = text.split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError):
            continue
    return None
