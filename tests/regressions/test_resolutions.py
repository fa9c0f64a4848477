"""Several resolutions in one run, and several `[[datasets]]` of a dataset.toml: what sd-scripts
trains from the same files.
"""

from __future__ import annotations

import json
import tomllib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.dataset.buckets import BucketRules
from datasetkit.dataset.repeats import BatchSettings, ConceptImages
from datasetkit.dataset.repeats import plan as plan_repeats
from datasetkit.options.check import CheckOptions
from datasetkit.options.dataset import ExportOptions, PlanRepeatsOptions
from datasetkit.options.train import TrainOptions
from datasetkit.verbs.check import check
from datasetkit.verbs.export import export
from datasetkit.verbs.plan_repeats import plan_repeats as plan_repeats_of
from datasetkit.verbs.train import plan_training
from tests.trainer import tiny
from tests.trainer.test_metadata import FACTS
from trainer.config import translate
from trainer.data.epochs import epoch_batches
from trainer.files.metadata import run_metadata
from trainer.files.save_lora import block_facts
from trainer.monitor.validation import choose_images
from trainer.plan.plan import TrainingPlan, find_subsets, make_plan
from trainer.plan.report import block_use
from trainer.plan.resume import differences, facts

SIZES = [(128, 128), (192, 128), (130, 200), (400, 300)]


@pytest.fixture
def data(tmp_path):
    tiny.save_images(tmp_path / "data" / "train" / "2_sks", SIZES)
    tiny.save_images(tmp_path / "data" / "reg" / "1_girl", [(128, 140), (140, 128)], captions=False)
    return tmp_path / "data"


def planned(data, **options) -> TrainingPlan:
    given = TrainOptions(**{"max_train_epochs": 4, "bucket_reso_steps": 8, **options})
    return make_plan(find_subsets(data, given)[0], given)


def planned_file(folder, text, **overrides) -> TrainingPlan:
    """The plan of a dataset.toml."""
    (folder / "dataset.toml").write_text(text, encoding="utf-8")
    read = translate(None, folder / "dataset.toml", {"max_train_epochs": 4, **overrides})
    return make_plan(read.subsets, read.options, notices=read.notices)


def images(folder, count):
    """Images of one size, each with other bytes."""
    return tiny.save_images(folder, [(128, 128)] * count)


def block(text, *folders, reg=()):
    subsets = [f'[[datasets.subsets]]\nimage_dir = "{name}"\n' for name in folders]
    subsets += [f'[[datasets.subsets]]\nimage_dir = "{name}"\nis_reg = true\n' for name in reg]
    return f"[[datasets]]\nenable_bucket = true\nmin_bucket_reso = 64\n{text}\n" + "\n".join(
        subsets
    )


# sd-scripts makes one dataset object of each [[datasets]], with its own buckets, batches and
# matched regularisation images, and shuffles the batches of all of them (a ConcatDataset).


def test_equal_datasets_have_the_steps_of_sd_scripts(tmp_path):
    images(tmp_path / "a", 6), images(tmp_path / "b", 5), images(tmp_path / "girl", 6)
    plan = planned_file(
        tmp_path, block("resolution = 128", "a", reg=["girl"]) + block("resolution = 128", "b")
    )
    assert (plan.totals.batches, plan.steps) == (17, 68)  # as one dataset it would be 22 and 88
    assert [b.samples for b in plan.totals.blocks] == [12, 5]
    assert plan.count(is_reg=True) == 6


def test_batch_size_and_resolution_are_of_each_dataset(tmp_path):
    images(tmp_path / "a", 7), images(tmp_path / "b", 4)
    plan = planned_file(
        tmp_path,
        block("resolution = 128\nbatch_size = 3", "a")
        + block("resolution = [64, 128]\nbatch_size = 2", "a", "b"),
    )
    found = [(b.resolution, b.batch_size, b.samples, b.batches) for b in plan.totals.blocks]
    assert found == [((128, 128), 3, 7, 3), ((64, 128), 2, 11, 6)]
    assert plan.totals.steps_per_epoch == 9
    sizes = {b.number: b.batch_size for b in plan.blocks}
    seen: Counter[tuple[int, int]] = Counter()
    for batch in epoch_batches(plan, 1, 0):
        buckets = {(i.subset.block.number, i.bucket) for i in (plan.images[s.image] for s in batch)}
        assert len(buckets) == 1
        number = next(iter(buckets))[0]
        assert len(batch) <= sizes[number]
        seen.update((number, s.image) for s in batch)
    assert set(seen.values()) == {1} and len(seen) == 18


