"""No command reads a half-done dataset: it completes what was interrupted first, or stops."""

from __future__ import annotations

import os
import shutil

import pytest

from datasetkit import api
from datasetkit.cli.main import commands
from datasetkit.core.errors import HalfDone, Locked
from datasetkit.project import file_ops, journal
from datasetkit.project.locks import lock
from datasetkit.project.session import RunContext, open_project
from tests.cli.conftest import dsk, here, images, toy_tagger, write_image  # noqa: F401 - fixtures
from tests.taggers.test_florence2 import TINY

IMAGES = 6
# What each command is called with on the half-done dataset `dataset`; {} for those that read
# another folder, and are tested on the half-done folder `imgs` as well.
LITTLE = ("--count", "1", "--steps", "1", "--size", "64")
ARGUMENTS = {
    "check": ("dataset",),
    "cutout": ("dataset/train/2_x",),
    "export": ("dataset",),
    "faces crop": ("dataset/train/2_x",),
    "faces erase": ("dataset/train/2_x",),
    "faces list": ("dataset/train/2_x",),
    "find-lr": ("dataset", "--set", "pretrained_model_name_or_path=none.safetensors"),
    "caption": ("dataset/train/2_x", "--model-dir", str(TINY), "--beams", "1"),
    "import": ("dataset/train/2_x",),
    "layout": ("2_x=imgs",),
    "plan-repeats": ("dataset",),
    "reg": ("women", "--class", "1girl"),
    "reg generate": ("dataset", "--class", "1girl", "--base", "tiny", *LITTLE),
    "rename": ("dataset/train/2_x", "y"),
    "report": ("dataset",),
    "resize": ("dataset/train/2_x",),
    "review": ("dataset", "--no-open", "--read-only"),
    "rules": ("dataset/train/2_x", "--exclude", "lips"),
    "run": ("dataset",),
    "scores": ("dataset/train/2_x/a1.png",),
    "publish": ("dataset", "--repo", "me/x"),
    "tag": ("dataset/train/2_x",),
    "train": ("dataset", "--set", "pretrained_model_name_or_path=none.safetensors"),
    "undo": ("dataset",),
}
# These look without completing anything.
LOOKING = {"doctor", "history", "init", "models download", "models list", "models where"}
# It opens on any folder; its Captions tab says what `review` does: tests/web/test_studio.py.
LOOKING.add("studio")
# Those of LoRA files and of jobs have no dataset.
LOOKING |= {n for n in commands() if n in ("grid", "keep") or n.startswith(("lora ", "jobs "))}
# These never write to a dataset, so they stop.
READ_ONLY = {"review", "scores"}


class Killed(BaseException):
    """Ends a command as a kill would: nothing catches it."""


def kill_layout(dsk, monkeypatch, root):  # noqa: F811
    """Kill `dsk layout` when half of the images have their names, on a copy of the same folder."""
    for path in images(root / "imgs", IMAGES):
        path.with_suffix(".txt").write_text("sks, lips\n", encoding="utf-8")
    images(root / "women", 2)
    place = file_ops.place
    placed: list[object] = []

    def until_half(op):
        if len(placed) == IMAGES:
            raise Killed
        placed.append(op)
        return place(op)

    with monkeypatch.context() as patched:
        patched.setattr(journal, "place", until_half)
        with pytest.raises(Killed):
            dsk("layout", "2_x=imgs", "--out", "dataset")
    assert 0 < seen(root) < IMAGES


def seen(root):
    return len(list((root / "dataset/train/2_x").glob("a*.png")))


@pytest.fixture
def half_done(dsk, here, monkeypatch):  # noqa: F811
    kill_layout(dsk, monkeypatch, here)
    (here / "dataset/dsk.toml").write_text('[[concept]]\nfolder = "train/2_x"\n', encoding="utf-8")
    return here


def test_every_command_is_in_this_test():
    assert set(commands()) == set(ARGUMENTS) | LOOKING


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - READ_ONLY))
def test_a_command_completes_what_was_interrupted_before_it_reads(name, half_done, dsk):  # noqa: F811
    ended = dsk(*name.split(), *ARGUMENTS[name])
    text = f"{ended.out}{ended.err}"
    assert "completed the interrupted `dsk layout`" in text, ended
    if name == "undo":
        assert seen(half_done) == 0
    elif name != "rename":
        assert seen(half_done) == IMAGES
    assert "3 images" not in text
    assert list((half_done / "dataset").rglob(".dsk-*")) == []


