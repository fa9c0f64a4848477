"""The report on a plan: cropping of each bucket, and captions with problems."""

import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from datasetkit import api
from datasetkit.captions import tokens
from datasetkit.captions.tokens import TokenLimit
from datasetkit.dataset.layout_sources import layout_sources
from datasetkit.options.dataset import LayoutOptions, PlanRepeatsOptions
from datasetkit.options.images import RenameOptions
from datasetkit.options.train import TrainOptions
from datasetkit.tools import option_pages
from tests.dataset.sd_scripts import SECTIONS
from tests.trainer import tiny
from trainer.plan.plan import TrainingPlan, find_subsets, make_plan
from trainer.plan.report import bucket_use, caption_use, subset_use

SMALL = TrainOptions(resolution=128, min_bucket_reso=64, max_bucket_reso=256)


def planned(folder: Path, options: TrainOptions = SMALL) -> TrainingPlan:
    return make_plan(find_subsets(folder, options)[0], options)


@pytest.fixture
def laid_out(tmp_path, monkeypatch):
    """A dataset that dsk laid out from the folder `work` of the same project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dsk.toml").touch()
    tiny.save_images(tmp_path / "work", [(128, 128)] * 4)
    api.layout(["sks=work"], LayoutOptions(out="ds", repeats=2))
    return tmp_path / "ds"


def test_bucket_report_has_cropping_and_enlargement(tmp_path):
    tiny.save_images(tmp_path / "train" / "3_sks", [(128, 128), (64, 64), (100, 160), (320, 320)])
    plan = planned(tmp_path)
    uses = {use.size: use for use in bucket_use(plan)}
    square, tall = uses[128, 128], next(use for size, use in uses.items() if size != (128, 128))
    assert (square.images, square.samples, square.cut_worst) == (3, 9, 0)
    assert (square.enlarged, square.enlarged_most) == (1, 2.0)
    assert (tall.images, tall.samples) == (1, 3)
    assert tall.cut_mean == tall.cut_worst == plan.images[2].bucket.cropped > 0
    assert {size: use.samples for size, use in uses.items()} == plan.totals.buckets


def test_subset_report_has_the_use_of_regularisation(data, options, plan):
    assert [(s.images, s.samples, s.unused) for s in subset_use(plan)] == [(4, 8, 0), (2, 8, 0)]


def test_missing_and_empty_captions_are_distinguished(tmp_path):
    concept = tiny.save_images(tmp_path / "train" / "1_sks", [(128, 128)] * 4)
    (concept / "1.txt").unlink()
    (concept / "2.txt").write_text(" \n", encoding="utf-8")
    use = caption_use(planned(tmp_path), TokenLimit(75))
    assert (use.written, [p.name for p in use.missing], [p.name for p in use.empty]) == (
        2,
        ["1.png"],
        ["2.png"],
    )


@pytest.mark.parametrize(
    ("limit", "named"), [(75, ["1.png", "2.png"]), (150, ["2.png"]), (225, [])]
)
def test_captions_over_the_token_limit_are_listed(tmp_path, limit, named):
    concept = tiny.save_images(tmp_path / "train" / "1_sks", [(128, 128)] * 3)
    (concept / "1.txt").write_text(", ".join(["cat"] * 38) + ", dog", encoding="utf-8")  # 77 tokens
    (concept / "2.txt").write_text(", ".join(["cat"] * 113), encoding="utf-8")  # 225
    (concept / "3.txt").write_text(", ".join(["cat"] * 38), encoding="utf-8")  # 75
    use = caption_use(planned(tmp_path), TokenLimit(limit))
    assert use.over == {75: 2, 150: 1, 225: 0}
    assert [p.name for p in use.too_long] == named


def test_longest_possible_caption_is_counted(tmp_path):
    concept = tiny.save_images(tmp_path / "train" / "1_sks", [(128, 128)] * 2)
    (concept / "1.txt").write_text(
        "sks\nsks, {cat|" + ", ".join(["cat"] * 38) + "}", encoding="utf-8"
    )
    (concept / "2.txt").write_text("(cat:1.3), " * 38, encoding="utf-8")
    options = replace(SMALL, enable_wildcard=True, caption_prefix="cat,")
    use = caption_use(planned(tmp_path, options), TokenLimit(75))
    assert [p.name for p in use.too_long] == ["1.png", "2.png"]
    assert use.differing == ()
    use = caption_use(
        planned(tmp_path, replace(SMALL, weighted_captions=True)), TokenLimit(75), weighted=True
    )
    assert "2.png" not in [p.name for p in use.too_long]


def test_ten_thousand_captions_are_counted_in_two_seconds():
    words = (
        "long hair, blue eyes, 1girl, solo, looking at viewer, school uniform, outdoors, "
        "open mouth, red ribbon"
    )
    captions = [f"{words}, {words}, {words}, no {i}" for i in range(10_000)]
    started = time.process_time()
    assert min(map(tokens.count, captions)) > 75
    assert time.process_time() - started < 2


def test_caption_that_differs_from_its_source_is_listed(laid_out):
    assert (
        caption_use(planned(laid_out), TokenLimit(75)).differing,
        caption_use(planned(laid_out), TokenLimit(75)).unknown,
    ) == ((), 0)
    (laid_out / "train" / "2_sks" / "1.txt").write_text("edited", encoding="utf-8")
    (laid_out.parent / "work" / "2.txt").write_text("edited there", encoding="utf-8")
    (laid_out / "train" / "2_sks" / "3.txt").unlink()
    use = caption_use(planned(laid_out), TokenLimit(75))
    assert ([p.name for p in use.differing], use.unknown) == (["1.png", "2.png", "3.png"], 0)


def test_line_ends_and_spaces_do_not_count_as_a_difference(laid_out):
    (laid_out / "train" / "2_sks" / "1.txt").write_bytes(b"sks,tag 1,  red hair,smile\r\n")
    assert caption_use(planned(laid_out), TokenLimit(75)).differing == ()


def test_sources_are_followed_through_renaming(laid_out):
    api.rename(laid_out.parent / "work", RenameOptions(prefix="new"))
    api.plan_repeats(laid_out, PlanRepeatsOptions(steps=500), apply=True)
    plan = planned(laid_out)
    assert plan.subsets[0].repeats != 2
    assert (
        caption_use(plan, TokenLimit(75)).differing,
        caption_use(plan, TokenLimit(75)).unknown,
    ) == ((), 0)
    (laid_out / "train" / plan.subsets[0].folder.name / "1.txt").write_text(
        "edited", encoding="utf-8"
    )
    use = caption_use(planned(laid_out), TokenLimit(75))
    assert ([p.name for p in use.differing], use.unknown) == (["1.png"], 0)


def test_undone_layout_has_no_sources(laid_out):
    assert len(layout_sources([laid_out])) == 4
    api.undo(laid_out)
    assert layout_sources([laid_out]) == {}


def test_source_of_a_folder_that_dsk_did_not_lay_out_is_unknown(data, plan, laid_out):
    assert (
        caption_use(plan, TokenLimit(75)).unknown,
        caption_use(plan, TokenLimit(75)).differing,
    ) == (4, ())
    for path in (laid_out.parent / "work").glob("*.png"):
        path.unlink()
    assert caption_use(planned(laid_out), TokenLimit(75)).unknown == 4


def test_reading_the_sources_creates_no_file(tmp_path):
    assert layout_sources([tmp_path]) == {}
    assert list(tmp_path.iterdir()) == []


def test_every_key_of_sd_scripts_is_documented():
    known = {name for names in SECTIONS.values() for name in names}
    text = option_pages.sd_scripts_keys() + " dataset_config"
    assert {name for name in known if not re.search(rf"\b{name}\b", text)} == set()