def test_bucket_options_and_defaults_are_of_each_dataset(tmp_path):
    images(tmp_path / "a", 1)
    plan = planned_file(
        tmp_path,
        "[general]\nresolution = 512\n"
        + block("max_bucket_reso = 768\nbucket_no_upscale = true", "a")
        + block("enable_bucket = false", "a").replace("enable_bucket = true\n", "")
        + block("bucket_reso_steps = 32", "a"),
    )
    first, second, third = [b.rules for b in plan.blocks]
    assert (first.max_reso, first.no_upscale, first.step, first.enabled) == (768, True, 64, True)
    assert (second.max_reso, second.no_upscale, second.step, second.enabled) == (
        1024, False, 64, False,
    )  # fmt: skip
    assert (third.max_reso, third.no_upscale, third.step, third.enabled) == (1024, False, 32, True)
    assert [i.bucket.bucket for i in plan.images] == [(128, 128), (512, 512), (512, 512)]


def test_regularisation_without_training_images_in_its_dataset_is_named(tmp_path):
    images(tmp_path / "a", 3), images(tmp_path / "girl", 2)
    plan = planned_file(
        tmp_path, block("resolution = 128", "a") + block("resolution = 128", reg=["girl"])
    )
    assert plan.count(is_reg=True) == 0 and plan.totals.batches == 3
    assert any("block 2 (128x128): none of its 2 regul" in line for line in plan.notices)


def test_an_override_counts_for_every_dataset(tmp_path):
    images(tmp_path / "a", 1)
    text = block("resolution = 128", "a") + block("resolution = 64", "a")
    plan = planned_file(tmp_path, text, resolution=256)
    assert [b.rules.resolution for b in plan.blocks] == [(256, 256)] * 2
    plan = planned_file(tmp_path, text, resolutions=[256, 512])
    assert [b.rules.resolution[0] for b in plan.blocks] == [256, 512, 256, 512]


# The same folder


@pytest.mark.parametrize("again", ["a", "./a", "b/../a"])
def test_a_folder_named_twice_in_a_dataset_is_trained_once(tmp_path, again):
    images(tmp_path / "a", 2), (tmp_path / "b").mkdir()
    text = block("resolution = 128", "a", again).replace("[[datasets.subsets]]", "{}")
    one, two = "[[datasets.subsets]]\nnum_repeats = 2", "[[datasets.subsets]]\nnum_repeats = 5"
    plan = planned_file(tmp_path, text.format(one, two))
    assert plan.totals.samples == 4
    assert any("named twice: the first is used, with 2 repeats" in line for line in plan.notices)


def test_a_folder_for_training_and_regularisation_is_trained(tmp_path):
    images(tmp_path / "a", 2)
    plan = planned_file(tmp_path, block("resolution = 128", "a", reg=["a"]))
    assert (plan.count(is_reg=False), plan.count(is_reg=True)) == (2, 0)


@pytest.mark.parametrize("repeats", [0, -1])
def test_a_subset_without_repeats_is_left_out(tmp_path, repeats):
    images(tmp_path / "a", 2), images(tmp_path / "b", 3)
    text = block("resolution = 128", "a", "b").replace('"a"', f'"a"\nnum_repeats = {repeats}')
    plan = planned_file(tmp_path, text)
    assert plan.totals.samples == 3
    assert f"a is left out: num_repeats = {repeats}" in plan.notices


# `resolutions`


def test_every_image_is_trained_at_each_resolution(data):
    plan = planned(data, resolutions=(128, 192))
    single = [planned(data, resolution=r) for r in (128, 192)]
    assert [b.buckets for b in plan.totals.blocks] == [p.totals.buckets for p in single]
    assert plan.totals.batches == sum(p.totals.batches for p in single)
    assert plan.steps == 4 * plan.totals.batches
    assert plan.count(is_reg=True) == sum(p.count(is_reg=True) for p in single)
    assert plan.image_count == 6


