"""Each option is declared once: with help, a range or a reason for none, and what it is for."""

import json
import re
from dataclasses import dataclass, replace
from typing import Literal

import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.options import toml
from datasetkit.options.command_line import typed
from datasetkit.options.declare import (
    CheckedOptions,
    DeclaredOption,
    by_name,
    declared,
    describe,
    option,
)
from datasetkit.options.run import ConceptOptions
from datasetkit.options.train import TrainOptions
from tests.cli.commands import commands
from trainer.families.registry import FAMILIES

CLASSES = {**{name: toml.options_class(name) for name in toml.TABLES}, "concept": ConceptOptions}
COMMANDS = commands()
OPTIONS = [(table, d) for table, cls in CLASSES.items() for d in declared(cls)]
each_option = pytest.mark.parametrize(
    ("table", "d"), OPTIONS, ids=[f"{table}.{d.name}" for table, d in OPTIONS]
)


@each_option
def test_an_option_says_what_it_does_and_when_to_change_it(table: str, d: DeclaredOption):
    about = d.about
    assert about.help[0] not in " -" and about.help.rstrip().endswith((".", "..."))
    assert not about.change.endswith(".") and d.group
    assert about.change or table in ("concept", "run")


@each_option
def test_a_number_has_a_range_or_says_why_not(table: str, d: DeclaredOption):
    if d.is_number and not (d.choices and d.about.range is None):
        assert (d.about.range is None) == bool(d.about.no_range)
    if d.about.range is not None:
        low, high = d.about.range
        assert d.is_number and low < high


@each_option
def test_a_default_is_within_what_is_declared_of_it(table: str, d: DeclaredOption):
    about = d.about
    if d.choices and isinstance(d.default, str):
        assert d.default in d.choices
    if d.default is None:
        assert about.shown, "a table has to say what None means"
    if isinstance(d.default, int | float) and about.range is not None:
        assert about.range[0] <= d.default <= about.range[1]
    for low, high in about.usual.values():
        assert low <= high and (about.range is None or about.range[0] <= low)
        assert about.range is None or high <= about.range[1]
    assert {*about.usual, *about.families} <= set(FAMILIES)
    assert about.needs == "" or about.needs in by_name(CLASSES[table])


# The number is no range: the value for one optimizer, or one that is not usual.
NOT_RANGES = {"bucket_reso_steps", "max_grad_norm", "prior_loss_weight", "sample_every_n_epochs",
              "save_every_n_epochs", "lr_scheduler_power"}  # fmt: skip


@pytest.mark.parametrize("d", declared(CLASSES["train"]), ids=lambda d: d.name)
def test_a_form_gets_the_usual_numbers_that_the_text_states(d: DeclaredOption):
    stated = re.search(r"([\d.]+)(?: to ([\d.]+))?", d.about.change)
    if d.is_number and stated is not None and d.name not in NOT_RANGES:
        low, high = float(stated[1]), float(stated[2] or stated[1])
        assert any(least <= low <= high <= most for least, most in d.about.usual.values())


def test_the_ten_options_of_the_training_form_have_their_slots():
    slots = {d.about.slot for _, d in OPTIONS if d.about.slot is not None}
    assert slots == set(range(1, 11))


def test_values_that_can_run_code_are_marked():
    about = by_name(TrainOptions)
    assert [n for n in about if about[n].imports_code] == ["optimizer_type", "lr_scheduler_type"]
    assert [n for n in about if about[n].literal] == [
        "network_args",
        "optimizer_args",
        "lr_scheduler_args",
    ]


@pytest.mark.parametrize("cls", CLASSES.values())
def test_a_description_is_plain_data(cls):
    described = describe(cls)
    assert [one["name"] for one in described] == [d.name for d in declared(cls)]
    read = json.loads(json.dumps(described))
    assert all(one["help"] and one["types"] for one in read)


def test_types_are_described_in_words():
    types = {one["name"]: one["types"] for one in describe(TrainOptions)}
    assert types["resolution"] == ["int", "pair of int"]
    assert types["network_args"] == ["list of str"]
    assert types["mixed_precision"] == ["str"] and types["v2"] == ["bool"]
    assert types["lr_warmup_steps"] == ["int", "float", "str"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example(CheckedOptions):
    share: float | tuple[float, float] = option(0.5, "A share.", range=(0, 1), group="One")
    mode: Literal["a", "bc"] = option("a", "A mode.")
    words: tuple[str, ...] = option((), "Words.", choices=("red", "green"), group="Two")
    length: int = option(75, "A length.", choices=(75, 150))
    switch: bool = option(False, "A switch.", range=(5, 6))


@pytest.mark.parametrize(
    ("wrong", "message", "hint"),
    [
        ({"share": 1.5}, "share = 1.5 is out of range", "from 0 to 1"),
        ({"share": (0.5, -1.0)}, "share = -1 is out of range", "from 0 to 1"),
        ({"mode": "bd"}, "mode = 'bd' is not known", "choose a, bc"),
        ({"words": ("red", "grean")}, "words = 'grean' is not known", "did you mean 'green'?"),
        ({"length": 76}, "length = 76 is not known", "give 75 or 150"),
    ],
)
def test_what_is_declared_is_checked(wrong, message, hint):
    with pytest.raises(ConfigError) as caught:
        replace(Example(), **wrong)
    assert message in caught.value.message and hint in caught.value.hint


def test_a_heading_holds_until_the_next_and_switches_have_no_range():
    assert [d.group for d in declared(Example)] == ["One", "One", "Two", "Two", "Two"]
    assert Example(switch=True).switch


# Options of [train] are typed as --set name=value.
FLAGS = [(t, d) for t, d in OPTIONS if bool in d.kinds and t in COMMANDS and t != "train"]


@pytest.mark.parametrize(("table", "d"), FLAGS, ids=str)
def test_a_flag_is_switched_off_as_its_command_takes_it(table: str, d: DeclaredOption):
    words = typed(table, {d.name: False})
    parameters = [p for p in COMMANDS[table].params if p.name == d.name]
    assert words == [d.off_switch]
    assert all(d.off_switch in parameter.secondary_opts for parameter in parameters)
