"""The tasks for systems without make do what the Makefile does."""

import re
from pathlib import Path

import pytest

from datasetkit.tools import tasks

MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """What a task runs, in a clone without an environment; nothing is run."""
    ran: list[tuple[str, ...]] = []
    for name in (
        "examples/quickstart/images",
        "examples/quickstart/reg-images",
        "examples/tiny-lora",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "examples/quickstart/dsk.toml").touch()
    monkeypatch.setattr(tasks, "ROOT", tmp_path)
    monkeypatch.setattr(tasks, "VENV", tmp_path / ".venv")

    def run_task(name: str) -> list[tuple[str, ...]]:
        ran.clear()
        tasks.TASKS[name](lambda *command, cwd=None: ran.append(command))
        return list(ran)

    return run_task


@pytest.mark.parametrize("name", list(tasks.TASKS))
def test_each_task_is_a_target_of_the_makefile_and_makes_the_environment_first(name, commands):
    assert re.search(rf"^{name}: ", MAKEFILE, re.MULTILINE)
    ran = commands(name)
    assert ran[0][1:3] == ("-m", "venv")
    assert any("--constraint" in command for command in ran)


def test_a_second_task_installs_nothing(commands):
    commands("setup")
    assert all("pip" not in command for command in commands("demo"))


def test_the_steps_of_the_examples_are_those_of_the_makefile(commands):
    lines = " ".join(MAKEFILE.replace("\\\n", " ").replace('"', "").replace("'", "").split())
    for name in ("demo", "train", "test"):
        for command in commands(name):
            words = [w for w in command[1:] if w not in ("-m", "datasetkit", "pytest")]
            if "install" not in words and "venv" not in words and command[1:3] != ("-m", "pip"):
                assert " ".join(words).replace("tiny-out", "$(TINY)") in lines or words[0] == "-n"


def test_the_environment_of_windows_has_its_python_elsewhere(commands, monkeypatch):
    assert tasks.python().as_posix().endswith(".venv/bin/python")
    with pytest.raises(SystemExit, match="setup"):
        tasks.main([])
