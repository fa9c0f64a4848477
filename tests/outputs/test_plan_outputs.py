"""What is decided about outputs before anything is written; no test here touches a disk."""

from pathlib import Path

import pytest

from datasetkit.core.errors import PlanConflict
from datasetkit.core.records import Done
from datasetkit.outputs.produce import OutputSpec


def test_two_images_are_never_written_to_one_file():
    a, b, out = Path("a.jpg"), Path("a.png"), Path("out/a.png")
    for targets in ({a: (out,), b: (out,)}, {a: (b,), b: (out,)}, {a: (a,)}):
        with pytest.raises(PlanConflict):
            OutputSpec(Path("out"), "resize-1", targets, lambda: Done, "would be resized")
