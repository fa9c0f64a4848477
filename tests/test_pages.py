"""What pages show of the quickstart is what its commands print."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasetkit.checks.registry import CHECKS
from datasetkit.cli.main import run
from datasetkit.core.errors import Exit
from datasetkit.tools.screenshots import make_faulty_dataset

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "examples" / "quickstart"


@pytest.fixture
def project(tmp_path, monkeypatch):
    copy = tmp_path / "run"
    shutil.copytree(QUICKSTART, copy, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__"))
    monkeypatch.chdir(copy)
    return copy


def shown(page: Path) -> Iterator[tuple[list[str], str]]:
    """Yield each command of a page's console blocks, with what the page shows below it."""
    for block in re.findall(
        r"^```console\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = piece.partition("\n")
            yield shlex.split(command), output


def plain(text: str, place: str = "") -> str:
    """Take out what differs from run to run: warnings (they stand elsewhere), times, the folder,
    spaces at the end.
    """
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("warning: ")]
    joined = "\n".join(lines).strip().replace(place, "PLACE") if place else "\n".join(lines).strip()
    joined = re.sub(r"; [\d.]+ [kMG]B free$", "; SPACE free", joined, flags=re.MULTILINE)
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "TIME", joined)


def matches(page: str, printed: str) -> bool:
    """Compare; a line `...` of the page stands for any lines."""
    return (
        re.fullmatch(r"(?s:.*)".join(map(re.escape, re.split(r"\.\.\.(?:\n|$)", page))), printed)
        is not None
    )


def is_complete(command: list[str], code: int, errors: str) -> bool:
    """Tell whether a command has printed what a page shows. A plan is shown for a base model that
    is still to be chosen; what the run would say follows.
    """
    no_base = re.search("no base model is given|the model .* does not exist", errors)
    return code == Exit.DONE or (command[1] == "train" and no_base is not None)


def printed_by(command: list[str], capsys) -> str:
    if command[0] == "cat":
        return Path(command[1]).read_text(encoding="utf-8")
    capsys.readouterr()
    code = run(command[1:])
    printed = capsys.readouterr()
    assert is_complete(command, code, printed.err), printed.err
    out: str = printed.out
    return out


@pytest.mark.long
def test_the_quickstarts_page_shows_what_its_commands_print(project, capsys):
    commands = list(shown(QUICKSTART / "README.md"))
    assert len(commands) > 10
    for command, page in commands:
        printed = plain(printed_by(command, capsys))
        assert matches(plain(page), printed), f"$ {shlex.join(command)}\n{printed}"


@pytest.mark.long
def test_the_page_of_check_shows_what_it_prints(tmp_path, monkeypatch, capsys):
    """Its table is cut to the width of a page: `...` stands for what is left out."""
    monkeypatch.chdir(tmp_path)
    make_faulty_dataset(tmp_path / "imgs")
    commands = list(shown(ROOT / "docs" / "commands" / "check.md"))
    assert len(commands) == 2
    for command, page in commands:
        printed = " ".join(printed_by(command, capsys).split())
        pieces = re.split(r"\.\.\.", " ".join(page.split()))
        pattern = ".*".join(re.escape(piece.strip()) for piece in pieces)
        assert re.fullmatch(pattern.replace(r"\ ", r"\s*"), printed), printed


def test_the_page_of_check_counts_all_checks():
    """Also where the test above is left out."""
    _, output = next(iter(shown(ROOT / "docs" / "commands" / "check.md")))
    names = set(CHECKS)
    found = [line for line in output.splitlines() if line.split()[0] in names]
    assert f"; {len(names) - len(found)} checks found nothing" in output


def test_the_comparison_can_fail():
    assert matches("a\n...\nz", "a\nb\nc\nz") and matches("a\n...", "a\nb")
    assert not matches("a\n...\nz", "a\nb\nc") and not matches("a", "a\nb")
