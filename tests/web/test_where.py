"""The page, `dsk rules --where` and `dsk report --where` match the same images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.project.session import RunContext
from tests.web import datasets
from tests.web.client import Browser, image_ids, review

FILTERS = [
    "", "tag:m*e", "NOT tag:m*e", "tag:*_hair", "tag:?girl*", "caption:a*e", 'caption:", "',
    "P00003", "name:?0000? AND NOT name:4", "path:10_*", "path:train/2_", "path:2_plain/p",
    'concept:"sks girl"', "concept:p*", "repeats:>2", "repeats:=2", "tags:>12", "tags:0",
    "chars:<=150", "tokens:>40", "score:<0.5", "score:b*<0.1", "score:*a*>=0.97", "NOT score:>=0",
    "dup:yes", "dup:no AND edited:yes", "edited:yes", "edited:no AND NOT tags:0",
    "(tag:*eyes OR tag:*hair) AND NOT (name:p00002 OR concept:plain)",
]  # fmt: skip


@pytest.fixture(scope="module")
def laid_out(module_path: Path) -> Path:
    """Two concepts of tagged images: one edited by hand, one without a caption, one a copy."""
    folder = module_path / "set"
    flat = datasets.many(folder, 8, captions=False)
    datasets.scored(flat)
    (flat / "p00001.txt").write_text("solo, mine\n", encoding="utf-8")
    (flat / "p00002.txt").unlink()
    (flat / "p00008.jpg").write_bytes((flat / "p00000.jpg").read_bytes() + b"\0")
    (flat / "p00008.txt").write_text("1girl, long hair\n", encoding="utf-8")
    for number in range(9):
        home = folder / "train" / ("10_sks girl" if number % 2 else "2_plain")
        home.mkdir(parents=True, exist_ok=True)
        for path in flat.glob(f"p0000{number}.*"):
            path.rename(home / path.name)
    return folder


@pytest.fixture(scope="module")
def open_page(laid_out) -> Iterator[Browser]:
    with review(laid_out) as browser:
        for _ in range(200):
            progress = browser.get("near-duplicates")
            if progress["done"] == progress["total"]:
                break
            time.sleep(0.02)
        yield browser


def on_page(page: Browser, where: str) -> set[str]:
    return set(page.get("images", where=where)["name"])


@pytest.mark.parametrize("where", FILTERS)
def test_rules_match_the_images_of_the_page(laid_out, open_page, where):
    options = api.RulesOptions(where=where, additional=("zzz",), recursive=True)
    result = api.rules(laid_out, options, RunContext(dry_run=True))
    report = result.report
    records = [*(done.record for done in report.done), *(s.record for s in report.skipped)]
    assert {record.path.name for record in records} == on_page(open_page, where)
    assert result.left_out == 9 - len(image_ids(open_page, where))


@pytest.mark.long
@pytest.mark.parametrize("where", [where for where in FILTERS if where not in ("tags:0",)])
def test_reports_count_the_images_of_the_page(laid_out, open_page, where):
    result = api.report(laid_out, api.ReportOptions(where=where), RunContext(dry_run=True))
    shown = open_page.get("images", where=where)
    assert result.images == sum(tags > 0 for tags in shown["tags"])
    assert result.left_out == 9 - shown["total"]
    tags = open_page.post("tags", scope={"in": "where", "where": where})
    counted = {str(row["tag"]): row["images"] for row in result.top}
    assert counted.items() <= dict(zip(tags["tag"], tags["count"], strict=True)).items()


def test_each_filter_matches_some_images_and_not_all(open_page):
    totals = [len(on_page(open_page, where)) for where in FILTERS]
    assert min(totals) > 0 and sum(total < 9 for total in totals) == len(FILTERS) - 1


def test_rules_do_what_the_page_does(laid_out, open_page):
    where = "tag:*e* AND edited:no"
    common = open_page.post("tags", scope={"in": "where", "where": where})["tag"][0]
    done = open_page.do({"in": "where", "where": where}, remove=[common])
    by_page = texts(laid_out)
    open_page.post("undo", version=open_page.version)
    before = texts(laid_out)
    assert done["changed"] == sum(by_page[name] != before[name] for name in before) > 0
    api.rules(laid_out, api.RulesOptions(where=where, exclude=(common,), recursive=True))
    assert texts(laid_out) == by_page
    api.undo(laid_out)
    assert texts(laid_out) == before


def texts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "train").rglob("*.txt"))}
