"""`dsk init --example`: what is copied, and that it is the example of the repository."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

import datasetkit
from datasetkit import api
from datasetkit.core.errors import InputError, PlanConflict
from datasetkit.options.toml import find
from datasetkit.verbs.review.session import ReviewSession, open_session
from tests.cli.conftest import snapshot

SHIPPED = Path(datasetkit.__file__).parent / "example"
SOURCE = Path(datasetkit.__file__).parents[1] / "examples" / "tiny-lora"


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".dsk" not in path.parts
    }


def test_the_example_is_copied_into_a_new_folder_and_undone(dsk, here):
    ended = dsk("init", "new", "--example")
    assert ended.code == 0, ended.err
    copied = files(here / "new")
    assert copied == files(SHIPPED)
    assert len([name for name in copied if name.startswith("faces/")]) == 48
    assert len([name for name in copied if name.startswith("girls/")]) == 64
    assert sum(map(len, copied.values())) < 1_000_000
    assert dsk("init", "new", "--example").code == 2
    api.undo(here / "new")
    assert files(here / "new") == {}


def test_the_example_is_that_of_the_repository_with_its_trigger_and_its_girls_pruned(here):
    if not SOURCE.is_dir():
        pytest.skip("the repository is not here")
    shutil.copytree(SOURCE, here / "e")
    api.rules(here / "e" / "faces", api.RulesOptions(trigger=("kitsu",)))
    pruned = api.RulesOptions(exclude=("* hair", "sunglasses"), where="name:girl-0 OR name:girl-1")
    api.rules(here / "e" / "girls", pruned)
    made, shipped = files(here / "e"), files(SHIPPED)
    for name, data in shipped.items():
        if name not in ("dsk.toml", "prompts.txt"):  # its training is shorter
            assert data == made[name], name


def test_files_in_the_way_are_not_replaced(here):
    (here / "faces").mkdir()
    (here / "faces" / "kitsu-01.txt").write_text("mine")
    before = snapshot(here, all_of_it=False)
    with pytest.raises((PlanConflict, InputError)):
        api.init_example(here)
    assert snapshot(here, all_of_it=False) == before


def test_a_dry_run_copies_nothing(here):
    result = api.init_example(here / "new", api.RunContext(dry_run=True))
    assert result.entry is None and not (here / "new").exists()


def test_its_one_pose_is_meant_for_the_check_and_for_the_page(here):
    api.init_example(here)
    (here / "dsk.toml").write_text(
        (here / "dsk.toml").read_text().replace("keep_dup", "# keep_dup")
    )
    assert len(near_duplicates(here)) > 12, "they are near-duplicates"
    shutil.copy(SHIPPED / "dsk.toml", here)
    assert near_duplicates(here) == []
    with open_session(here / "faces", api.ReviewOptions(), api.RunContext()) as session:
        wait_until_compared(session)
        assert len(session.near_duplicates.groups()) > 1
        assert session.near_duplicates.offered().groups == ()


def near_duplicates(folder: Path) -> list[object]:
    options = find(folder).build(api.CheckOptions, "check", {"only": ("near-duplicate",)})
    return list(api.check(folder, options, context=api.RunContext(dry_run=True)).findings)


def wait_until_compared(session: ReviewSession) -> None:
    end = time.monotonic() + 60
    while len(set(session.near_duplicates.progress())) > 1:
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.long
def test_the_example_is_laid_out_and_planned(here):
    api.init_example(here)
    api.run(here)
    plan = api.plan_training(here)
    assert plan.plan.steps == 144
