"""Near-duplicates that a person keeps are found no more. `dsk check` and the review page share one
store.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasetkit import api
from datasetkit.images.near_duplicates import KEPT, fingerprint, kept_row, small
from datasetkit.project.store import Store

CHECKS = ("check", "imgs", "--only", "near-duplicate,duplicate")


@pytest.fixture
def folder(here: Path) -> Path:
    """Two groups: a, b (a brighter copy), c; x, y. And one image alone."""
    (here / "imgs").mkdir()
    random = np.random.default_rng(5)
    for stem, others in (("a", "bc"), ("x", "y"), ("alone", "")):
        cells = random.integers(30, 200, (12, 12, 3), np.uint8)
        image = Image.fromarray(cells).resize((320, 320), Image.Resampling.BICUBIC)
        image.save(here / "imgs" / f"{stem}.png")
        for n, name in enumerate(others, 1):
            image.point([min(255, v + 6 * n) for v in range(256)] * 3).save(
                here / "imgs" / f"{name}.png"
            )
    return here / "imgs"


def found(dsk) -> set[str]:
    findings = dsk(*CHECKS, "--json").result["findings"]
    return {Path(finding["path"]).name for finding in findings}


@pytest.mark.long
def test_a_kept_group_is_found_no_more_until_an_image_joins_it(folder, dsk):
    assert len(found(dsk)) == 3
    assert dsk(*CHECKS, "--keep-duplicates", "b.png").code == 0
    left = found(dsk)
    assert len(left) == 1 and left <= {"x.png", "y.png"}
    with Image.open(folder / "a.png") as image:
        image.point([max(0, v - 9) for v in range(256)] * 3).save(folder / "d.png")
    assert len(found(dsk)) == 4


@pytest.mark.long
def test_all_are_kept_and_all_are_offered_again(folder, dsk):
    assert dsk(*CHECKS, "--keep-duplicates", "all", "--dry-run").code == 0
    assert len(found(dsk)) == 3  # a dry run stores nothing
    dsk(*CHECKS, "--keep-duplicates", "all")
    assert found(dsk) == set()
    dsk(*CHECKS, "--keep-duplicates", "none")
    assert len(found(dsk)) == 3


def test_what_the_page_keeps_the_command_keeps(folder, dsk):
    looks = [fingerprint(small(folder / f"{stem}.png", 256)) for stem in "xy"]
    assert len(found(dsk)) == 3
    with Store.open(folder) as store:
        store.put_measurements(KEPT, [kept_row(looks)])
    assert found(dsk) and not found(dsk) & {"x.png", "y.png"}


def test_what_the_command_keeps_the_page_keeps(folder, dsk):
    dsk(*CHECKS, "--keep-duplicates", "x.png")
    looks = [fingerprint(small(folder / f"{stem}.png", 256)) for stem in "xy"]
    key, row = kept_row(looks)
    with Store.open_copy(folder) as store:
        assert store.measurements(KEPT) == {key: row}


def test_an_image_without_near_duplicates_is_named(folder, dsk):
    ended = dsk(*CHECKS, "--keep-duplicates", "alone.png")
    assert ended.code == 2 and "alone.png" in ended.err
    hint = ended.err.partition("hint: dsk check ")[2].split()
    assert dsk("check", "imgs", *hint[:2]).code == 0


@pytest.mark.long
def test_python_has_it_too(folder):
    api.check(folder, api.CheckOptions(keep_duplicates=("all",)))
    result = api.check(folder, api.CheckOptions(only=("near-duplicate",)))
    assert result.findings == ()
