"""The loop that anybody writes first to look through a folder: one image after the other, each
decoded whole.

python -m tests.benchmarks.plain_check FOLDER prints a line for each image. It runs the same
models on onnxruntime with its default options, which give each call all cores, and looks at each
image once, not at its mirror image too.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, ImageOps

from datasetkit.vision.models import read_model
from datasetkit.vision.text import MEAN, SPREAD

TEXT_SIDE, BLOCK, FACE_SIDE, BLUR_SIDE = 960, 32, 256, 512


def look_through(folder: Path) -> list[dict[str, object]]:
    """Return what is found of each JPEG of a folder: hashes, blur, the greatest scores of text and
    faces.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors; the rest is default
    text, faces = (
        ort.InferenceSession(read_model(name), options, providers=["CPUExecutionProvider"])
        for name in ("text", "faces")
    )
    found: list[dict[str, object]] = []
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
        grey = np.asarray(image.convert("L").resize((9, 8)), np.int16)
        small = image.copy()
        small.thumbnail((BLUR_SIDE, BLUR_SIDE))
        sharp = np.asarray(small.convert("L"), np.float32)
        found.append(
            {
                "path": path.name,
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "dhash": np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex(),
                "blur": float(np.diff(sharp, 2, axis=0).var() + np.diff(sharp, 2, axis=1).var()),
                "text": float(
                    text.run(None, {text.get_inputs()[0].name: _for_text(image)})[0].max()
                ),
                "faces": float(
                    faces.run(None, {faces.get_inputs()[0].name: _for_faces(image)})[0].max()
                ),
            }
        )
    return found


def _for_text(image: Image.Image) -> NDArray[np.float32]:
    scale = min(1.0, TEXT_SIDE / max(image.size))
    width, height = (max(BLOCK, round(side * scale / BLOCK) * BLOCK) for side in image.size)
    pixels = (
        np.asarray(image.resize((width, height), Image.Resampling.BILINEAR), np.float32)[..., ::-1]
        / 255
    )
    normal = (pixels - MEAN) / SPREAD
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def _for_faces(image: Image.Image) -> NDArray[np.float32]:
    square = ImageOps.pad(image, (FACE_SIDE, FACE_SIDE))
    return np.ascontiguousarray(np.asarray(square, np.float32)[None] / 127.5 - 1)


if __name__ == "__main__":
    sys.stdout.write("\n".join(map(json.dumps, look_through(Path(sys.argv[1])))))
