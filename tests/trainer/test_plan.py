"""The plan equals the training: every sample exactly once, and the planned number of steps."""

import shutil
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.dataset.repeats import BatchSettings, BlockSamples, ConceptImages
from datasetkit.dataset.repeats import plan as plan_repeats
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer.data.epochs import epoch_batches, step_batches
from trainer.plan.plan import (
    Subset,
    TrainImage,
    TrainingPlan,
    caption_options,
    find_subsets,
    make_plan,
)


def test_steps_equal_those_of_plan_repeats(data, options, plan):
    sizes = {
        s.is_reg: [p.size for p in plan.images if p.subset.is_reg == s.is_reg] for s in plan.subsets
    }
    printed = plan_repeats(
        [ConceptImages("sks", sizes[False], repeats=2)],
        rules=options.bucket_rules(),
        batch_settings=BatchSettings(options.max_train_epochs, options.train_batch_size),
        reg=[ConceptImages("girl", sizes[True], repeats=1)],
    )
    assert plan.totals == printed.total
    assert plan.steps == printed.total.steps == 2 * plan.totals.steps_per_epoch
    assert plan.count(is_reg=False) == plan.count(is_reg=True) == 8


def made(samples, sizes, batch, accumulation, processes) -> TrainingPlan:
    """A plan of images that do not exist."""
    from pathlib import Path

    from datasetkit.dataset.buckets import select

    options = TrainOptions(train_batch_size=batch, gradient_accumulation_steps=accumulation)
    subset = Subset(Path("x"), "x", 1, caption_options(options), options.blocks()[0])
    images = tuple(
        TrainImage(
            Path(f"{i}.png"),
            f"id{i // 2}",
            size,
            "x",
            select(options.bucket_rules(), *size),
            subset,
        )
        for i, size in enumerate(sizes)
    )
    batch_settings = BatchSettings(3, batch, accumulation, processes)
    buckets: Counter = Counter()
    for image, n in zip(images, samples, strict=True):
        buckets[image.bucket.bucket] += n
    totals = batch_settings.totals([BlockSamples(buckets, batch)])
    return TrainingPlan(images, tuple(samples), batch_settings, totals, totals.steps)


@settings(max_examples=40, deadline=None)
@given(
    images=st.lists(
        st.tuples(
            st.integers(1, 5), st.sampled_from([(512, 512), (800, 500), (500, 800), (1000, 300)])
        ),
        min_size=1,
        max_size=12,
    ),
    batch=st.integers(1, 5),
    accumulation=st.integers(1, 3),
    processes=st.integers(1, 3),
    seed=st.integers(0, 9),
)
def test_an_epoch_samples_every_image_exactly_as_often_as_planned(
    images, batch, accumulation, processes, seed
):
    samples, sizes = [n for n, _ in images], [size for _, size in images]
    plan = made(samples, sizes, batch, accumulation, processes)
    batches = epoch_batches(plan, seed, 0)
    assert Counter(v.image for b in batches for v in b) == Counter(dict(enumerate(samples)))
    assert len(batches) == plan.totals.batches
    for one in batches:
        assert len({plan.images[v.image].bucket for v in one}) == 1
        assert len(one) <= batch
    computed = [
        place
        for step in range(plan.totals.steps_per_epoch)
        for process in range(processes)
        for place, _ in step_batches(batches, plan, step, process)
    ]
    assert sorted(computed) == list(range(len(batches)))
    looks = [(plan.images[v.image].id, v.number) for b in batches for v in b]
    assert len(looks) == len(set(looks))


def test_order_comes_from_the_seed_and_the_epoch(plan):
    assert epoch_batches(plan, 1, 0) == epoch_batches(plan, 1, 0)
    assert epoch_batches(plan, 1, 0) != epoch_batches(plan, 1, 1)
    assert epoch_batches(plan, 1, 0) != epoch_batches(plan, 2, 0)


def test_reg_images_are_captioned_by_their_class(plan):
    assert {p.caption for p in plan.images if p.subset.is_reg} == {"girl"}
    assert plan.images[0].caption == "sks, tag 1, red hair, smile"


