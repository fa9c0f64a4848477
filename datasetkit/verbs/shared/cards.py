"""The graphics cards of this machine, and what PyTorch can do with them: for `dsk doctor`."""

from __future__ import annotations

import csv
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_QUERY: Final = "name,driver_version,memory.total,compute_cap"
_SECONDS: Final = 20.0
# NVIDIA's cards compute bf16 from this generation on (Ampere).
_BF16: Final = 8.0


@dataclass(frozen=True, slots=True)
class Card:
    """A graphics card. memory: bytes, 0 if unknown. driver: its version, "" if unknown. bf16: None
    if unknown.
    """

    name: str
    memory: int
    driver: str = ""
    bf16: bool | None = None


def nvidia_cards() -> tuple[Card, ...]:
    """Return the cards that NVIDIA's driver lists; () without one."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    try:
        done = subprocess.run(
            [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"],
            capture_output=True, check=True, encoding="utf-8", errors="replace", timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return tuple(_card(row) for row in rows if len(row) == len(_QUERY.split(",")))


def _card(row: list[str]) -> Card:
    name, driver, memory, capability = (value.strip() for value in row)
    bf16 = float(capability) >= _BF16 if re.fullmatch(r"\d+\.\d+", capability) else None
    return Card(name, int(memory) * 2**20 if memory.isdigit() else 0, driver, bf16)


def torch_cuda() -> str | None:
    """Return the CUDA that PyTorch was built for, "" for none; None if PyTorch is not installed. It
    is not imported.
    """
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        text = Path(spec.origin).with_name("version.py").read_text(encoding="utf-8")
    except OSError:
        return ""
    match = re.search(r"^cuda\b[^=]*=\s*['\"]([\d.]+)", text, re.MULTILINE)
    return match[1] if match else ""


def torch_card() -> Card | None:
    """Return the first card that PyTorch can use, of any maker; it is imported, which takes
    seconds.
    """
    import torch

    if torch.cuda.is_available():  # AMD's cards too
        properties = torch.cuda.get_device_properties(0)
        bf16 = bool(torch.cuda.is_bf16_supported(including_emulation=False))
        return Card(properties.name, int(properties.total_memory), bf16=bf16)
    if torch.xpu.is_available():
        of_xpu = torch.xpu.get_device_properties(0)
        return Card(str(of_xpu.name), int(of_xpu.total_memory))
    if torch.backends.mps.is_available():
        memory = int(torch.mps.recommended_max_memory())
        return Card("Apple's GPU", memory, bf16=torch.backends.mps.is_macos_or_newer(14, 0))
    return None
