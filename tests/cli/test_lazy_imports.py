"""Asking for help is quick: none of the heavy packages is loaded for it."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = "numpy PIL torch pandas onnxruntime rembg matplotlib huggingface_hub tokenizers cv2".split()
PROGRAM = """
import sys
from datasetkit.cli.main import run
code = run(sys.argv[1:])
print("loaded:", *[name for name in {names!r} if name in sys.modules], file=sys.stderr)
sys.exit(code)
"""


# Typer itself loads pydantic once a command's own options are parsed.
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["--help"], [*HEAVY, "pydantic", "datasetkit.options.declare"]),
        (["--version"], [*HEAVY, "pydantic"]),
        (["plan-repeats", "--help"], [*HEAVY, "datasetkit.options.tag"]),
        (["tag", "--help"], [*HEAVY, "datasetkit.options.images", "datasetkit.options.train"]),
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments, names):
    command = [sys.executable, "-c", PROGRAM.format(names=names), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ended.returncode == 0 and ended.stdout
    assert ended.stderr == "loaded:\n"


# What any command line with typer and rich takes, in the same run: 0.15 s on a machine by itself.
BARE = [sys.executable, "-c", "import typer, rich.console, rich.table"]


# 1.2 and 2.5 times as long were measured, beside other work and alone.
@pytest.mark.parametrize(
    ("arguments", "most"), [(["--help"], 1.7), (["plan-repeats", "--help"], 3.4)]
)
def test_help_takes_little_time(arguments, most):
    dsk = [sys.executable, "-m", "datasetkit", *arguments]
    seconds = [(_cpu_seconds(dsk), _cpu_seconds(BARE)) for _ in range(5)]
    best, bare = map(min, zip(*seconds, strict=True))
    print(f"dsk {' '.join(arguments)}: {best:.3f} s of CPU, {best / bare:.2f} times bare typer")
    assert best < most * bare


def _cpu_seconds(command: list[str]) -> float:
    """Return the user and system time of a child process, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, cwd=ROOT, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
