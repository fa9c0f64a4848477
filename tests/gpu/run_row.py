"""One row, in a process of its own: python -m tests.gpu.run_row NAME WORK RESULT [--cpu].

It writes the values to the file RESULT. `machine` in place of a name writes what is installed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from tests.gpu.rows import CORRECTNESS, ROWS, SPEED, Row

MACHINE = "machine"
PACKAGES = ("diffusers", "transformers", "peft")  # whose versions the table has


def machine() -> dict[str, Any]:
    """Return the versions and the device."""
    facts: dict[str, Any] = {"torch": None, "device": None, "providers": []}
    installed = (name for name in PACKAGES if importlib.util.find_spec(name) is not None)
    facts["versions"] = {name: importlib.metadata.version(name) for name in installed}
    if importlib.util.find_spec("torch") is not None:
        import torch

        facts["torch"] = torch.__version__
        if torch.cuda.is_available():
            facts["device"] = torch.cuda.get_device_name()
    if importlib.util.find_spec("onnxruntime") is not None:
        import onnxruntime

        facts["providers"] = onnxruntime.get_available_providers()
    return facts


def measure(row: Row, work: Path, *, cpu: bool) -> dict[str, Any]:
    """Run a row's function; only its own packages are loaded."""
    if row.group == CORRECTNESS:
        from tests.gpu import correctness

        return correctness.measure(row, work, cpu=cpu)
    if row.group == SPEED:
        from tests.gpu import speed

        return speed.measure(row, work, cpu=cpu)
    from tests.gpu import tagger

    return tagger.measure(row, work, cpu=cpu)


def main(name: str, work: str, result: str, *flags: str) -> None:
    """Run a row and write its values."""
    if name == MACHINE:
        values = machine()
    else:
        [row] = [row for row in ROWS if row.name == name]
        values = measure(row, Path(work), cpu="--cpu" in flags)
    Path(result).write_text(json.dumps(values), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
