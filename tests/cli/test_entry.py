"""`dsk` from its first line on: an interrupt while it is imported gives no traceback."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A process that interrupts itself when a module is looked for.
PROGRAM = """
import os, signal, sys

module, start = sys.argv[1:]

class Interrupt:
    def find_spec(self, name, *_):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, getattr(signal, start))
sys.meta_path.insert(0, Interrupt())
{call}
"""
DSK = "from datasetkit.__main__ import main; sys.argv = ['dsk', '--version']; main()"
LAUNCH = "from trainer.launch import main; sys.exit(main(['2', 'dataset']))"


def interrupted(call: str, module: str, start: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.replace("{call}", call)
    return subprocess.run(
        [sys.executable, "-c", program, module, start],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.parametrize(
    "module", ["datasetkit.cli", "typer", "datasetkit.core.errors", "datasetkit.cli.project"]
)
def test_an_interrupt_while_a_module_is_imported_ends_without_a_traceback(module):
    ended = interrupted(DSK, module, "default_int_handler")
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "")


def test_an_interrupt_that_was_ignored_from_the_start_stays_ignored():
    ended = interrupted(DSK, "typer", "SIG_IGN")
    assert ended.returncode == 0 and ended.stdout.startswith("dsk ") and not ended.stderr


def test_the_launcher_of_several_processes_says_one_line():
    ended = interrupted(LAUNCH, "accelerate", "default_int_handler")
    assert (ended.returncode, ended.stderr) == (130, "error: interrupted\n")


def test_the_program_starts_there_and_nothing_heavy_comes_first():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["scripts"] == {"dsk": "datasetkit.__main__:main"}
    program = "import sys; import datasetkit.__main__; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert [name for name in loaded if name.startswith("datasetkit")] == [
        "datasetkit", "datasetkit.__main__",
    ]  # fmt: skip
    assert "typer" not in loaded and "numpy" not in loaded
