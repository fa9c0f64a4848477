"""Every link of the pages leads to a file and a heading that are there, and every command that they
show exists.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
COMMANDS = {path.stem for path in (ROOT / "docs" / "commands").glob("*.md")}
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_SHOWN = re.compile(r"^(?:\$ )?dsk ([a-z][a-z-]*)", re.MULTILINE)


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def anchors(page: Path) -> set[str]:
    """The anchors that forges make of headings: lower case, spaces as hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", _CODE.sub("", text(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_somewhere(page):
    broken = []
    for link in _LINK.findall(_CODE.sub("", text(page))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_shown_has_a_page(page):
    shown = {command for block in _CODE.findall(text(page)) for command in _SHOWN.findall(block)}
    assert shown <= COMMANDS


def test_every_page_of_docs_can_be_reached_from_the_index():
    seen: set[Path] = set()
    waiting = [ROOT / "docs" / "index.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.is_file():
            continue
        seen.add(page)
        links = _LINK.findall(_CODE.sub("", text(page)))
        waiting += [
            (page.parent / link.partition("#")[0]).resolve() for link in links if "://" not in link
        ]
    assert set((ROOT / "docs").rglob("*.md")) <= seen


_FILE = re.compile(r"`((?:datasetkit|taggers|trainer|tests|docs|examples)/[\w./-]+)`")


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_file_that_a_page_names_is_there(page):
    paths = _FILE.findall(text(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    if page.name == "CONTRIBUTING.md":
        assert len(paths) > 15


def test_every_module_of_the_architecture_page_is_there():
    """Its tables name modules as seen from datasetkit/ or from the root."""
    modules = re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", text(ROOT / "docs" / "architecture.md"))
    assert len(modules) > 15
    assert [
        module
        for module in modules
        if not (ROOT / module).exists() and not (ROOT / "datasetkit" / module).exists()
    ] == []
