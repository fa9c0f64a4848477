"""The tasks of the Makefile for systems without make: `python -m datasetkit.tools.tasks demo`.

It runs with any Python 3.11 before anything is installed: only the standard library is imported.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
VENV: Final = ROOT / ".venv"
# From the extra `optimizers`, for the tests; without bitsandbytes, which is large.
OPTIMIZERS: Final = (
    "schedulefree", "prodigy-plus-schedule-free", "prodigyopt", "dadaptation", "lion-pytorch",
)  # fmt: skip
Run = Callable[..., None]


def python() -> Path:
    """Return the Python of the virtual environment."""
    return VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def setup(run: Run, *, train: bool = False) -> None:
    """Make .venv, and install the package with the development tools."""
    mark = VENV / (".ready-train" if train else ".ready")
    if mark.is_file():
        return
    runtime = "gpu" if shutil.which("nvidia-smi") else "cpu"
    extras = f".[dev,{runtime}{',train' if train else ''}]"
    more = OPTIMIZERS if train else ()
    if not python().is_file():
        run(sys.executable, "-m", "venv", str(VENV))
    pip = (str(python()), "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt")
    run(*pip, "--editable", extras, *more)
    VENV.mkdir(exist_ok=True)
    mark.touch()


def demo(run: Run) -> None:
    """Run the quickstart on a copy in demo-out/."""
    setup(run)
    out = ROOT / "demo-out"
    for folder in ("images", "reg-images"):
        shutil.copytree(ROOT / "examples/quickstart" / folder, out / folder, dirs_exist_ok=True)
    if not (out / "dsk.toml").is_file():
        shutil.copy(ROOT / "examples/quickstart/dsk.toml", out)
    _dsk(run, out, "run", "dsk.toml")
    _dsk(run, out, "plan-repeats", "dataset")


def train(run: Run) -> None:
    """Train a fox girl on the tiny base, in tiny-out/; some minutes."""
    setup(run, train=True)
    out = ROOT / "tiny-out"
    if not (out / "dataset" / "reg").is_dir():
        shutil.copytree(ROOT / "examples/tiny-lora", out, dirs_exist_ok=True)
        faces = "fox ears,orange hair,medium hair,red scarf,sunglasses"
        _dsk(run, out, "rules", "faces", "--trigger", "kitsu", "--exclude", faces)
        which = "name:girl-0 OR name:girl-1"
        _dsk(run, out, "rules", "girls", "--exclude", "* hair,sunglasses", "--where", which)
        _dsk(run, out, "layout", "5_kitsu=faces")
        _dsk(run, out, "reg")
    _dsk(run, ROOT, "train", "tiny-out")


def check(run: Run) -> None:
    """Lint, format, types, import rules."""
    setup(run, train=True)
    for module in (["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]):
        run(str(python()), "-m", *module)
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    run(str(python()), "-c", code)


def test(run: Run) -> None:
    """Run all tests except the long and slow ones."""
    setup(run)
    run(str(python()), "-m", "pytest", "-n", "3", "-m", "not slow and not long")


TASKS: Final = {task.__name__: task for task in (setup, demo, train, check, test)}


def _dsk(run: Run, folder: Path, *arguments: str) -> None:
    run(str(python()), "-m", "datasetkit", *arguments, cwd=folder)


def _run(*command: str, cwd: Path = ROOT) -> None:
    if code := subprocess.run(command, cwd=cwd, check=False).returncode:
        raise SystemExit(code)


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1 or arguments[0] not in TASKS:
        lines = (f"  {name:<6} {task.__doc__}" for name, task in TASKS.items())
        raise SystemExit("\n".join(["python -m datasetkit.tools.tasks TASK", *lines]))
    TASKS[arguments[0]](_run)


if __name__ == "__main__":
    main(sys.argv[1:])