def test_one_resolution_in_the_list_is_a_run_of_it(data):
    plan, same = planned(data, resolutions=(192,)), planned(data, resolution=192)
    assert plan.totals == same.totals and plan.images == same.images
    assert epoch_batches(plan, 7, 3) == epoch_batches(same, 7, 3)


def test_an_image_draws_otherwise_at_each_resolution(data):
    plan = planned(data, resolutions=(128, 192), train_batch_size=2)
    batches = epoch_batches(plan, 1, 0)
    assert batches == epoch_batches(planned(data, resolutions=(128, 192), train_batch_size=2), 1, 0)
    drawn = [(plan.images[s.image].id, s.number) for batch in batches for s in batch]
    assert len(drawn) == len(set(drawn)) == plan.totals.samples
    for batch in batches:
        assert len({plan.images[s.image].subset.block.number for s in batch}) == 1


def test_a_first_resolution_keeps_its_draws_when_another_is_added(data):
    def draws(plan):
        return {
            (plan.images[s.image].path.name, s.number)
            for batch in epoch_batches(plan, 1, 0)
            for s in batch
            if plan.images[s.image].subset.block.number == 0
        }

    assert draws(planned(data, resolution=128)) == draws(planned(data, resolutions=(128, 192)))


def test_the_planner_counts_as_the_trainer(data):
    options = TrainOptions(resolutions=(128, 192), bucket_reso_steps=8, train_batch_size=3)
    plan = make_plan(find_subsets(data, options)[0], options)
    sizes = {
        s.is_reg: [p.size for p in plan.images if p.subset == s]
        for s in plan.subsets
        if s.block.number == 0
    }
    counted = plan_repeats(
        [ConceptImages("sks", sizes[False], repeats=2)],
        rules=options.all_bucket_rules(),
        batch_settings=BatchSettings(options.max_train_epochs, 3),
        reg=[ConceptImages("girl", sizes[True], repeats=1)],
    )
    assert plan.totals == counted.total
    assert counted.concepts[0].samples == plan.count(is_reg=False)


def test_repeats_for_a_number_of_steps_count_all_resolutions():
    rules = [BucketRules.standard(r) for r in (512, 768, 1024)]
    for steps in (300, 1000, 3001):
        made = plan_repeats(
            [ConceptImages("x", count=10)],
            rules=rules,
            batch_settings=BatchSettings(10, 2),
            steps=steps,
        )
        (concept,) = made.concepts
        assert concept.ideal == pytest.approx(steps / 10 / 30 * 2)
        assert made.train.steps == 10 * 3 * -(-10 * concept.repeats // 2)
        assert abs(made.train.steps - steps) <= 75  # half of what one repeat more adds


def test_held_out_images_are_validated_at_each_resolution(data):
    plan = planned(data, resolutions=(128, 192), validation_split=0.3, validation_seed=3)
    ids = [p.id for p in plan.held_out]
    assert len(ids) == 2 * len(set(ids)) and not {p.id for p in plan.images} & set(ids)
    held, trained = choose_images(plan, TrainOptions(validation_seed=3))
    assert len(held) == len(trained)
    numbers = [[p.subset.block.number for p in chosen] for chosen in (held, trained)]
    assert numbers[0] == numbers[1] == [0, 1] * len(set(ids))


def test_another_list_of_resolutions_cannot_be_resumed_and_is_named(data):
    def facts_of(**given):
        options = TrainOptions(bucket_reso_steps=8, **given)
        return facts(options, make_plan(find_subsets(data, options)[0], options))

    one, two, other = (facts_of(resolutions=r) for r in ((128,), (128, 192), (128, 256)))
    assert differences(two, two) == []
    assert differences(one, two) == ["resolutions was [128] and is [128, 192]"]
    assert differences(two, one) == ["resolutions was [128, 192] and is [128]"]
    assert differences(two, other) == ["resolutions was [128, 192] and is [128, 256]"]


def test_another_batch_size_of_a_dataset_cannot_be_resumed(tmp_path):
    images(tmp_path / "a", 2)

    def facts_of(batch_size):
        text = block("resolution = 128\nbatch_size = 2", "a")
        text += block(f"resolution = 64\nbatch_size = {batch_size}", "a")
        (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
        read = translate(None, tmp_path / "dataset.toml", {"max_train_epochs": 4})
        return facts(read.options, make_plan(read.subsets, read.options))

    assert differences(facts_of(1), facts_of(1)) == []
    (line,) = differences(facts_of(1), facts_of(2))
    assert "a/1.png: options of its folder changed" in line


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"resolutions": (512, 512)}, "names a resolution twice"),
        ({"resolutions": (512, 0)}, "resolution 0x0 is not a size"),
        ({"resolutions": (512, 768), "max_bucket_reso": 640}, "smaller than the resolution 768"),
    ],
)
def test_resolutions_are_checked(given, words):
    with pytest.raises(ConfigError, match=words):
        TrainOptions(**given)


