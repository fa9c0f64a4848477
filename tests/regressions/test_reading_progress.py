"""Each command that reads a whole dataset reports how many of its images it has looked at: a
million take minutes.
"""

from __future__ import annotations

import pytest

from datasetkit import api
from datasetkit.core.progress import SilentReporter
from tests.cli.conftest import images

NUMBER = 3


class Looked(SilentReporter):
    def __init__(self):
        self.totals, self.done, self.label = [], 0, ""

    def start(self, label, total):
        self.label = label
        if label == "looking":
            self.totals.append(total)

    def advance(self, n=1):
        if self.label == "looking":
            self.done += n


@pytest.fixture
def folder(here):
    for image in images(here / "imgs", NUMBER):
        image.with_suffix(".txt").write_text("sks, smile\n")
    for image in images(here / "girls", 2):
        image.with_suffix(".txt").write_text("1girl\n")
    return here / "imgs"


def read_layout(folder, context):
    api.layout([f"2_sks={folder}"], api.LayoutOptions(), context)


def read_layout_with_reg(folder, context):
    read_layout(folder, api.RunContext())
    options = api.RegOptions(
        folder="girls", class_name="1girl", captions="derive", trigger=("sks",)
    )
    api.reg(options, context)


COMMANDS = {
    "layout": (read_layout, [NUMBER]),
    # The training set for its samples, then the class images, then the training set's captions.
    "reg": (read_layout_with_reg, [NUMBER, 2, NUMBER]),
    "plan-repeats": (
        lambda folder, context: api.plan_repeats(
            folder, api.PlanRepeatsOptions(), context=context
        ),
        [NUMBER],
    ),
    "export": (
        lambda folder, context: api.export(
            folder, api.ExportOptions(format="kohya", out="out"), context
        ),
        [NUMBER],
    ),
    "report": (
        lambda folder, context: api.report(
            folder, api.ReportOptions(where="tag:smile"), context
        ),
        [NUMBER, NUMBER],
    ),
    "rules": (
        lambda folder, context: api.rules(folder, api.RulesOptions(exclude=("smile",)), context),
        [NUMBER],
    ),
    "check": (
        lambda folder, context: api.check(folder, api.CheckOptions(), context=context),
        [NUMBER],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reports_the_images_that_it_looks_at(folder, name):
    run, totals = COMMANDS[name]
    looked = Looked()
    run(folder, api.RunContext(reporter=looked))
    assert looked.totals == totals
    assert looked.done == sum(totals)
