"""A thousand random edits are undone and redone, and a million images are listed."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from datasetkit.options.review import ReviewOptions
from datasetkit.project.session import DEFAULT_CONTEXT
from datasetkit.verbs.review.session import open_session
from datasetkit.web.routes import captions as routes
from tests.web import client, datasets

MILLION = 1_000_000
TAGS = (
    "solo",
    "lips",
    "blue eyes",
    "Blue_Eyes",
    "long hair",
    "smile",
    "sks girl",
    "1girl",
    "hat",
    "emoji ^_^",
)


@pytest.fixture
def scored(tmp_path: Path) -> Path:
    """Images with scores, and captions as dsk, people and other programs write them."""
    folder = datasets.many(tmp_path / "set", 14, captions=False)
    datasets.scored(folder)
    by_hand = [
        b"solo, lips, Blue_Eyes",
        b"\xef\xbb\xbfsolo,  lips ,smile\r\n",
        b"long hair,,smile, smile\n\n",
        "solo, größer, \N{GRINNING FACE}\n".encode(),
        b"solo\n1girl\nhat",
    ]
    for n, data in enumerate(by_hand):
        (folder / f"p{n:05}.txt").write_bytes(data)
    (folder / "p00007.txt").unlink()
    return folder


def operation(rng: random.Random, tags: list[str]) -> dict[str, Any]:
    """Return a random operation."""
    some = rng.sample(tags, rng.randint(1, 2))
    return rng.choice(
        [
            {"remove": some},
            {"exclude": ["*hair", rng.choice(tags)]},
            {"replace": [[some[0], rng.choice([*TAGS, f"new {rng.randrange(99)}"])]]},
            {"add": [rng.choice([*TAGS, f"added {rng.randrange(99)}"])]},
            {"trigger": ["sks girl"]},
            {
                "threshold": round(rng.uniform(0.1, 0.9), 2),
                "existing": rng.choice(["skip", "overwrite"]),
            },
        ]
    )


def edit(page: client.Browser, rng: random.Random, tags: list[str]) -> int:
    """Make a random edit; return 1 if it changed something."""
    numbers = client.image_ids(page)
    image_id = rng.choice(numbers)
    if rng.random() < 0.3:
        words = rng.sample(tags, rng.randint(1, 6))
        return int(page.edit(image_id, rng.choice([", ", ",", ",\n"]).join(words))["changed"] > 0)
    if rng.random() < 0.05 and len(numbers) > 8:
        return int(page.do({"in": "ids", "ids": [image_id]}, drop=True)["changed"] > 0)
    scope: dict[str, Any] = rng.choice(
        [
            {"in": "all"},
            {"in": "ids", "ids": rng.sample(numbers, 5)},
            {
                "in": "where",
                "where": rng.choice(
                    ["tag:solo", "NOT tag:smile", "tags:>3 OR edited:yes", "score:<0.3"]
                ),
            },
        ]
    )
    return int(page.do(scope, **operation(rng, tags))["changed"] > 0)


@pytest.mark.parametrize("edits", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_edits_are_undone_and_redone_to_the_byte(scored, edits):
    before, images = client.captions(scored), sorted(scored.glob("*.jpg"))
    rng = random.Random(edits)
    with client.review(scored) as page:
        tags = [*TAGS, *page.post("tags", scope={"in": "all"})["tag"]]
        done = 0
        for _ in range(20 * edits):
            done += edit(page, rng, tags)
            if done == edits:
                break
        assert done == edits
        after = client.captions(scored)
        assert after != before
        for _ in range(edits):
            assert page.post("undo", version=page.version)["changed"] > 0
        assert client.captions(scored) == before
        assert sorted(scored.glob("*.jpg")) == images
        assert page.get("session")["undo"] is None
        for _ in range(edits):
            page.post("redo", version=page.version)
        assert client.captions(scored) == after


@pytest.mark.long
def test_edits_are_undone_after_a_restart(scored):
    before = client.captions(scored)
    with client.review(scored) as page:
        page.do(remove=["solo"])
        page.do(add=["hat"])
        page.do({"in": "ids", "ids": client.image_ids(page)[:2]}, drop=True)
    with client.review(scored) as page:
        assert page.session["undo"].startswith("exclude 2")
        for _ in range(3):
            page.post("undo", version=page.version)
        assert client.captions(scored) == before
        page.post("undo", status=409, version=page.version)


def test_the_server_gives_the_last_of_a_million_images(folder, monkeypatch):
    with open_session(folder, ReviewOptions(open=False, read_only=True), DEFAULT_CONTEXT) as page:
        first = page.dataset.all()[0]
        monkeypatch.setattr(page.dataset, "ids", lambda where="": range(1, MILLION + 1))
        monkeypatch.setattr(page.dataset, "get", lambda number: replace(first, id=number))
        window = routes.images(page, {"offset": str(MILLION - 500), "limit": "500"})
    assert window["total"] == MILLION
    assert len(window["id"]) == 500 and window["id"][-1] == MILLION