def test_broken_image_is_left_out_alone(data, options, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    (folder / "train" / "2_sks" / "1.png").write_bytes(b"no image")
    plan = make_plan(find_subsets(folder, options)[0], options)
    assert [f.path.name for f in plan.failed] == ["1.png"]
    assert len(plan.images) == 5


def test_two_images_with_one_stem_do_not_share_a_caption(data, options, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    concept = folder / "train" / "2_sks"
    with Image.open(concept / "1.png") as image:
        image.convert("RGB").save(concept / "1.webp")
    plan = make_plan(find_subsets(folder, options)[0], options)
    assert ["dsk rename" in f.hint for f in plan.failed] == [True]


def test_image_without_caption_gets_the_concepts_name_with_a_notice(data, options, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    concept = folder / "train" / "2_sks"
    (concept / "1.txt").unlink()
    (concept / "2.txt").rename(concept / "2.caption")
    (concept / "3.caption").write_text("other", encoding="utf-8")
    plan = make_plan(find_subsets(folder, options)[0], options)
    assert [p.caption for p in plan.images[:3]] == [
        "sks", "sks, tag 2, red hair, smile", "sks, tag 3, red hair, smile",
    ]  # fmt: skip
    assert any("1 image without a caption gets" in n for n in plan.notices)
    assert any("3.png has a .txt and a .caption" in n for n in plan.notices)


def test_unused_reg_images_are_noticed(data, tmp_path, model):
    folder = tiny.copy_folder(data, tmp_path / "data")
    (folder / "reg" / "1_girl").rename(folder / "reg" / "8_girl")
    options = tiny.options(model, tmp_path)
    plan = make_plan(find_subsets(folder, options)[0], options)
    assert plan.samples[-2:] == (8, 0)
    assert any("1 of 2 regularisation images" in n for n in plan.notices)


def test_folder_without_concepts_is_an_error(tmp_path, options):
    with pytest.raises(DatasetError, match="does not exist"):
        find_subsets(tmp_path / "none", options)
    with pytest.raises(DatasetError, match="no <repeats>_<concept>"):
        find_subsets(tmp_path, options)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"optimizer_type": "AdanW"}, "optimizer_type = 'AdanW' is not known"),
        ({"optimizer_args": ("decouple=true",)}, "optimizer_args: 'decouple=true' cannot be read"),
        ({"lr_scheduler": "cosine_warm"}, "lr_scheduler = 'cosine_warm'"),
    ],
)
def test_plan_rejects_unknown_optimizers_and_schedules(data, options, given, says):
    with pytest.raises(ConfigError, match=says):
        make_plan(find_subsets(data, options)[0], replace(options, **given))


def test_rename_does_not_change_the_order(data, options, plan, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    concept = folder / "train" / "2_sks"
    for old, new in (("1", "z1"), ("3", "a3")):
        for suffix in (".png", ".txt"):
            shutil.move(concept / f"{old}{suffix}", concept / f"{new}{suffix}")
    renamed = make_plan(find_subsets(folder, options)[0], options)

    def ids(of):
        return [[(of.images[v.image].id, v.number) for v in b] for b in epoch_batches(of, 1, 0)]

    assert ids(renamed) == ids(plan)


def test_lines_are_separate_captions_with_enable_wildcard(data, model, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    concept = folder / "train" / "2_sks"
    (concept / "1.txt").write_text("\ufeffa,b\r\n\n  c  d, \n,\n", encoding="utf-8")
    found = []
    for on in (False, True):
        options = tiny.options(model, tmp_path, enable_wildcard=on)
        found.append(make_plan(find_subsets(folder, options)[0], options).images[0].caption)
    assert found == ["a, b, c d", "a,b\nc  d,"]


def test_caption_that_is_not_text_leaves_out_its_image_alone(data, options, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "data")
    concept = folder / "train" / "2_sks"
    (concept / "1.txt").write_bytes(b"\xff\xfe\x00")
    (concept / "2.txt").rename(concept / "2.caption")
    (concept / "2.caption").write_bytes(b"\xff")
    plan = make_plan(find_subsets(folder, options)[0], options)
    assert [f.path.name for f in plan.failed] == ["1.png", "2.png"]
    assert all("UTF-8" in f.error for f in plan.failed)


def test_planner_and_trainer_choose_the_same_fit(data, model, tmp_path):
    options = tiny.options(model, tmp_path, bucket_selector="fit")
    plan = make_plan(find_subsets(data, options)[0], options)
    printed = plan_repeats(
        [ConceptImages("sks", [p.size for p in plan.images if not p.subset.is_reg], repeats=2)],
        rules=options.bucket_rules(),
        batch_settings=BatchSettings(options.max_train_epochs, options.train_batch_size),
        reg=[ConceptImages("girl", [p.size for p in plan.images if p.subset.is_reg], repeats=1)],
    )  # fmt: skip
    assert plan.totals == printed.total
    assert options.bucket_rules().selector == "fit"
