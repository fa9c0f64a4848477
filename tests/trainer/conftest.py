"""Random base models and a laid-out dataset, made once per session."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch

from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer.plan.plan import TrainingPlan, find_subsets, make_plan


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    # The layers are so small that threads would only wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A model for whatever does not depend on the number of modules."""
    return tiny.save_small(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def full_model(tmp_path_factory) -> Path:
    """A model with the 264 modules that LoRA adapts in Stable Diffusion 1."""
    return tiny.save_full(tmp_path_factory.mktemp("full-model"))


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    folder: Path = tmp_path_factory.mktemp("data")
    tiny.save_images(folder / "train" / "2_sks", [(128, 128), (192, 128), (130, 200), (128, 128)])
    tiny.save_images(folder / "reg" / "1_girl", [(128, 140), (140, 128)], captions=False)
    return folder


@pytest.fixture
def options(model, tmp_path) -> TrainOptions:
    return tiny.options(model, tmp_path / "out")


@pytest.fixture
def plan(data, options) -> TrainingPlan:
    return make_plan(find_subsets(data, options)[0], options)


@pytest.fixture(scope="session")
def dit_base(tmp_path_factory):
    """Return a function: the folder of a random base of a family, written once in a session."""

    @functools.cache
    def folder(family: str) -> Path:
        from trainer import random_base

        return random_base.save(tmp_path_factory.mktemp("dit") / family, family=family)

    return folder
