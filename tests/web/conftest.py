"""Fixtures for tests of the review page: small datasets, and the page opened on them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.web import datasets

if TYPE_CHECKING:
    from tests.web.client import Browser

if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("starlette") is None:
    collect_ignore_glob = ["test_*"]


def make_seven(folder: Path) -> Path:
    """Make six images with captions and one without."""
    texts = [
        "sks, lips, blue eyes",
        "sks, Blue_Eyes, hat",
        "sks, lips",
        "solo, hat",
        "solo",
        "1girl, hat, lips",
    ]
    for n, text in enumerate(texts):
        datasets.drawing(folder / f"p{n}.jpg", n)
        (folder / f"p{n}.txt").write_text(text + "\n", encoding="utf-8")
    datasets.drawing(folder / "p6.png", 6)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six images with captions, one more without, and nothing else."""
    return make_seven(tmp_path / "set")


@pytest.fixture
def page(folder: Path) -> Iterator[Browser]:
    """The page of `folder`, with a client that has opened it."""
    from tests.web.client import review  # needs the packages of the extra `web`

    with review(folder) as browser:
        yield browser


@pytest.fixture(scope="module")
def shared_page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One page for all tests of a module that change nothing."""
    from tests.web.client import review

    with review(make_seven(tmp_path_factory.mktemp("shared") / "set")) as browser:
        yield browser
