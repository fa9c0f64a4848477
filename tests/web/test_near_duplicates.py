"""Near-duplicates: which images belong together, while more and more of them are known."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from datasetkit.images import near_duplicates, pixels
from datasetkit.verbs.review.near_duplicates import NearDuplicates
from tests.web import datasets


class Images:
    """A dataset of files, and thumbnails that are looked at when the test says so."""

    def __init__(self, paths: list[Path]) -> None:
        self.images = [
            SimpleNamespace(id=n, key=path.name, path=path) for n, path in enumerate(paths, 1)
        ]
        self.marked: set[Path] = set()
        self.waiting: list = []

    def all(self):
        return self.images

    def set_twins(self, paths) -> None:
        self.marked = set(paths)

    def look_at(self, images, found) -> None:
        self.waiting += [(image, found) for image in images]

    def look(self, number: int) -> None:
        """Look at so many more images."""
        for image, found in self.waiting[:number]:
            found(
                image,
                near_duplicates.look(near_duplicates.small(image.path, near_duplicates.SEEN_AT)),
            )
        del self.waiting[:number]


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Three drawings, and of the first two a smaller copy and one of poor quality."""
    made = [datasets.drawing(tmp_path / f"{n}.jpg", n, (640, 480)) for n in range(3)]
    for n, (size, quality) in enumerate([((200, 150), 90), ((640, 480), 30)]):
        with pixels.load(made[n]) as image:
            image.resize(size).save(tmp_path / f"{n} again.jpg", quality=quality)
        made.append(tmp_path / f"{n} again.jpg")
    return made


def test_copies_of_other_size_and_quality_belong_together(paths):
    data = Images(paths)
    twins = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    twins.start({})
    assert twins.progress() == (0, 5)
    data.look(5)
    assert twins.groups() == [[1, 4], [2, 5]]
    assert data.marked == {paths[0], paths[1], paths[3], paths[4]}
    assert twins.of(4) == [1, 4] and twins.of(3) == []


def test_while_images_are_looked_at_they_are_not_compared_at_each_question(paths, monkeypatch):
    compared = []
    real = near_duplicates.groups

    def groups(found):
        compared.append(len(found))
        return real(found)

    monkeypatch.setattr(near_duplicates, "groups", groups)
    data = Images(paths)
    twins = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    monkeypatch.setattr("datasetkit.verbs.review.near_duplicates._REST", 1e6)
    twins.start({})
    for _ in range(4):
        data.look(1)
        twins.groups()
    assert compared == [1]
    data.look(1)
    assert twins.groups() == [[1, 4], [2, 5]]
    assert compared == [1, 5]


def test_a_image_that_goes_leaves_its_group_at_once(paths, monkeypatch):
    data = Images(paths)
    twins = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    monkeypatch.setattr("datasetkit.verbs.review.near_duplicates._REST", 1e6)
    twins.start({})
    data.look(5)
    twins.groups()
    data.images = data.images[1:]
    assert twins.groups() == [[2, 5]]


def test_a_image_that_was_replaced_is_compared_anew(paths):
    data = Images(paths)
    twins = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    twins.start({})
    data.look(5)
    assert twins.groups() == [[1, 4], [2, 5]]
    data.images[3] = SimpleNamespace(id=4, key=paths[4].name, path=paths[4])
    assert twins.groups() == [[2, 4, 5]]
