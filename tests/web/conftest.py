"""Fixtures for tests of the review page: small datasets, and the page opened on them."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tests.web import datasets

if TYPE_CHECKING:
    from tests.web.client import Browser

if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("starlette") is None:
    collect_ignore_glob = ["test_*"]


@pytest.fixture(scope="session", autouse=True)
def fast_stop() -> Iterator[None]:
    """Let a hundred servers stop in 20 ms instead of 200: uvicorn polls, and sleeps meanwhile."""

    def sleep(seconds: float) -> Coroutine[Any, Any, None]:
        return asyncio.sleep(seconds / 10)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "uvicorn.server.asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": sleep})
        )
        yield


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder in memory if the system has one: each edit syncs, and the tests edit a lot."""
    memory = "/dev/shm"
    folder = memory if os.access(memory, os.W_OK) else None
    return tempfile.TemporaryDirectory(dir=folder, prefix="dsk-tests-")


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with temporary_folder() as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def module_path() -> Iterator[Path]:
    """The same, for all tests of a module."""
    with temporary_folder() as folder:
        yield Path(folder)


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
def shared_page(module_path: Path) -> Iterator[Browser]:
    """One page for all tests of a module that change nothing."""
    from tests.web.client import review

    with review(make_seven(module_path / "set")) as browser:
        yield browser
