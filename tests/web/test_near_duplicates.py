"""The groups of near-duplicates on the review page, while fingerprints are still computed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import ImageDraw, ImageEnhance

from datasetkit.core.errors import StorageError
from datasetkit.images import near_duplicates, pixels
from datasetkit.images.near_duplicates import KEPT
from datasetkit.project.store import Store
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
        self.waiting += [(image, near_duplicates.fingerprint, callback) for image in images]

    def request_details(self, images, callback) -> None:
        self.waiting += [(image, near_duplicates.detail, callback) for image in images]

    def compute(self, number: int) -> None:
        """Compute so many more fingerprints or details."""
        for image, function, callback in self.waiting[:number]:
            callback(image, function(near_duplicates.small(image.path, near_duplicates.SEEN_AT)))
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


# ---- which groups are offered, and in which order


def with_another_mouth(path: Path, to: Path) -> Path:
    """Copy a drawing, with a mark of 5 % of its width drawn on it."""
    with pixels.load(path) as image:
        changed = image.convert("RGB")
    x, y, wide = changed.width // 2, changed.height // 3, changed.width // 20
    draw = ImageDraw.Draw(changed)
    draw.ellipse((x, y, x + wide, y + wide // 2), fill=(240, 240, 240))
    draw.ellipse((x, y, x + wide, y + wide // 4), fill=(20, 20, 20))
    changed.save(to, quality=90)
    return to


@pytest.fixture
def expressions(tmp_path) -> list[Path]:
    """A drawing with another mouth, two more images, and a smaller copy of one of these."""
    first = datasets.drawing(tmp_path / "a.jpg", 1, (640, 480))
    other = with_another_mouth(first, tmp_path / "b.jpg")
    copied, alone = (drawing(tmp_path, n) for n in (2, 3))
    with pixels.load(copied) as image:
        image.resize((200, 150)).save(tmp_path / "e.jpg", quality=80)
    return [first, other, copied, alone, tmp_path / "e.jpg"]


def drawing(folder: Path, seed: int) -> Path:
    return datasets.drawing(folder / f"{seed}.jpg", seed, (640, 480))


def loaded(paths: list[Path], **more) -> tuple[FakeDataset, NearDuplicates]:
    data = FakeDataset(paths)
    duplicates = NearDuplicates(data, data, more.pop("open_store", None))  # type: ignore[arg-type]
    duplicates.start({}, **more)
    data.compute(len(paths))
    duplicates.offered()
    data.compute(len(paths))
    return data, duplicates


def test_copies_are_offered_before_images_of_one_pose(expressions):
    _, duplicates = loaded(expressions)
    assert duplicates.groups() == [[1, 2], [3, 5]]
    offered = duplicates.offered()
    assert offered.groups == ((3, 5), (1, 2))
    assert offered.copies == (True, False)
    assert duplicates.progress() == (5, 5)


def test_the_comparison_is_not_done_before_the_order_is_known(expressions):
    data = FakeDataset(expressions)
    duplicates = NearDuplicates(data, data, None)  # type: ignore[arg-type]
    duplicates.start({})
    data.compute(5)
    duplicates.offered()
    done, total = duplicates.progress()
    assert done < total


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("change", ["smaller", "worse", "same bytes"])
def test_a_copy_of_another_size_or_quality_differs_little(tmp_path, seed, change):
    path = drawing(tmp_path, seed)
    with pixels.load(path) as image:
        copy = image.convert("RGB")
        if change == "smaller":
            copy = copy.resize((320, 240))
        copy.save(tmp_path / "copy.jpg", quality=30 if change == "worse" else 90)
    other = with_another_mouth(path, tmp_path / "other.jpg")
    details = [
        near_duplicates.detail(near_duplicates.small(p, near_duplicates.SEEN_AT))
        for p in (path, path if change == "same bytes" else tmp_path / "copy.jpg", other)
    ]
    limit = near_duplicates.COPY_DIFFERENCE
    assert near_duplicates.difference(details[0], details[1]) <= limit
    assert near_duplicates.difference(details[0], details[2]) > limit


def test_one_colour_differs_from_nothing_by_a_number():
    black, white = bytes(1024), bytes([255] * 1024)
    assert near_duplicates.difference(black, white) == 0
    assert near_duplicates.difference(black, bytes(1023) + b"\xff") > 200


def test_brightness_alone_does_not_count(tmp_path):
    with pixels.load(drawing(tmp_path, 4)) as image:
        dark = ImageEnhance.Brightness(image.convert("RGB")).enhance(0.8)
        one, other = near_duplicates.detail(image.convert("RGB")), near_duplicates.detail(dark)
    assert near_duplicates.difference(one, other) <= near_duplicates.COPY_DIFFERENCE


def test_a_kept_group_is_not_offered_again_until_another_image_joins_it(paths, tmp_path):
    root = tmp_path / "project"
    root.mkdir()

    def stored() -> dict[str, bytes]:
        with Store.open(root) as store:
            return store.measurements(KEPT)

    _, duplicates = loaded(paths, open_store=lambda: Store.open(root))
    images = {image.id: image for image in duplicates.dataset.all()}
    duplicates.keep([images[1], images[4]])
    assert duplicates.offered().groups == ((2, 5),)
    assert duplicates.offered().kept == 1
    assert duplicates.group_of(1) == []
    # The filter `dup:` is about how images look, not about what was decided.
    assert len(duplicates.groups()) == 2

    _, again = loaded(paths, kept=stored())
    assert again.offered().groups == ((2, 5),)

    with pixels.load(paths[0]) as image:
        image.resize((320, 240)).save(tmp_path / "third.jpg", quality=60)
    _, joined = loaded([*paths, tmp_path / "third.jpg"], kept=stored())
    assert (1, 4, 6) in joined.offered().groups

    duplicates.offer_again([images[1], images[4]])
    assert duplicates.offered().groups == ((1, 4), (2, 5))
    assert list(stored().values()) == [b""]
    assert loaded(paths, kept=stored())[1].offered().kept == 0


def test_a_part_of_a_kept_group_stays_kept(paths, tmp_path):
    with pixels.load(paths[0]) as image:
        image.resize((320, 240)).save(tmp_path / "third.jpg", quality=60)
    data, duplicates = loaded([*paths, tmp_path / "third.jpg"])
    duplicates.keep([data.images[n] for n in (0, 3, 5)])  # type: ignore[misc]
    data.images = data.images[:5]
    assert duplicates.offered().groups == ((2, 5),)


def test_what_could_not_be_stored_is_not_kept(paths):
    def full() -> Store:
        raise StorageError("the disk is full")

    data, duplicates = loaded(paths, open_store=full)
    with pytest.raises(StorageError):
        duplicates.keep([data.images[0], data.images[3]])  # type: ignore[list-item]
    assert duplicates.offered().kept == 0
