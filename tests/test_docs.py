"""The pages of the commands: one a command, and on it every option; and what the pages of dsk.toml
say is so.
"""

import re
from pathlib import Path

import pytest

from datasetkit.core.errors import Exit
from datasetkit.options import toml
from datasetkit.tools import option_pages
from tests.cli.commands import commands, options

DOCS = Path(__file__).parents[1] / "docs"
COMMANDS = commands()


def page(name: str) -> str:
    return (DOCS / "commands" / f"{name.split()[0]}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_of_a_command_stands_on_its_page(name):
    text = page(name)
    assert re.search(rf"\bdsk {name}\b", text)
    missing = [
        option for option in options(COMMANDS[name]) if not re.search(rf"{option}(?![\w-])", text)
    ]
    assert missing == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_names_no_option_that_its_commands_do_not_have(name):
    mine = {
        o
        for other in COMMANDS
        if other.split()[0] == name.split()[0]
        for o in _all(COMMANDS[other])
    }
    everybodys = {o for command in COMMANDS.values() for o in _all(command)}
    assert _named(page(name)) <= everybodys
    usage = re.findall(rf"^(?:\$ )?dsk {name} .*$", page(name), re.MULTILINE)
    assert {option for line in usage for option in _named(line)} <= mine


def _all(command) -> set[str]:
    return {"--help"} | {
        name for param in command.params for name in (*param.opts, *param.secondary_opts)
    }


def _named(text: str) -> set[str]:
    """Return the options that a text names; those with underscores are other programs'."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*(?![\w-])", text))


def test_every_page_of_a_command_is_one_of_a_command():
    pages = {path.stem for path in (DOCS / "commands").glob("*.md")}
    assert pages == {name.split()[0] for name in COMMANDS}


def test_the_exit_codes_that_the_docs_name_are_those():
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md")))
    for code in {int(code) for code in Exit}:
        assert re.search(rf"\b{code}\b", text), code


def test_the_project_page_names_every_table_of_dsk_toml():
    text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md")))
    assert [name for name in (*toml.TABLES, "concept") if f"[{name}]" not in text] == []


@pytest.mark.parametrize("path", list(option_pages.pages()), ids=lambda path: path.name)
def test_tables_of_options_are_those_that_the_code_gives(path):
    assert option_pages.refreshed(path) == path.read_text(encoding="utf-8"), (
        "run python -m datasetkit.tools.option_pages"
    )


def test_each_table_of_options_stands_on_one_page_and_an_outdated_one_is_noticed():
    text = "\n".join(path.read_text(encoding="utf-8") for path in option_pages.pages())
    for name in option_pages.tables():
        assert text.count(f"<!-- table: {name} -->") == (name != "keys of [train]"), name
    page = DOCS / "configuration.md"
    changed = page.read_text(encoding="utf-8").replace("| `quality` | 95 |", "| `quality` | 94 |")
    assert changed != option_pages.refreshed(page)
