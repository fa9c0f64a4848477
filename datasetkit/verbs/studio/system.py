"""The machine, for the page: cards, memory, disk, and what is installed."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

from datasetkit.core.install import install_command
from datasetkit.verbs.shared.cards import nvidia_cards, torch_cuda
from datasetkit.verbs.studio.roots import LOOPBACK
from datasetkit.verbs.studio.session import StudioSession

Json = dict[str, Any]
_QUERY: Final = "memory.used,temperature.gpu"
_SECONDS: Final = 5.0  # for which the answer of nvidia-smi counts
_EXTRAS: Final = {
    "train": "diffusers", "web": "uvicorn", "tag": "onnxruntime", "cutout": "rembg",
    "optimizers": "bitsandbytes", "formats": "pi_heif",
}  # fmt: skip


class Cards:
    """The graphics cards; the driver is asked at most every few seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._asked = -_SECONDS
        self._listed: list[Json] = []

    def listed(self) -> list[Json]:
        with self._lock:
            if time.monotonic() - self._asked >= _SECONDS:
                self._listed = _cards()
                self._asked = time.monotonic()
            return self._listed


def _cards() -> list[Json]:
    cards = nvidia_cards()
    used = _used() if cards else []
    rows: list[Json] = []
    for number, card in enumerate(cards):
        memory, temperature = used[number] if number < len(used) else (0, None)
        rows.append({
            "name": card.name, "memory": card.memory, "used": memory,
            "temperature": temperature, "bf16": bool(card.bf16),
        })  # fmt: skip
    return rows


def _used() -> list[tuple[int, int | None]]:
    """Return the memory in use and the temperature of each card."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True, check=True, encoding="utf-8", errors="replace", timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [row for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True) if row]
    return [
        (
            int(row[0]) * 2**20 if row[0].isdigit() else 0,
            int(row[1]) if row[1].isdigit() else None,
        )
        for row in rows
        if len(row) == 2
    ]


def system(session: StudioSession, cards: Cards) -> Json:
    """Return what the machine has, and one line about what is missing."""
    cuda, listed = torch_cuda(), cards.listed()
    return {
        "cards": listed,
        "cores": os.cpu_count() or 1,
        "memory": _memory(),
        "disk": {"free": _free(session.root)},
        "torch": {"installed": cuda is not None, "cuda": cuda or ""},
        "extras": {name: _has(module) for name, module in _EXTRAS.items()},
        "remote": session.options.host not in LOOPBACK,
        "problem": _problem(listed, cuda),
    }


def _problem(cards: list[Json], cuda: str | None) -> str:
    if cuda is None:
        return f"PyTorch is not installed, so nothing trains here: {install_command('train')}"
    if cards and not cuda:
        return (
            f"{cards[0]['name']} is there, but PyTorch is the build for CPUs: "
            f"{install_command('all-gpu')}"
        )
    if not cards and sys.platform != "darwin":
        return "no NVIDIA card: training on the CPU takes hours, except with the tiny base"
    return ""


def _has(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _memory() -> dict[str, int]:
    with suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        values = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return {"total": values["MemTotal"], "free": values["MemAvailable"]}
    with suppress(OSError, ValueError, AttributeError):
        size = os.sysconf("SC_PAGE_SIZE")
        return {"total": size * os.sysconf("SC_PHYS_PAGES"), "free": 0}
    return {"total": 0, "free": 0}


def _free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
