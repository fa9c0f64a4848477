"""Every command explains itself: a sentence, an example that is valid, and a line for each argument
and option.
"""

import re
import shlex
from dataclasses import fields

import pytest

from datasetkit.cli import main
from datasetkit.cli.command import HOW
from datasetkit.cli.help import WANT
from datasetkit.options import toml
from datasetkit.options.declare import declared
from tests.cli.commands import commands, options

COMMANDS = commands()
GROUPS = ("faces", "models", "lora")


def test_the_commands_are_these():
    assert sorted(COMMANDS) == sorted([
        "rename", "resize", "cutout", "faces list", "faces crop", "faces erase", "tag", "caption",
        "scores",
        "rules", "review", "studio", "check", "plan-repeats", "layout", "reg", "reg generate",
        "report",
        "export", "import", "train", "find-lr", "grid", "lora info", "lora check",
        "lora resize", "lora convert", "lora merge", "lora extract", "keep", "publish",
        "init",
        "run", "undo", "history", "doctor", "models list",
        "models download", "models where", "jobs list", "jobs add", "jobs stop",
        "jobs ask", "jobs resume", "jobs log", "jobs hold", "jobs move", "jobs remove",
        "jobs runner",
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


@pytest.mark.parametrize("columns", ["80", "200"])
@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_that_is_printed_loses_nothing(dsk, name, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    ended = dsk(*name.split(), "--help")
    assert ended.code == 0 and ended.err == ""
    printed = " ".join(ended.out.split())
    assert f"Usage: dsk {name}" in printed and "Example: dsk " in printed
    for param in COMMANDS[name].params:
        if param.name != "help":
            words = re.sub(r"\\\[", "[", param.help).split()
            assert all(word in printed for word in words), param.name


@pytest.mark.parametrize("columns", [40, 80, 120])
@pytest.mark.parametrize("name", ["", *GROUPS, *COMMANDS])
def test_help_breaks_no_word_and_fits_the_terminal(dsk, name, columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    words = set(dsk(*name.split(), "--help").out.split())
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = dsk(*name.split(), "--help").out
    for line in printed.splitlines():
        assert line == line.rstrip() and len(line) <= columns
    longest = columns * 2 // 3 - 4  # a longer word has to be broken
    assert set(printed.split()) >= {word for word in words if len(word) <= longest}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_explanations_have_half_of_80_columns(dsk, name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    printed = dsk(*name.split(), "--help").out
    panels = printed[printed.index(HOW) :].splitlines()[1:]
    assert len(panels[0]) - len(panels[0].lstrip()) == 2
    starts = {len(line) - len(line.lstrip()) for line in panels} - {0, 2}
    assert starts <= {max(starts, default=0)} and max(starts, default=0) <= 30
    assert "<" not in re.sub("<(repeats|concept|class|max)>|score:<0.4", "", printed)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_under_the_heading_that_its_declaration_says(dsk, name):
    command = COMMANDS[name]
    printed = dsk(*name.split(), "--help").out
    want = printed.partition(f"\n{WANT}\n")[2].partition(f"\n{HOW}\n")[0]
    how = printed.partition(f"\n{HOW}\n")[2]
    declarations = declared(toml.options_class(command.table)) if command.table else ()
    panels = {d.name: d.about.panel for d in declarations}
    for param in command.params:
        if param.param_type_name == "option":
            default = HOW if param.name in ("dry_run", "json", "wait", "help") else None
            panel = panels.get(param.name, default or param.rich_help_panel or WANT)
            flag = next(name for name in param.opts if name.startswith("--"))
            assert re.search(rf"^  (-\w, )?{flag}\b", how if panel == HOW else want, re.MULTILINE)


@pytest.mark.parametrize("name", GROUPS)
def test_a_group_of_commands_has_an_example_that_is_parsed(dsk, name):
    printed = dsk(name, "--help").out
    line = next(line for line in printed.splitlines() if line.startswith("Example: dsk "))
    first, second, *rest = shlex.split(line.removeprefix("Example: dsk "))
    assert first == name
    COMMANDS[f"{first} {second}"].make_context(second, rest)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_json_and_those_that_change_something_a_dry_run(name):
    has = set(options(COMMANDS[name]))
    if name in ("review", "studio"):  # it runs until it is stopped, and its result is a page
        return
    assert "--json" in has
    if name not in (
        "scores",
        "history",
        "doctor",
        "models list",
        "models where",
        "models download",
        "lora info",
        "jobs list",
        "jobs stop",
        "jobs ask",
        "jobs add",
        "jobs resume",
        "jobs log",
        "jobs hold",
        "jobs move",
        "jobs remove",
        "jobs runner",
    ):
        assert {"--dry-run", "--wait"} <= has


# Where an option has another name on the command line than in dsk.toml.
SPELT = {"source": "from", "class_name": "class"}
# What only one of the two has.
ONLY_FILE = {
    "reg": {"folder"},
    "rules": {"workers"},
    "layout": {"images", "kind"},
    "rename": {"prefix"},
    # Of dsk studio, which reads the same table.
    "review": {"allow_import", "keep_token", "new", "root", "stay"},
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
