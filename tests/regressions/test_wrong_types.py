"""A value of a wrong type is answered in words of our own: which option, what it is, what it
should be. The sentences of the library that checks types reach nobody.
"""

from __future__ import annotations

import pytest

from datasetkit.cli import main
from datasetkit.core.errors import ConfigError
from datasetkit.options.declare import declared
from datasetkit.options.run import ConceptOptions
from datasetkit.options.toml import TABLES, build, options_class

# Words of pydantic's messages.
FOREIGN = ("Input should", "a valid", "unable to", "Value error", "pydantic", "For further")
BASE = {"[concept]": {"folder": "imgs"}}
ALL = {**{table: options_class(table) for table in TABLES}, "[concept]": ConceptOptions}


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(main.commands()))
def test_no_option_of_a_command_line_answers_in_foreign_words(name, capsys):
    command = main.commands()[name]
    arguments = ["."] * sum(p.param_type_name == "argument" and p.required for p in command.params)
    for option in [p for p in command.params if p.param_type_name == "option" and not p.is_flag]:
        capsys.readouterr()
        try:
            command.make_context(name, [f"{max(option.opts, key=len)}=x", *arguments])
        except main._UsageError as error:
            assert main._misused(error) == 2
            line, hint = capsys.readouterr().err.strip().splitlines()
            said = line.replace("Invalid value", "")
            assert not [word for word in FOREIGN if word in said], line
            assert any(spelling in line for spelling in option.opts), line
            assert hint.startswith("hint: see "), hint


@pytest.mark.parametrize("table", ALL)
def test_no_key_of_a_dsk_toml_answers_in_foreign_words(table):
    refused = 0
    for option in declared(ALL[table]):
        for value in ("x", 1.5, 7, True, [1], ["x", 1], {"a": 1}, [[1]], -(10**30)):
            try:
                build(
                    ALL[table],
                    {**BASE.get(table, {}), option.name: value},
                    {},
                    where=f"dsk.toml [{table}]",
                )
            except ConfigError as error:
                refused += 1
                said = f"{error.message} {error.hint}"
                assert not [word for word in FOREIGN if word in said], said
                assert option.name in error.message or " is not " not in error.message
                assert "\n" not in error.message
    assert refused


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (("undo", "--to", "x"), "error: Invalid value for '--to': 'x' is not a whole number"),
        (("tag", "imgs", "--threshold", "x"), "--threshold x is neither a number nor pr"),
        (("rename", "imgs", "--start", "1.5"), "'1.5' is not a whole number"),
    ],
)
def test_one_clear_line(typed, line, dsk):
    ended = dsk(*typed)
    assert ended.code == 2 and line in ended.err
