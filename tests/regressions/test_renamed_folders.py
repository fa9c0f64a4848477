"""A folder that is renamed while something works in it is not made again in the old place, and is
named as the reason for what is refused.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from datasetkit.core.errors import DatasetError, DskError, InputError
from datasetkit.images import near_duplicates
from datasetkit.options.review import ReviewOptions
from datasetkit.project.locks import lock
from datasetkit.project.session import RunContext, open_project
from datasetkit.project.store import Store
from datasetkit.verbs.review.session import open_session
from tests.web import datasets
from tests.web.client import image_ids, review

pytestmark = pytest.mark.skipif(os.name == "nt", reason="an open folder cannot be renamed")


@pytest.fixture
def folder(tmp_path) -> Path:
    return datasets.many(tmp_path / "imgs", 3)


@pytest.mark.parametrize("gone", ["imgs", "below/imgs"])
def test_nothing_makes_the_project_of_a_folder_that_is_gone(tmp_path, gone):
    root = tmp_path / gone
    for opened in (
        lambda: lock(root),
        lambda: Store.open(root),
        lambda: open_project(root, RunContext()),
    ):
        with pytest.raises(DatasetError, match="was renamed, moved or removed"), opened():
            pass
    assert list(tmp_path.iterdir()) == []


def test_an_output_makes_its_folder(tmp_path):
    with open_project(tmp_path / "out" / "new", RunContext(), create_folder=True):
        pass
    assert (tmp_path / "out" / "new" / ".dsk").is_dir()


def test_a_dry_run_makes_no_folder(tmp_path):
    with open_project(tmp_path / "out", RunContext(dry_run=True), create_folder=True):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_poll_during_which_the_folder_is_renamed_makes_nothing(folder, tmp_path):
    with open_session(folder, ReviewOptions(), RunContext()) as session:
        session.watcher.stop()
        stamps = list(session.watcher._stamps())
        session.watcher._stamps = lambda: iter(stamps)  # type: ignore[method-assign]
        folder.rename(tmp_path / "renamed")
        session.dataset.stale = True
        with pytest.raises(InputError, match="was renamed"):
            session.watcher.poll()
        assert not folder.exists()
        assert len(session.dataset) == 3
    assert not folder.exists()


def test_a_thumbnail_that_was_read_before_the_rename_makes_nothing(folder, tmp_path, monkeypatch):
    small = near_duplicates.small

    def slow(path, edge, **more):
        image = small(path, edge, **more)
        if folder.exists():
            folder.rename(tmp_path / "renamed")
        return image

    with open_session(folder, ReviewOptions(), RunContext()) as session:
        monkeypatch.setattr(near_duplicates, "small", slow)
        for image in session.dataset.all():
            with suppress(DskError):  # it was renamed before
                assert session.thumbnails.request(image, "thumb").result(20)
        assert not folder.exists()
    assert not folder.exists()


def test_a_link_in_the_place_of_the_folder_is_not_followed(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    with open_session(folder, ReviewOptions(), RunContext()) as session:
        session.watcher.stop()
        folder.rename(tmp_path / "renamed")
        folder.symlink_to(other)
        with pytest.raises(InputError, match="symbolic link"):
            session.watcher.poll()
    assert list(other.iterdir()) == []


def test_a_renamed_concept_is_the_reason_for_a_refused_edit_and_the_others_can_be_edited(tmp_path):
    dataset = tmp_path / "dataset"
    one = datasets.many(dataset / "train" / "1_one", 2)
    two = datasets.many(dataset / "train" / "1_two", 2)
    with review(dataset) as page:
        first, second = image_ids(page, "concept:one"), image_ids(page, "concept:two")
        one.rename(tmp_path / "renamed")
        refused = page.send(
            "apply", version=page.version, scope={"in": "ids", "ids": first}, do={"add": ["x"]}
        )
        # Until the page has noticed it, and forgets these images.
        if refused.status != 200:
            assert "1_one was renamed, moved or removed" in refused.json["error"]
        page.do({"in": "ids", "ids": second}, add=["x"])
        assert not one.exists()
        (tmp_path / "renamed").rename(one)
    assert all("x" in path.read_text() for path in two.glob("*.txt"))
    assert not any("x, " in path.read_text() for path in one.glob("*.txt"))
