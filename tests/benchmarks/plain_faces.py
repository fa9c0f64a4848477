"""The loop that anybody writes first: Pillow and onnxruntime, one image after the other, faces
printed.

python -m tests.benchmarks.plain_faces IN
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnxruntime as ort
from PIL import Image, ImageOps

from datasetkit.vision import faces, models


def find_all(folder: Path) -> None:
    """Print the faces of every JPEG of a folder."""
    session = ort.InferenceSession(models.read_model("faces"), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            fitted = faces.letterbox(ImageOps.exif_transpose(image).convert("RGB"))
        outputs = session.run(None, {name: fitted.pixels[None]})
        print(
            path.name,
            faces.decode(outputs, threshold=0.5, scale=fitted.scale, offset=fitted.offset),
        )


if __name__ == "__main__":
    find_all(Path(sys.argv[1]))
