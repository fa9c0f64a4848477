"""The loop that anybody writes first: Pillow, one image after the other, on one core.

python -m tests.benchmarks.plain IN OUT QUALITY
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image


def shrink_all(folder: Path, out: Path, quality: int) -> None:
    """Shrink every JPEG of a folder to a long edge of 1024."""
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            scale = min(1.0, 1024 / max(image.size))
            size = round(image.width * scale), round(image.height * scale)
            small = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        small.save(out / path.name, quality=quality, subsampling=0 if quality >= 95 else 2)


if __name__ == "__main__":
    shrink_all(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
