"""Write into the docs what the quickstart's commands print now: `python -m tests.refresh_pages`.

tests/test_pages.py and tests/cli/test_train_pages.py compare the pages with the commands. After a
message or a table has changed, this rewrites the pages; read the diff before you commit it.
"""

import io
import os
import shlex
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from difflib import SequenceMatcher
from pathlib import Path

from datasetkit.cli.main import run
from tests import test_translated_pages as translations
from tests.test_pages import QUICKSTART, ROOT, is_complete, plain, shown

RUN, TRAIN = ["docs/commands/run.md"], ["docs/train.md", "docs/commands/train.md"]
AFTER_RUN = [*TRAIN, "docs/from-sd-scripts.md"]
HOME = "/home/me/run"


def printed_by(command: list[str]) -> str:
    if command[0] == "cat":
        return Path(command[1]).read_text(encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run(command[1:])
    if not is_complete(command, code, err.getvalue()):
        raise SystemExit(f"$ {shlex.join(command)}\n{err.getvalue()}")
    return out.getvalue()


def fitted(page: str, printed: str) -> str:
    """Return the page's lines as the command prints them now; keep `...` and warnings."""
    new = [line.rstrip() for line in printed.strip().splitlines()]
    result: list[str] = []
    at = 0
    for piece in page.rstrip("\n").split("\n"):
        if piece.startswith("warning: ") or piece in ("...", ""):
            result.append(piece)
            continue
        ahead = range(at, len(new))
        best = max(ahead, key=lambda n: SequenceMatcher(None, piece, new[n]).ratio(), default=None)
        if best is None:
            continue
        result.append(new[best])
        at = best + 1
    if "..." not in page:  # the whole output is shown
        warnings = [line for line in result if line.startswith("warning: ")]
        result = [*warnings, *new] if warnings else new
    return "\n".join(result) + "\n"


def refresh(page: Path, place: str) -> None:
    text = page.read_text(encoding="utf-8")
    for command, output in list(shown(page)):
        printed = printed_by(command).replace(place, HOME)
        if plain(output) != plain(printed):
            new = fitted(output, printed)
            line = f"$ {shlex.join(command)}\n"
            at = text.find(output)
            if at < 0:
                sys.stderr.write(f"{page}: {line}cannot be found again\n")
                continue
            text = text[:at] + new + text[at + len(output) :]
    page.write_text(text, encoding="utf-8")


def main() -> None:
    for pages in ([str(QUICKSTART / "README.md")], RUN, AFTER_RUN):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder).resolve() / "run"
            shutil.copytree(
                QUICKSTART, copy, ignore=shutil.ignore_patterns("*.py", "*.md", "__pycache__")
            )
            os.chdir(copy)
            if pages is AFTER_RUN:
                printed_by(["dsk", "run", "dsk.toml"])
            for page in pages:
                refresh(ROOT / page, str(copy))
                sys.stdout.write(f"{page}\n")
            os.chdir(ROOT)
        if pages[0].endswith("README.md"):
            refresh_translations()


def refresh_translations() -> None:
    """Copy what commands print from the English README and quickstart to their translations."""
    for page in translations.PAGES:
        for language in translations.LANGUAGES:
            path = translations.path_of(page, language)
            text = path.read_text(encoding="utf-8")
            new = translations.with_output(translations.english(page), text)
            path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
