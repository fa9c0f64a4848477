"""The plan's estimate of the disk space: which files are kept, and how large they are."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from datasetkit.cli import show_train
from tests.trainer import tiny
from trainer.plan import disk
from trainer.plan.plan import find_subsets, make_plan


@pytest.fixture
def options(tmp_path):
    """10 epochs of two steps."""
    return tiny.options(
        tmp_path / "base", tmp_path / "out", resolution=64, max_train_epochs=10, train_batch_size=2
    )


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    tiny.save_images(folder / "train" / "1_sks", [(64, 64)] * 4)
    return folder


@pytest.mark.parametrize(
    ("changes", "loras", "states"),
    [
        ({}, 10, 4),
        ({"save_state": False}, 10, 2),
        ({"save_every_n_epochs": 0}, 1, 2),
        ({"save_every_n_epochs": 3}, 4, 4),
        ({"save_every_n_epochs": 5}, 2, 3),
        ({"save_last_n_epochs": 3}, 4, 4),
        ({"save_every_n_epochs": 0, "save_every_n_steps": 4}, 5, 4),
        ({"lora_format": "both"}, 20, 4),
        ({"max_train_steps": 1}, 1, 0),
    ],
)
def test_files_are_counted_as_they_are_kept(data, options, changes, loras, states):
    options = replace(options, **changes)
    plan = make_plan(find_subsets(data, options)[0], options)
    estimate = disk.estimate(options, plan, None)
    assert (estimate.loras, estimate.states) == (loras, states)
    assert estimate.bytes == loras * estimate.lora + states * estimate.state


def test_a_state_has_weights_and_optimizer_and_the_average(data, options):
    def state(**changes):
        changed = replace(options, **changes)
        plan = make_plan(find_subsets(data, changed)[0], changed)
        return disk.estimate(changed, plan, None).state

    parameters = state() / (4 + 8)
    assert state(ema_decay=0.99) == parameters * (4 + 8 + 4)
    assert state(optimizer_type="Lion") == parameters * (4 + 4)


def test_a_disk_that_is_too_small_is_a_warning(tmp_path, capsys):
    estimate = disk.DiskEstimate(tmp_path, 1, 2e9, 0, 0, int(1e9))
    show_train._disk(estimate)
    assert "has less space" in capsys.readouterr().err
    show_train._disk(replace(estimate, free=int(3e9)))
    assert capsys.readouterr().err == ""


def test_free_space_of_a_folder_to_come_is_that_of_the_one_above(tmp_path, monkeypatch):
    seen = []

    def usage(path):
        seen.append(path)
        return SimpleNamespace(free=7)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert disk._free(tmp_path / "not" / "there") == 7 and seen == [tmp_path]
