"""The built page stays small: what it loads first, all of it, and of what it is made."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

WEB = Path(__file__).parents[2] / "datasetkit" / "web"
MOST_FIRST, MOST = 110 * 1024, 220 * 1024  # bytes, compressed
MOST_PACKAGES = 6


def compressed(name: str) -> int:
    return len(gzip.compress((WEB / "static" / name).read_bytes(), 9, mtime=0))


def test_what_is_loaded_first_and_all_scripts_stay_small():
    scripts = sorted(path.name for path in (WEB / "static").glob("*.js"))
    assert "page.js" in scripts and len(scripts) > 8
    assert compressed("page.js") <= MOST_FIRST
    assert sum(map(compressed, scripts)) <= MOST


def test_each_tab_is_a_file_of_its_own():
    page = (WEB / "static" / "page.js").read_text(encoding="utf-8")
    for folder in (WEB / "ui" / "src" / "tabs").iterdir():
        assert (WEB / "static" / f"tab-{folder.name}.js").is_file()
        assert f"./tab-{folder.name}.js" in page


def test_the_page_needs_few_packages():
    package = json.loads((WEB / "ui" / "package.json").read_text(encoding="utf-8"))
    assert len(package["dependencies"]) <= MOST_PACKAGES
    assert all(version[0].isdigit() for version in package["dependencies"].values())