def test_a_pair_is_one_size_and_the_plan_says_so(data):
    (data / "dsk.toml").write_text("[train]\nresolution = [512, 768]\n", encoding="utf-8")
    result = plan_training(data / "dsk.toml")
    assert [b.resolution for b in result.blocks] == [(512, 768)]
    assert any("for two resolutions write resolutions = [512" in n for n in result.plan.notices)
    square = plan_training(data / "dsk.toml", settings={"resolution": [512, 512]})
    assert not any("resolutions" in notice for notice in square.plan.notices)


def test_small_images_keep_their_size_without_upscaling(data):
    plan = planned(data, resolutions=(128, 512), bucket_no_upscale=True)
    assert all(p.bucket.scale <= 1 for p in plan.images)
    second = {p.size: p.bucket.bucket for p in plan.images if p.subset.block.number == 1}
    assert second[400, 300] == (400, 296) and second[130, 200] == (128, 200)
    assert [use.enlarged for use in block_use(plan)] == [0, 0]
    assert [use.enlarged for use in block_use(planned(data, resolutions=(128, 512)))] == [0, 6]


@pytest.mark.parametrize("written", ["[512, 768, 1024]", "[]", '"512,768,1024"'])
def test_a_list_of_resolutions_is_pointed_to_its_own_option(data, written):
    (data / "dsk.toml").write_text(f"[train]\nresolution = {written}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        plan_training(data)
    assert "resolutions = [512, 768]" in caught.value.hint


def test_the_plan_names_each_resolution(data):
    (data / "dsk.toml").write_text(
        "[train]\npretrained_model_name_or_path = 'tiny'\nresolutions = [128, 256]\n"
        "train_batch_size = 2\nbucket_reso_steps = 8\n",
        encoding="utf-8",
    )
    result = plan_training(data / "dsk.toml")
    assert [(b.resolution, b.enlarged) for b in result.blocks] == [((128, 128), 0), ((256, 256), 5)]
    assert sum(b.batches for b in result.blocks) == result.totals.batches
    assert result.captions.written == 4  # an image at two resolutions has one caption
    one = plan_training(data / "dsk.toml", settings={"resolution": 256})
    assert [b.resolution for b in one.blocks] == [(256, 256)]
    assert one.memory_bytes == result.memory_bytes


def test_an_export_names_a_dataset_for_each_resolution(data, tmp_path):
    (data / "dsk.toml").write_text("[train]\nresolutions = [512, 768, 1024]\n", encoding="utf-8")
    export(data, ExportOptions(out=str(tmp_path / "export")))
    text = (tmp_path / "export" / "dataset.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    assert [t["resolution"] for t in tables["datasets"]] == [512, 768, 1024]
    # sd-scripts takes no list of resolutions, and asserts that a resolution lies within its range.
    assert not {"resolution", "resolutions"} & set(tables["general"])
    for table in tables["datasets"]:
        assert table["min_bucket_reso"] <= table["resolution"] <= table["max_bucket_reso"]
        assert [bool(s.get("is_reg")) for s in table["subsets"]] == [False, True]
    read = translate(None, tmp_path / "export" / "dataset.toml", {"max_train_epochs": 10})
    ours = plan_training(data / "dsk.toml").plan
    theirs = make_plan(read.subsets, read.options)
    assert theirs.totals == ours.totals
    assert [b.rules for b in theirs.blocks] == [b.rules for b in ours.blocks]


def test_one_resolution_in_the_list_is_exported_as_one(data, tmp_path):
    (data / "dsk.toml").write_text("[train]\nresolutions = [768]\n", encoding="utf-8")
    export(data, ExportOptions(out=str(tmp_path / "export")))
    text = (tmp_path / "export" / "dataset.toml").read_text(encoding="utf-8")
    tables = tomllib.loads(text)
    assert tables["general"]["resolution"] == 768 and len(tables["datasets"]) == 1


def test_plan_repeats_counts_as_train(data):
    (data / "dsk.toml").write_text(
        "[train]\nresolutions = [512, 768]\ntrain_batch_size = 2\n", encoding="utf-8"
    )
    counted = plan_repeats_of(data, PlanRepeatsOptions()).plan
    assert counted.total == plan_training(data / "dsk.toml").totals
    assert [b.resolution for b in counted.total.blocks] == [(512, 512), (768, 768)]
    one = plan_repeats_of(data, PlanRepeatsOptions(resolution=768)).plan
    assert [b.resolution for b in one.total.blocks] == [(768, 768)]


def test_check_judges_the_worst_resolution(data):
    (data / "dsk.toml").write_text("[train]\nresolutions = [128, 1024]\n", encoding="utf-8")
    findings = check(data, CheckOptions()).findings
    assert any("for its bucket of 1152x896" in f.reason for f in findings)


def test_the_memory_is_that_of_the_largest_batch(tmp_path):
    images(tmp_path / "a", 8)
    texts = [block(f"resolution = {r}\nbatch_size = {b}", "a") for r, b in ((512, 8), (1024, 1))]

    def memory(text):
        (tmp_path / "dataset.toml").write_text(text, encoding="utf-8")
        return plan_training(Path(), dataset_config=tmp_path / "dataset.toml").memory_bytes

    assert memory("\n".join(texts)) == max(map(memory, texts)) > min(map(memory, texts))


def test_metadata_names_each_dataset_as_sd_scripts(data):
    plan = planned(data, resolutions=(128, 192), train_batch_size=2)
    facts = replace(FACTS, blocks=block_facts(plan))
    entries = run_metadata(facts)
    assert not {"ss_resolution", "ss_bucket_info", "ss_reg_dataset_dirs"} & set(entries)
    first, second = json.loads(entries["ss_datasets"])
    assert (first["resolution"], second["resolution"]) == ([128, 128], [192, 192])
    assert first["batch_size_per_device"] == 2 and first["is_dreambooth"] is True
    assert (first["num_train_images"], first["num_reg_images"]) == (8, 8)
    counts = [b["count"] for b in first["bucket_info"]["buckets"].values()]
    assert sum(counts) == 16
    assert [s["image_dir"] for s in first["subsets"]] == ["2_sks", "1_girl"]
    assert first["tag_frequency"]["2_sks"]["sks"] == 4
    # A folder has one entry for each time that it is trained; its tags are counted once.
    assert set(json.loads(entries["ss_dataset_dirs"])) == {"2_sks", "2_sks (2)"}
    assert json.loads(entries["ss_tag_frequency"])["2_sks"]["sks"] == 4
    assert "ss_datasets" not in run_metadata(FACTS) and "ss_resolution" in run_metadata(FACTS)


def test_the_plan_is_printed_by_resolution(data, dsk):
    (data / "dsk.toml").write_text(
        "[train]\nresolutions = [128, 256]\ntrain_batch_size = 2\nbucket_reso_steps = 8\n",
        encoding="utf-8",
    )
    text = dsk("train", str(data / "dsk.toml"), "--dry-run").out
    assert "128x128: 16 samples an epoch in" in text and "0 of 6 images enlarged" in text
    assert "256x256: 16 samples an epoch in" in text and "5 of 6 images enlarged" in text
    assert "32 samples an epoch in 2 blocks" in text
