"""`dsk history` lists each edit of the page in order, and `dsk undo` reverts it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasetkit import api
from datasetkit.cli.main import run
from tests.web import datasets
from tests.web.client import Browser, image_ids, review

TAGS = ["solo", "1girl", "hat", "blue eyes", "lips", "long_hair", "^_^", "brand new", "sks"]


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of all images, captions and masks of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and ".dsk" not in path.parts)
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(files)}


@pytest.fixture
def tagged(tmp_path: Path) -> Path:
    """Nine images with scores, and captions in several spellings and line endings; one has a mask,
    one no caption.
    """
    folder = datasets.many(tmp_path / "set", 9, captions=False)
    datasets.scored(folder)
    (folder / "p00001.txt").write_bytes(b"sks,Blue_Eyes ,  hat\r\n")
    (folder / "p00002.txt").write_bytes(b"\xef\xbb\xbfsolo\n1girl\nlong hair\n")
    (folder / "p00003.txt").write_bytes(b"lips, lips, LIPS, solo")
    (folder / "p00004.txt").unlink()
    (folder / "masks").mkdir()
    (folder / "masks" / "p00005.png").write_bytes(b"a mask")
    return folder


def random_edit(rng: random.Random, page: Browser, ids: list[int]) -> dict[str, Any]:
    """Apply a random operation; the result has `entry` None if it changed nothing."""
    some = {"in": "ids", "ids": rng.sample(ids, rng.randint(1, len(ids)))}
    where = {"in": "where", "where": rng.choice(["tag:solo", "NOT tag:hat"])}
    scope: dict[str, Any] = rng.choice([{"in": "all"}, some, where])
    tag, other = rng.sample(TAGS, 2)
    operations: list[Callable[[], Any]] = [
        lambda: page.do(scope, remove=[tag]),
        lambda: page.do(scope, exclude=["*_hair"]),
        lambda: page.do(scope, replace=[[tag, other]]),
        lambda: page.do(scope, add=[tag]),
        lambda: page.do(scope, trigger=["sks"]),
        lambda: page.do(
            scope,
            threshold=rng.choice([0.2, 0.35, 0.6]),
            existing=rng.choice(["skip", "overwrite"]),
        ),
        lambda: page.edit(rng.choice(ids), f"{tag}, {other}, text {rng.randrange(1000)}"),
        lambda: page.do({"in": "ids", "ids": [rng.choice(ids)]}, drop=True),
    ]
    # Excluding is rare, or soon no image would be left.
    return dict(rng.choices(operations, [4, 2, 4, 4, 2, 3, 6, 1])[0]())


def edits(page: Browser, number: int, seed: int) -> list[str]:
    """Make so many edits that change something; return their titles."""
    rng = random.Random(seed)
    titles: list[str] = []
    while len(titles) < number:
        ids = image_ids(page)
        if len(ids) < 4:  # restore one
            page.post("undo", version=page.version)
            titles.pop()
            continue
        done = random_edit(rng, page, ids)
        if done["entry"] is not None:
            titles.append(done["title"])
    return titles


def titles_in_history(folder: Path) -> list[str]:
    """Return the titles of the page's edits that are not undone, the newest first."""
    return [
        entry.title
        for entry in api.history(folder)
        if entry.verb == "review" and entry.state == "done"
    ]


@pytest.mark.long
def test_history_lists_edits_and_drops_undone_ones(tagged):
    before = tree(tagged)
    with review(tagged) as page:
        titles = edits(page, 30, 1)
        assert titles_in_history(tagged) == titles[::-1]
        for title in reversed(titles):
            assert page.load_session()["undo"] == title
            assert page.post("undo", version=page.version)["title"] == title
        assert titles_in_history(tagged) == [] and page.load_session()["undo"] is None
    assert tree(tagged) == before


def test_dsk_undo_reverts_edits_of_the_page(tagged, capsys):
    before = tree(tagged)
    with review(tagged) as page:
        titles = edits(page, 12, 3)
    run(["history", str(tagged)])
    shown = capsys.readouterr().out
    assert all(title in shown for title in titles)
    for title in reversed(titles):
        assert run(["undo", str(tagged)]) == 0
        assert f"undid review {title}" in capsys.readouterr().out
    assert tree(tagged) == before


def test_dsk_undo_and_the_pages_undo_alternate(tagged):
    before = tree(tagged)
    with review(tagged) as page:
        shown = page.get("images", captions=1)
        for n, title in enumerate(reversed(edits(page, 14, 11))):
            if n % 2:
                assert page.post("undo", version=page.version)["title"] == title
            else:
                assert [entry.title for entry in api.undo(tagged).entries] == [title]
        assert tree(tagged) == before
        ends = time.monotonic() + 15
        columns = ("id", "name", "caption", "hash", "v")
        while time.monotonic() < ends:
            again = page.get("images", captions=1)
            if all(again[column] == shown[column] for column in columns):
                break
            time.sleep(0.05)
        assert {column: again[column] for column in columns} == {
            column: shown[column] for column in columns
        }
