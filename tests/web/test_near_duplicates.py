"""The groups of near-duplicates on the review page, while fingerprints are still computed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from datasetkit.images import near_duplicates, pixels
from datasetkit.verbs.review.near_duplicates import NearDuplicates
from tests.web import datasets


class FakeDataset:
    """A dataset, and thumbnails whose fingerprints are computed when the test says so."""

    def __init__(self, paths: list[Path]) -> None:
        self.images = [
            SimpleNamespace(id=n, key=path.name, path=path) for n, path in enumerate(paths, 1)
        ]
        self.near_duplicates: set[Path] = set()
        self.waiting: list = []

    def all(self):
        return self.images

    def set_near_duplicates(self, paths) -> None:
        self.near_duplicates = set(paths)

    def request_fingerprints(self, images, callback) -> None:
        self.waiting += [(image, callback) for image in images]

    def compute(self, number: int) -> None:
        """Compute so many more fingerprints."""
        for image, callback in self.waiting[:number]:
            callback(
                image,
                near_duplicates.fingerprint(
                    near_duplicates.small(image.path, near_duplicates.SEEN_AT)
                ),
            )
        del self.waiting[:number]


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    """Three drawings, a smaller copy of the first, and a copy of the second at a low quality."""
    copies = [datasets.drawing(tmp_path / f"{n}.jpg", n, (640, 480)) for n in range(3)]
    for n, (size, quality) in enumerate([((200, 150), 90), ((640, 480), 30)]):
        with pixels.load(copies[n]) as image:
            image.resize(size).save(tmp_path / f"{n} again.jpg", quality=quality)
        copies.append(tmp_path / f"{n} again.jpg")
    return copies


def test_copies_of_another_size_or_quality_form_a_group(paths):
    data = FakeDataset(paths)
    duplicates = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    duplicates.start({})
    assert duplicates.progress() == (0, 5)
    data.compute(5)
    assert duplicates.groups() == [[1, 4], [2, 5]]
    assert data.near_duplicates == {paths[0], paths[1], paths[3], paths[4]}
    assert duplicates.group_of(4) == [1, 4] and duplicates.group_of(3) == []


def test_groups_are_not_computed_at_each_request_while_fingerprints_come_in(paths, monkeypatch):
    compared = []
    real = near_duplicates.groups

    def groups(fingerprints):
        compared.append(len(fingerprints))
        return real(fingerprints)

    monkeypatch.setattr(near_duplicates, "groups", groups)
    data = FakeDataset(paths)
    duplicates = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    monkeypatch.setattr("datasetkit.verbs.review.near_duplicates._REST", 1e6)
    duplicates.start({})
    for _ in range(4):
        data.compute(1)
        duplicates.groups()
    assert compared == [1]
    data.compute(1)
    assert duplicates.groups() == [[1, 4], [2, 5]]
    assert compared == [1, 5]


def test_a_removed_image_leaves_its_group_at_once(paths, monkeypatch):
    data = FakeDataset(paths)
    duplicates = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    monkeypatch.setattr("datasetkit.verbs.review.near_duplicates._REST", 1e6)
    duplicates.start({})
    data.compute(5)
    duplicates.groups()
    data.images = data.images[1:]
    assert duplicates.groups() == [[2, 5]]


def test_a_replaced_image_is_compared_again(paths):
    data = FakeDataset(paths)
    duplicates = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    duplicates.start({})
    data.compute(5)
    assert duplicates.groups() == [[1, 4], [2, 5]]
    data.images[3] = SimpleNamespace(id=4, key=paths[4].name, path=paths[4])
    assert duplicates.groups() == [[2, 4, 5]]
