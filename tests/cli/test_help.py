"""Every command explains itself: a sentence, an example that is valid, and a line for each argument
and option.
"""

import re
import shlex
from dataclasses import fields

import pytest

from datasetkit.cli import main
from datasetkit.options import toml
from datasetkit.options.declare import declared
from tests.cli.commands import commands, options

COMMANDS = commands()


def test_the_commands_are_these():
    assert sorted(COMMANDS) == sorted([
        "rename", "resize", "cutout", "faces list", "faces crop", "faces erase", "tag", "scores",
        "rules", "review", "check", "plan-repeats", "layout", "reg", "reg generate", "report",
        "export", "import", "train", "init", "run", "undo", "history", "doctor", "models list",
        "models download", "models where",
    ])  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_an_example_and_a_line_for_each_parameter(name):
    command = COMMANDS[name]
    first = command.help.split("\n\n")[0]
    assert first.strip().endswith(".")
    assert re.search(r"^Example: dsk ", command.help, re.MULTILINE)
    for param in command.params:
        assert param.help and param.help.rstrip().endswith((".", ")", "..."))
        assert param.help == param.help.strip() and param.help[0] not in " -"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_paragraph_of_help_is_wrapped_by_the_terminal_alone(name):
    assert not re.search(r"\S\n\S", COMMANDS[name].help)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_parsed_by_its_command(name):
    command = COMMANDS[name]
    line = next(line for line in command.help.splitlines() if line.startswith("Example: dsk "))
    words = shlex.split(line.removeprefix("Example: dsk "))
    assert words[: len(name.split())] == name.split()
    command.make_context(name, words[len(name.split()) :])  # raises for what it does not understand


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_that_is_printed_loses_nothing_to_markup(dsk, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    ended = dsk(*name.split(), "--help")
    assert ended.code == 0 and ended.err == ""
    printed = " ".join(re.sub(r"[│╭╮╰╯─]", " ", ended.out).split())
    assert f"Usage: dsk {name}" in printed and "Example: dsk " in printed
    for param in COMMANDS[name].params:
        if param.name != "help":
            words = re.sub(r"\\\[", "[", param.help).split()
            assert all(word in printed for word in words), param.name


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_and_those_that_change_something_a_dry_run(name):
    has = set(options(COMMANDS[name]))
    if name == "review":  # it runs until it is stopped, and its result is a page
        return
    assert "--json" in has
    if name not in (
        "scores",
        "history",
        "doctor",
        "models list",
        "models where",
        "models download",
    ):
        assert {"--dry-run", "--wait"} <= has


# Where an option has another name on the command line than in dsk.toml.
SPELT = {"source": "from", "class_name": "class"}
# What only one of the two has.
ONLY_FILE = {
    "reg": {"folder"},
    "rules": {"workers", "max_pixels"},
    "layout": {"images", "kind"},
    "rename": {"prefix"},
}


@pytest.mark.parametrize(
    "table", [t for t in toml.TABLES if t in COMMANDS and t not in ("run", "train")]
)
def test_a_command_has_an_option_for_each_key_of_its_table(table):
    keys = {f.name for f in fields(toml.options_class(table))} - ONLY_FILE.get(table, set())
    wanted = {"--" + SPELT.get(key, key).replace("_", "-") for key in keys}
    assert wanted <= set(options(COMMANDS[table]))


@pytest.mark.parametrize("table", [t for t in toml.TABLES if t in COMMANDS and t != "train"])
def test_the_printed_defaults_are_those_of_the_options(table):
    defaults = {d.name: d for d in declared(toml.options_class(table))}
    for param in COMMANDS[table].params:
        d = defaults.get(param.name)
        if d is not None and isinstance(param.show_default, str):
            assert param.show_default in (d.about.shown, str(d.default), d.name), d.name
            assert param.default is None
    shown = {param.name: param.show_default for param in COMMANDS["tag"].params}
    assert (shown["threshold"], shown["existing"], shown["trigger"]) == ("0.35", "skip", False)


def completions(monkeypatch, capsys, *words: str) -> list[str]:
    """Return what the shell is offered behind some words."""
    monkeypatch.setenv("_DSK_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(("dsk", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert main.run([]) == 0
    printed: str = capsys.readouterr().out
    return printed.split()


def test_the_shell_completes_commands_options_and_choices(monkeypatch, capsys):
    assert completions(monkeypatch, capsys, "pl") == ["plan-repeats"]
    assert completions(monkeypatch, capsys, "tag", "--thr") == ["--threshold"]
    assert completions(monkeypatch, capsys, "resize", "--mode", "") == ["long-edge", "area"]
    assert completions(monkeypatch, capsys, "faces", "crop", "--min") == ["--min-size"]
