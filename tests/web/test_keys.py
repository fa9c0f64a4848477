"""docs/review.md lists the keyboard shortcuts of the page."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_shortcut_is_in_the_docs():
    folder = ROOT / "datasetkit" / "web" / "ui" / "src"
    source = (folder / "keys.ts").read_text(encoding="utf-8")
    messages = (folder / "messages" / "en" / "captions.ts").read_text(encoding="utf-8")
    labels = dict(re.findall(r'"captions\.key\.([\w-]+)": "([^"]+)"', messages))
    actions = re.findall(r'\{ key: "(.)", action: "([\w-]+)"', source)
    bindings = [(key, labels[action]) for key, action in actions]
    assert len(bindings) == source.count('action: "') == len(labels)
    page = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `(.)` \| (.+) \|$", page, re.MULTILINE)
    assert documented == bindings
