"""Build a release: `python -m datasetkit.tools.release`, or `make release`. Nothing is uploaded.

It checks that the pages show the install lines of `core/install.py`, builds the sdist and the wheel
into dist/, checks both with twine, and writes dist/NOTES.md from CHANGELOG.md.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from datasetkit import __version__
from datasetkit.core.files import write_atomic
from datasetkit.core.install import NAME, REPOSITORY, published

ROOT: Final = Path(__file__).parents[2]
# In quotes, or at the end of a line of shell: the requirement, with the repository or without it.
_LINE: Final = re.compile(rf"{NAME}\[([a-z,-]+)\](?: @ {re.escape(REPOSITORY)})?(?=\")")


def pages() -> Iterator[Path]:
    """Yield the files that show how datasetkit is installed."""
    yield from sorted(ROOT.glob("*.md"))
    yield from sorted(ROOT.glob("docs/**/*.md"))
    for suffix in ("md", "toml", "ipynb"):
        yield from sorted(ROOT.glob(f"examples/**/*.{suffix}"))


def with_install_lines(text: str) -> str:
    """Return a page with the install lines that work now."""
    return _LINE.sub(lambda line: published(*line[1].split(",")), text)


def notes(changelog: str, version: str) -> str:
    """Return a version's section of the changelog, or that of what is unreleased."""
    sections = re.split(r"^## \[(.+?)\].*\n", changelog, flags=re.MULTILINE)
    by_version = dict(zip(sections[1::2], sections[2::2], strict=True))
    return by_version.get(version, by_version["Unreleased"]).strip() + "\n"


def main() -> None:
    for page in pages():
        text = page.read_text(encoding="utf-8")
        if (fresh := with_install_lines(text)) != text:
            write_atomic(page, fresh.encode())
            print(f"{page.relative_to(ROOT)}: install lines rewritten")  # noqa: T201
    dist = ROOT / "dist"
    for old in (*dist.glob("*.whl"), *dist.glob("*.tar.gz")):
        old.unlink()
    _run("build", "--outdir", str(dist), str(ROOT))
    built = sorted(map(str, (*dist.glob("*.whl"), *dist.glob("*.tar.gz"))))
    _run("twine", "check", "--strict", *built)
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    write_atomic(dist / "NOTES.md", notes(changelog, __version__).encode())
    print("\n".join([*built, str(dist / "NOTES.md"), "nothing was uploaded"]))  # noqa: T201


def _run(module: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    main()