@pytest.mark.parametrize(
    ("name", "number"),
    [("report", '"images": 6'), ("export", '"images": 6'), ("plan-repeats", '"images": 6')],
)
def test_the_numbers_are_those_of_the_whole_dataset(name, number, half_done, dsk):  # noqa: F811
    ended = dsk(name, "dataset", "--json")
    assert ended.code == 0
    assert number in ended.out


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS)))
def test_a_command_that_may_not_write_stops(name, half_done, dsk):  # noqa: F811
    switches = () if name in READ_ONLY else ("--dry-run",)
    ended = dsk(*name.split(), *ARGUMENTS[name], *switches)
    if name not in READ_ONLY and ended.code == 2 and "No such option" in ended.err:
        pytest.skip("this command has no --dry-run")
    assert ended.code == 2, ended
    assert "a command was interrupted in" in ended.err
    assert "--recover" in ended.err
    assert seen(half_done) < IMAGES
    assert dsk("history", "dataset", "--recover", "--yes").code == 0
    assert seen(half_done) == IMAGES


@pytest.mark.parametrize("name", ["history", "doctor", "init"])
def test_looking_completes_nothing_and_says_so(name, half_done, dsk):  # noqa: F811
    (half_done / "dataset/dsk.toml").unlink()
    ended = dsk(name, "dataset")
    assert "interrupted" in f"{ended.out}{ended.err}"
    assert seen(half_done) < IMAGES


@pytest.mark.parametrize("name", ["report", "check", "train", "undo", "plan-repeats"])
def test_a_running_command_is_not_taken_for_an_interrupted_one(name, half_done, dsk):  # noqa: F811
    with lock(half_done / "dataset"):
        ended = dsk(name, *ARGUMENTS[name])
        assert ended.code == 11, ended
        assert "process" in ended.err
        assert str(os.getpid()) in ended.err
        if name != "undo":
            assert dsk(name, *ARGUMENTS[name], "--dry-run").code in (2, 11)
    assert seen(half_done) < IMAGES


def test_planning_a_run_never_uses_a_half_done_dataset(half_done):
    with pytest.raises(HalfDone):
        api.plan_training(half_done / "dataset")
    with lock(half_done / "dataset"), pytest.raises(Locked):
        api.plan_training(half_done / "dataset")
    plan = api.plan_training(half_done / "dataset", context=RunContext())
    assert len(plan.plan.images) == IMAGES


def test_training_by_the_files_of_sd_scripts_completes_their_folders(half_done, dsk):  # noqa: F811
    (half_done / "dataset.toml").write_text(
        '[[datasets]]\n[[datasets.subsets]]\nimage_dir = "dataset/train/2_x"\n', encoding="utf-8"
    )
    with pytest.raises(HalfDone):
        api.plan_training(half_done, dataset_config=half_done / "dataset.toml")
    plan = api.plan_training(
        half_done, dataset_config=half_done / "dataset.toml", context=RunContext()
    )
    assert len(plan.plan.images) == IMAGES


@pytest.mark.parametrize("name", ["report", "export", "check", "plan-repeats"])
def test_an_interrupted_undo_of_a_renaming_is_completed(name, dsk, here, monkeypatch):  # noqa: F811
    for path in images(here / "imgs", 3):
        path.with_suffix(".txt").write_text("sks, lips\n", encoding="utf-8")
    write_image(here / "imgs/a0.png", 9).with_suffix(".txt").write_text("sks\n", encoding="utf-8")
    assert dsk("rename", "imgs", "a", "--start", "1").code == 0

    def end(op):
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(journal, "place", end)
        with pytest.raises(Killed):
            dsk("undo", "imgs")
    ended = dsk(name, "imgs")
    assert ended.code in (0, 3), ended
    assert "completed the interrupted" in ended.err
    assert len(list((here / "imgs").glob("*.png"))) == 4


def test_concepts_in_projects_of_their_own_are_completed(half_done, dsk):  # noqa: F811
    """The dataset is that of a dsk.toml elsewhere, whose concept lies in the half-done project."""
    (half_done / "project").mkdir()
    (half_done / "project/dsk.toml").write_text(
        '[[concept]]\nfolder = "../dataset/train/2_x"\n[run]\nsteps = ["tag"]\n', encoding="utf-8"
    )
    ended = dsk("export", "project")
    assert ended.code == 0, ended
    assert seen(half_done) == IMAGES


def test_subfolders_with_projects_of_their_own_are_completed(half_done, dsk):  # noqa: F811
    shutil.rmtree(half_done / "dataset/.dsk/trash", ignore_errors=True)
    ended = dsk("report", ".", "--recursive")
    assert ended.code == 0, ended
    assert seen(half_done) == IMAGES


def test_a_dry_run_beside_a_finished_history_works(half_done):
    with open_project(half_done / "dataset", RunContext()):
        pass
    with open_project(half_done / "dataset", RunContext(dry_run=True)) as project:
        assert project.journal.open_entries() == []
