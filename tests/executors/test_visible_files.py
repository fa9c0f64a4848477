"""A worker sees the files as this machine does, or the run ends before anything is changed."""

import os

import pytest

from datasetkit.executors import ray_worker


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "imgs" / "a.jpg"
    path.parent.mkdir()
    path.write_bytes(b"x" * 100_000)
    return path


def test_the_same_file_and_a_folder_are_seen(image):
    assert ray_worker.unseen([ray_worker.probe(image)], [str(image.parent)]) == ""


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (None, "does not see"),
        (b"y" + b"x" * 99_999, "has another"),
        (b"x" * 100_001, "has another"),  # the same first bytes
        (b"", "has another"),
    ],
)
def test_a_file_that_is_missing_or_another_is_named(image, other, said):
    here = ray_worker.probe(image)
    image.unlink() if other is None else image.write_bytes(other)
    assert ray_worker.unseen([here], []) == f"{said} {image}"


def test_a_folder_in_the_place_of_an_image_is_not_seen_as_one(image):
    here = ray_worker.probe(image)
    image.unlink()
    image.mkdir()
    assert ray_worker.unseen([here], []) == f"does not see {image}"


def test_an_output_folder_that_is_missing_a_file_or_closed_is_named(image, monkeypatch):
    missing = str(image.parent.parent / "out")
    assert ray_worker.unseen([], [missing]) == f"does not see {missing}"
    assert ray_worker.unseen([], [str(image)]) == f"does not see {image}"
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert ray_worker.unseen([], [str(image.parent)]) == f"cannot write to {image.parent}"
