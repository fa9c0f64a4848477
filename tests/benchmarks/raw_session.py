"""The floor under every tagger: an onnxruntime session with default options, fed with arrays that
are ready.

python -m tests.benchmarks.raw_session MODEL IMAGES prints the seconds inside of `run` as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort


def seconds(model: Path, images: int) -> float:
    """Return the seconds that the model takes for so many images, one after the other, without
    loading it.
    """
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    first = session.get_inputs()[0]
    # Eight different images stand for all: what is in them does not change the time.
    ready = [
        np.random.default_rng(n).uniform(0, 255, (1, *first.shape[1:])).astype(np.float32)
        for n in range(min(8, images))
    ]
    begun = time.perf_counter()
    for number in range(images):
        session.run(None, {first.name: ready[number % len(ready)]})
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.stdout.write(json.dumps(seconds(Path(sys.argv[1]), int(sys.argv[2]))))
