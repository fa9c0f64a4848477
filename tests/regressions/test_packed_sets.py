"""Commands keep a large set packed, some hundreds of images at a time: what they do to it is what
they do to a small one. Here two images are as many.
"""

from __future__ import annotations

import json

import pytest

from datasetkit import api
from datasetkit.core import packed
from datasetkit.images.scan import scan
from datasetkit.project.store import Store
from datasetkit.verbs.shared.concept_folders import ConceptSet
from datasetkit.verbs.shared.concept_images import ConceptRecords
from tests.cli.conftest import images

NAMES = [f"a{n}.png" for n in range(1, 8)]


@pytest.fixture
def packs_of_two(monkeypatch):
    monkeypatch.setattr(packed, "_AT_ONCE", 2)
    monkeypatch.setattr(packed, "_PACKS_AT_FIRST", 1)


@pytest.fixture
def folder(here):
    for n, image in enumerate(images(here / "imgs", 7)):
        image.with_suffix(".txt").write_text(f"sks, smile, solo, tag {n}\n")
    return here / "imgs"


def texts(folder):
    return [path.read_text() for path in sorted(folder.glob("*.txt"))]


def test_rules_change_every_caption_and_undo_brings_them_back(dsk, folder, packs_of_two):
    before = texts(folder)
    result = api.rules(folder, api.RulesOptions(exclude=("smile", "tag 5")))
    assert texts(folder) == [f"sks, solo{'' if n == 5 else f', tag {n}'}\n" for n in range(7)]
    assert [hit.captions for hit in result.hits] == [7, 1]
    assert [change.path.name for change in result.changes] == NAMES
    assert [done.record.path.name for done in result.report.done] == NAMES
    assert dsk("undo", folder).code == 0
    assert texts(folder) == before


def test_a_layout_is_filled_changed_and_undone(dsk, folder, packs_of_two, here):
    assert dsk("layout", f"2_sks={folder}", "--out", here / "set").code == 0
    laid_out = here / "set" / "train" / "2_sks"
    assert sorted(path.name for path in laid_out.glob("*.png")) == NAMES
    assert texts(laid_out) == texts(folder)
    (folder / "a4.txt").write_text("sks, changed\n")
    (folder / "a6.png").unlink()
    (folder / "a6.txt").unlink()
    assert dsk("layout", f"2_sks={folder}", "--out", here / "set").code == 0
    assert texts(laid_out) == texts(folder) and not (laid_out / "a6.png").exists()
    assert dsk("undo", here / "set").code == 0
    assert (laid_out / "a4.txt").read_text() == "sks, smile, solo, tag 3\n"
    assert (laid_out / "a6.png").exists()


def test_a_report_counts_every_image(folder, packs_of_two):
    result = api.report(folder, api.ReportOptions(plot=False))
    rows = {row["tag"]: row["images"] for row in result.top}
    assert result.images == 7 and rows["smile"] == rows["sks"] == 7 and rows["tag 6"] == 1


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_renamed_images_come_back(dsk, folder, packs_of_two):
    before = names(folder)
    assert dsk("rename", folder, "x").code == 0
    assert len(names(folder)) == 14 and all(name.startswith("x") for name in names(folder))
    assert dsk("undo", folder).code == 0
    assert names(folder) == before


def test_repeats_are_planned_for_every_image(folder, packs_of_two):
    plan = api.plan_repeats(folder, api.PlanRepeatsOptions(steps=70, epochs=1)).plan
    [concept] = plan.concepts
    assert concept.images == sum(concept.buckets.values()) == 7
    assert plan.train.samples == 70


def test_an_export_has_the_caption_of_every_image(folder, packs_of_two):
    result = api.export(folder, api.ExportOptions(format="meta"))
    entries = json.loads((folder / "meta.json").read_text())
    assert result.images == len(entries) == 7
    assert [entry["tags"] for entry in entries.values()] == [
        f"sks, smile, solo, tag {n}" for n in range(7)
    ]


def test_images_of_several_concepts_are_read_again_and_again(folder, packs_of_two):
    with Store.open_copy(folder) as store:
        records = scan(folder, store).records
    first, second = ConceptSet("a", folder), ConceptSet("b", folder)
    every = ConceptRecords([(first, records)]) + ConceptRecords([(second, records)])
    names = [(concept.name, record.path.name) for concept, record in every]
    assert names == [("a", name) for name in NAMES] + [("b", name) for name in NAMES]
    assert (
        len(every) == 14 and every[-1] == every[13] == [*every][13] and every[6:8] == [*every][6:8]
    )
    assert [record.path.name for record in every.of(second)] == NAMES
