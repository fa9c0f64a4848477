"""`dsk lora resize` beside the SVD of the whole matrix, as sd-scripts calls it: CPU seconds of both
on the golden file, with one thread each. `python -m tests.benchmarks.lora_resize ROUNDS` prints
them as JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tests.lora_files import files
from trainer.lora_files import lora_file
from trainer.lora_files.resize import RankRule, resize

LEAST_RATIO = 50


def measure(rounds: int = 1) -> list[tuple[float, float]]:
    """Return (seconds of the full SVD, seconds of the resize) for each round, of a process with one
    thread: those of numpy are set before it starts.
    """
    single = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __spec__.name, str(rounds)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env=single)
    return [(full, ours) for full, ours in json.loads(ended.stdout)]


def _ours(path: Path) -> float:
    began = time.process_time()
    list(resize(lora_file.read(path), RankRule("fro", 0.95)))
    return time.process_time() - began


def _theirs(path: Path) -> float:
    seconds = 0.0
    for layer in lora_file.read(path).layers:
        up, down = (
            torch.tensor(layer.array(name).astype(np.float32)).flatten(1)
            for name in ("lora_up.weight", "lora_down.weight")
        )
        began = time.process_time()
        torch.linalg.svd(up @ down, full_matrices=True)
        seconds += time.process_time() - began
    return seconds


def table(pairs: list[tuple[float, float]]) -> str:
    lines = ["## LoRA resize, CPU seconds on the golden file", ""]
    lines += ["| full SVD in float32 | dsk lora resize | ratio |", "|---|---|---|"]
    lines += [f"| {full:.2f} | {ours:.3f} | {full / ours:.0f} |" for full, ours in pairs]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        golden = files.save(Path(folder) / "golden.safetensors", files.golden_tensors())
        print(json.dumps([(_theirs(golden), _ours(golden)) for _ in range(int(sys.argv[1]))]))
