"""If an edit of the page is killed or a system call fails, no caption is lost."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from datasetkit.core.errors import Exit
from datasetkit.options.review import ReviewOptions
from datasetkit.project.session import DEFAULT_CONTEXT
from datasetkit.verbs.review.dataset import Scope
from datasetkit.verbs.review.session import load_editor
from tests.safety.datasets import small_set
from tests.safety.harness import FULL, Case, Trials, Watch, damage, in_child

KILLS, FAULTS = 10, 6


def _build(root: Path) -> None:
    small_set(root / "imgs", 8)


def _apply(root: Path, where: str, wanted: dict[str, Any]) -> None:
    """Load the dataset as the page does, and apply one operation."""
    editor, _ = load_editor(root / "imgs", ReviewOptions(), DEFAULT_CONTEXT)
    editor.apply(editor.dataset.version, Scope("where", where), wanted)


@pytest.fixture(scope="module", autouse=True)
def warm(module_path: Path) -> None:
    """Edit once in this process: the forked children inherit the modules and the vocabulary."""
    _build(module_path)
    _apply(module_path, "", {"remove": ["lips"]})


CASES = {
    "remove": Case("remove", _build, lambda root: _apply(root, "", {"remove": ["lips"]})),
    "exclude": Case(
        "exclude", _build, lambda root: _apply(root, 'name:"photo 2" OR tag:lips', {"drop": True})
    ),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_a_killed_edit_loses_nothing_and_is_finished_at_the_next_start(name, tmp_path):
    trials = Trials(CASES[name], tmp_path / "t")
    draw = random.Random(name)
    moments = sorted(draw.sample(range(1, trials.points + 1), min(KILLS, trials.points)))
    assert [problem for at in moments for problem in trials.killed(at=at)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_kill_at_any_system_call_loses_nothing(name, tmp_path):
    trials = Trials(CASES[name], tmp_path / "t")
    assert [problem for at in range(1, trials.points + 1) for problem in trials.killed(at=at)] == []


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_a_failed_system_call_damages_nothing_and_the_next_start_completes_the_edit(name, tmp_path):
    trials = Trials(CASES[name], tmp_path / "t")
    root = trials.fresh("count")
    calls = in_child(trials.case.run, root=root, watch=Watch(root, statements=False)).points
    for at in sorted(random.Random(name).sample(range(1, calls + 1), min(FAULTS, calls))):
        root = trials.fresh("trial")
        ended = in_child(
            trials.case.run, root=root, watch=Watch(root, at=at, strike=FULL, statements=False)
        )
        is_unread = ended.code == Exit.USAGE and "cannot read" in ended.output
        assert is_unread or ended.code in (Exit.DONE, Exit.STORAGE), ended.output
        assert damage(root, trials.before, trials.after, trials.images) == []
        assert trials.again(root).code == 0 and trials.differences(root) == []
