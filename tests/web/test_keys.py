"""docs/review.md lists the keyboard shortcuts of the page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_shortcut_is_in_the_docs():
    source = (ROOT / "datasetkit" / "web" / "ui" / "src" / "keys.ts").read_text(encoding="utf-8")
    bindings = re.findall(r'\{ key: "(.)", action: "[\w-]+", label: "([^"]+)"', source)
    assert len(bindings) == source.count('action: "')
    page = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(.)` \| (.+) \|$", page, re.MULTILINE)
    assert documented == bindings
