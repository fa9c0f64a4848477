"""The loop that rembg's own page shows: one image after the other.

python -m tests.benchmarks.plain_cutout IN OUT REMBG_HOME
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import Image


def cut_all(folder: Path, out: Path) -> None:
    """Lay the subject of every JPEG of a folder onto white, as PNG."""
    import rembg

    session = rembg.new_session("u2netp")
    for path in sorted(folder.glob("*.jpg")):
        with Image.open(path) as image:
            cut = rembg.remove(image, session=session, bgcolor=(255, 255, 255, 255))
        cut.convert("RGB").save(out / f"{path.stem}.png")


if __name__ == "__main__":
    os.environ["REMBG_HOME"] = sys.argv[3]
    cut_all(Path(sys.argv[1]), Path(sys.argv[2]))
