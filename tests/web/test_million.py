"""With a million images in memory the last is reachable, and filters and tables work."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from datasetkit.project.store import Store
from tests.web.client import Browser, review

MILLION = 1_000_000


@pytest.fixture
def million(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose seven images are listed a million times."""
    from datasetkit.verbs.review.dataset import ReviewDataset

    load = ReviewDataset.load

    def loaded(self: ReviewDataset, store: Store, **options: bool) -> None:
        load(self, store, **options)
        images = self.all()
        self._images = {
            n: replace(images[n % len(images)], id=n, name=f"{n}.jpg")
            for n in range(1, MILLION + 1)
        }

    monkeypatch.setattr(ReviewDataset, "load", loaded)
    # There are no million files to watch or to compare.
    monkeypatch.setattr(
        "datasetkit.verbs.review.watch.DiskWatcher.start", lambda self, *_, **__: None
    )
    monkeypatch.setattr(
        "datasetkit.verbs.review.near_duplicates.NearDuplicates.start", lambda self, *_, **__: None
    )
    return folder


def seconds(page: Browser, name: str, **parameters: object) -> float:
    started = time.perf_counter()
    page.get(name, **parameters)
    return time.perf_counter() - started


@pytest.mark.slow
def test_the_last_of_a_million_is_reachable(million):
    with review(million) as page:
        assert page.session["images"] == MILLION
        last = page.get("images", offset=MILLION - 500, limit=500)
        assert (last["total"], len(last["id"]), last["id"][-1], last["name"][-1]) == (
            MILLION, 500, MILLION, f"{MILLION}.jpg",
        )  # fmt: skip
        assert page.get("images", offset=MILLION)["id"] == []
        assert page.get(f"image/{MILLION}")["name"] == f"{MILLION}.jpg"
        assert page.ask("GET", f"/thumb/{MILLION}", headers={"Cookie": page.cookie}).status == 200
        # The windows of a filter that is cached are as fast as those of seven images.
        matches = page.get("images", where="tag:lips AND NOT tag:hat")
        assert matches["total"] == page.post("filter", where="tag:lips AND NOT tag:hat")["total"]
        assert MILLION / 4 < matches["total"] < MILLION / 3
        windows = [
            seconds(page, "images", where="tag:lips AND NOT tag:hat", offset=n)
            for n in (0, 1000, 250_000)
        ]
        assert max(windows) < 1
        assert page.post("tags", scope={"in": "all"})["images"] == MILLION
