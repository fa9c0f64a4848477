"""The page of `dsk check` lists every check with its measure, threshold and fix, as the table of
checks has them.
"""

import re
from pathlib import Path

import pytest

from datasetkit.checks import registry
from datasetkit.checks.base import GROUPS, Check

PAGE = Path(__file__).parents[2] / "docs" / "commands" / "check.md"


def row(check: Check) -> str:
    """Return the line of a check; what --fix does stands in bold."""
    values = {
        "folder": "DIR",
        "dataset": "DIR",
        "out": "",
        "contact_sheet": "check.png",
        "trigger": "NAME",
    }
    step = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], check.step)
    last = f"**{check.fix}**" if check.fix else step
    return f"| `{check.name}` | {check.measure} | {check.threshold} | {last} |"


def rows(group: str) -> str:
    """Return the lines of a group."""
    return "\n".join(row(check) for check in registry.CHECKS.values() if check.group == group)


@pytest.mark.parametrize("group", GROUPS)
def test_the_page_has_the_row_of_every_check(group):
    assert rows(group) in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("check", registry.CHECKS.values(), ids=lambda check: check.name)
def test_a_check_has_a_title_measure_threshold_and_step(check):
    assert check.title and check.measure and check.threshold
    assert check.step
    assert ("--fix" in check.step) == bool(check.fix)
