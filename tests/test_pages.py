"""What pages show of the quickstart is what its commands print."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasetkit.cli.main import run
from datasetkit.core.errors import Exit

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


def printed_by(command: list[str], capsys) -> str:
    if command[0] == "cat":
        return Path(command[1]).read_text(encoding="utf-8")
    capsys.readouterr()
    code = run(command[1:])
    printed = capsys.readouterr()
    # A plan is shown for a base model that is still to be chosen; what the run would say follows.
    no_base = re.search("no base model is given|the model .* does not exist", printed.err)
    assert code == Exit.DONE or (command[1] == "train" and no_base), printed.err
    out: str = printed.out
    return out


def test_the_quickstarts_page_shows_what_its_commands_print(project, capsys):
    commands = list(shown(QUICKSTART / "README.md"))
    assert len(commands) > 10
    for command, page in commands:
        printed = plain(printed_by(command, capsys))
        assert matches(plain(page), printed), f"$ {shlex.join(command)}\n{printed}"


def test_the_comparison_can_fail():
    assert matches("a\n...\nz", "a\nb\nc\nz") and matches("a\n...", "a\nb")
    assert not matches("a\n...\nz", "a\nb\nc") and not matches("a", "a\nb")
