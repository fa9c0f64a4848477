"""The pages show install lines that work, name extras that exist, and no other line."""

import re
import tomllib
from pathlib import Path

import pytest

from datasetkit.core import install
from datasetkit.tools import release

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PAGES = list(release.pages())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_shows_the_install_lines_that_work_now_and_extras_that_exist(page):
    text = page.read_text(encoding="utf-8")
    assert release.with_install_lines(text) == text, "run python -m datasetkit.tools.release"
    for extras in re.findall(r"datasetkit\[([\w,-]+)\]", text):
        assert set(extras.split(",")) <= set(EXTRAS), extras
    for line in re.findall(r"^(?:pip|uv tool|pipx) install .*$", text, re.MULTILINE):
        assert "datasetkit" not in line or re.search(r'"[^"]*datasetkit[^"]*"', line), line


def test_install_lines_follow_the_release(monkeypatch):
    short = 'pip install "datasetkit[cpu,web]"   # x'
    monkeypatch.setattr(install, "ON_PYPI", False)
    long = release.with_install_lines(short)
    assert long == f'pip install "datasetkit[cpu,web] @ {install.REPOSITORY}"   # x'
    assert release.with_install_lines(long) == long
    monkeypatch.setattr(install, "ON_PYPI", True)
    assert release.with_install_lines(long) == short


def test_all_gpu_and_all_cpu_hold_every_extra_of_users_and_one_onnxruntime():
    # Ray takes 240 MB, and is of use where there are several machines.
    whole = set(EXTRAS) - {"dev", "tinybase", "ray", "all-gpu", "all-cpu"}
    extras = {}
    for name in ("all-gpu", "all-cpu"):
        [line] = EXTRAS[name]
        extras[name] = set(line.removeprefix("datasetkit[").removesuffix("]").split(","))
    assert extras["all-gpu"] == whole - {"cpu"}
    assert extras["all-cpu"] == whole - {"gpu", "optimizers"}


def test_every_extra_of_users_is_in_the_table_of_the_install_page():
    text = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
    rows = set(
        re.findall(r"`([a-z-]+)`", "".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)))
    )
    assert rows == set(EXTRAS) - {"dev", "tinybase"}


def test_notes_are_the_section_of_the_version():
    text = "# Changelog\n\n## [Unreleased]\n\n- new\n\n## [0.2.0] - 2026-01-01\n\n- old\n"
    assert release.notes(text, "0.2.0") == "- old\n"
    assert release.notes(text, "0.3.0") == "- new\n"


def test_hints_take_their_install_lines_from_one_place():
    lines = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in ("datasetkit", "trainer", "taggers")
        for path in sorted((ROOT / package).rglob("*.py"))
        if "tools" not in path.parts and path.name != "install.py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"pip install [\"'{a-z]|datasetkit\[[a-z]", line)
    ]
    assert lines == []
