"""What the page on the review page says of its keys is what the page does."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_key_stands_in_the_docs():
    source = (ROOT / "datasetkit" / "web" / "ui" / "src" / "keys.ts").read_text(encoding="utf-8")
    bindings = re.findall(r'\{\s*key: "(.)",\s*action: "[\w-]+",\s*says: "([^"]+)"', source)
    assert len(bindings) == source.count('action: "')
    page = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(.)` \| (.+) \|$", page, re.MULTILINE)
    assert told == bindings
