"""U10 over sockets: with a million images in memory the last is reachable, and filters and tables
still answer.
"""

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
    """A folder whose seven images the page takes for a million: the same again and again."""
    from datasetkit.verbs.review.dataset import ReviewDataset

    load = ReviewDataset.load

    def loaded(self: ReviewDataset, store: Store) -> None:
        load(self, store)
        few = self.all()
        self._images = {
            n: replace(few[n % len(few)], id=n, name=f"{n}.jpg") for n in range(1, MILLION + 1)
        }

    monkeypatch.setattr(ReviewDataset, "load", loaded)
    # There are no million files to be watched, or to be compared with each other.
    monkeypatch.setattr("datasetkit.verbs.review.watch.DiskWatcher.start", lambda self: None)
    monkeypatch.setattr(
        "datasetkit.verbs.review.near_duplicates.NearDuplicates.start", lambda self, known: None
    )
    return folder


def seconds(page: Browser, name: str, **asked: object) -> float:
    began = time.perf_counter()
    page.get(name, **asked)
    return time.perf_counter() - began


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
        # Once a filter was answered, its windows are as quick as those of seven images.
        found = page.get("images", where="tag:lips AND NOT tag:hat")
        assert found["total"] == page.post("filter", where="tag:lips AND NOT tag:hat")["total"]
        assert MILLION / 4 < found["total"] < MILLION / 3
        windows = [
            seconds(page, "images", where="tag:lips AND NOT tag:hat", offset=n)
            for n in (0, 1000, 250_000)
        ]
        assert max(windows) < 1
        assert page.post("tags", scope={"in": "all"})["images"] == MILLION
