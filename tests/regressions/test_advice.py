"""Advice about numbers is rare, short and true: the numbers of published tutorials need none, and
nobody is held to a wish that they did not make.
"""

from __future__ import annotations

import pytest

from datasetkit.core.errors import Exit
from datasetkit.dataset import advice
from datasetkit.dataset.advice import USUAL
from datasetkit.dataset.buckets import BucketRules
from datasetkit.dataset.repeats import BatchSettings, ConceptImages, plan
from tests.cli.conftest import write_image

# Concepts (name, images, repeats), epochs, batch and kind of five tutorials.
TUTORIALS = [
    pytest.param([("mycloths", 30, 6)], 10, 1, "garment", id="1,800 steps of a garment"),
    pytest.param([("mycloths", 30, 6)], 10, 1, "character", id="1,800 steps, kind not given"),
    pytest.param([("mywife", 100, 10)], 10, 1, "character", id="100 faces"),
    pytest.param([("ZhangNaYing", 35, 30)], 1, 1, "character", id="1,050 in one epoch"),
    pytest.param([("ZhangNaYing", 35, 30)], 10, 1, "character", id="1,050 an epoch"),
    pytest.param([("nekochan", 76, 1), ("maid", 16, 6)], 10, 1, "character", id="172 an epoch"),
    pytest.param([("outfit", 10, 20)], 10, 2, "character", id="20 repeats"),
    pytest.param([("MikamiYua", 15, 20)], 10, 2, "character", id="15 photos"),
]


@pytest.mark.parametrize(("concepts", "epochs", "batch", "kind"), TUTORIALS)
def test_the_numbers_of_tutorials_need_no_advice(concepts, epochs, batch, kind):
    images = [ConceptImages(n, count=i, repeats=r) for n, i, r in concepts]
    made = plan(
        images,
        rules=BucketRules.standard(512),
        batch_settings=BatchSettings(epochs, batch),
        steps=1000,
    )
    lines = advice.advice(made, kind)
    assert [line for line in lines if "one bucket is assumed" not in line] == []


@pytest.mark.parametrize("kind", USUAL)
@pytest.mark.parametrize(("images", "repeats"), [(3, 1), (5000, 90)])
def test_numbers_far_off_get_one_line_for_each_kind(kind, images, repeats):
    made = plan(
        [ConceptImages("x", count=images, repeats=repeats)],
        rules=BucketRules.standard(512),
        batch_settings=BatchSettings(),
        steps=None,
    )
    [line] = advice.advice(made, kind)
    assert kind in line and "\n" not in line


@pytest.mark.parametrize(("repeats", "change"), [(1, "repeats"), (None, "--steps")])
def test_steps_are_advised_only_where_they_change_the_repeats(repeats, change):
    made = plan(
        [ConceptImages("x", count=3, repeats=repeats)],
        rules=BucketRules.standard(512),
        batch_settings=BatchSettings(),
        steps=30,
    )
    [line] = [line for line in advice.advice(made) if "samples in all" in line]
    assert line.endswith(f"use more epochs or more {change}")


def laid_out(here, name="3_sks", number=6):
    for n in range(number):
        write_image(here / "ds" / "train" / name / f"{n}.png", n)


def test_a_laid_out_dataset_is_counted_as_it_is(dsk, here):
    laid_out(here, number=100)
    ended = dsk("plan-repeats", "ds")
    assert "now" not in ended.out and "\n- " not in ended.out
    result = dsk("plan-repeats", "ds", "--json").result
    assert result["plan"]["concepts"][0]["repeats"] == 3
    assert result["plan"]["steps"] is None


@pytest.mark.parametrize("source", ["command line", "dsk.toml"])
def test_a_wish_that_somebody_made_is_planned_for(source, dsk, here):
    laid_out(here)
    if source == "dsk.toml":
        (here / "ds" / "dsk.toml").write_text("[plan-repeats]\nsteps = 300\n")
    given = ["--steps", "300"] if source == "command line" else []
    assert "5 (now 3)" in dsk("plan-repeats", "ds", *given).out


def test_apply_needs_a_wish_and_names_the_option(dsk, here):
    laid_out(here)
    ended = dsk("plan-repeats", "ds", "--apply")
    assert ended.code == Exit.USAGE
    options = ended.err.split("hint: ")[1].split()
    assert dsk("plan-repeats", "ds", *options).code == Exit.DONE


@pytest.mark.parametrize("verb", [("layout", "6_mycloths=pics"), ("plan-repeats", "pics")])
@pytest.mark.parametrize("kind", USUAL)
def test_every_kind_can_be_given(verb, kind, dsk, here):
    write_image(here / "pics" / "a.png", 3)
    assert dsk(*verb, "--kind", kind).code == Exit.DONE


@pytest.mark.parametrize("kind", USUAL)
def test_check_takes_every_kind(kind, dsk, here):
    write_image(here / "pics" / "a.png", 3)
    assert dsk("check", "pics", "--kind", kind, "--only", "small").code == Exit.DONE
