"""Each command has one module in datasetkit/verbs, and none imports another."""

import ast
from pathlib import Path

import pytest

import datasetkit.verbs
from tests.cli.commands import commands

VERBS = Path(datasetkit.verbs.__file__).parent
# `dsk check --as` has one module per trainer, `dsk import` one for other tools' datasets,
# and one for shards.
MORE = {"check_as_sd_scripts", "import_dataset", "import_shards"}
MODULES = {p.stem for p in VERBS.iterdir() if not p.stem.startswith("__") and p.stem != "shared"}
# A run calls the other commands, and so does the studio.
CALLS_OTHERS = {"run", "studio"}


def module_of(command: str) -> str:
    """Return the name of a command's module."""
    name = command.replace(" ", "_").replace("-", "_")
    return f"{name}_" if name == "import" else name


def test_each_command_has_a_module_of_its_name():
    assert {module_of(name) for name in commands()} | MORE == MODULES


@pytest.mark.parametrize("module", sorted(MODULES - CALLS_OTHERS))
def test_no_command_imports_another(module):
    path = VERBS / module
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    imported = {
        name
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (name := node.module or "").startswith("datasetkit.verbs.")
    }
    used = {name.split(".")[2] for name in imported}
    assert used <= {"shared", module}
