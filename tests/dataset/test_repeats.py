"""Repeats and steps: golden examples, and the plan against a plain simulation of an epoch."""

import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.dataset.advice import advice
from datasetkit.dataset.buckets import BucketRules, select
from datasetkit.dataset.repeats import (
    BatchSettings,
    BlockSamples,
    ConceptImages,
    balance_reg,
    epoch_batches,
    nearest_repeats,
    plan,
    reg_samples,
    steps_per_epoch,
)

SD = BucketRules.standard(512)
ONE_SIZE = BucketRules(enabled=False)


def kohya_reg_loop(num_train, reg):
    """The loop of sd-scripts' DreamBoothDataset, as it stands in the format notes."""
    repeats: dict = {}
    n, first = 0, True
    while n < num_train and reg:
        for image, rep in reg:
            repeats[image] = rep if first else repeats[image] + 1
            n += rep if first else 1
            if n >= num_train:
                break
        first = False
    return repeats


@pytest.mark.parametrize(
    ("images", "repeats", "used", "samples"),
    [(100, 1, 100, {2}), (300, 1, 200, {1}), (7, 1, 7, {28, 29}), (150, 2, 100, {2})],
)
def test_reg_images_are_matched_to_200_training_samples(images, repeats, used, samples):
    taken = reg_samples(20 * 10, [(i, repeats) for i in range(images)])
    assert taken.total == 200
    assert len(taken.samples) == used
    assert {n for _, n in taken.samples} == samples
    assert taken.unused == tuple(range(used, images))


def test_no_training_samples_use_no_reg_image():
    assert reg_samples(0, [("a", 3)]).unused == ("a",)
    assert reg_samples(5, []).total == 0


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 300), st.lists(st.integers(1, 20), max_size=30))
def test_reg_samples_are_those_of_the_loop_of_sd_scripts(num_train, repeats):
    reg = list(enumerate(repeats))
    taken = reg_samples(num_train, reg)
    assert dict(taken.samples) == kohya_reg_loop(num_train, reg)
    assert len(taken.samples) + len(taken.unused) == len(reg)


def test_each_bucket_rounds_up_its_last_batch():
    assert epoch_batches({(512, 512): 9, (448, 576): 1, (576, 448): 4}, 4) == 3 + 1 + 1


def test_a_partial_accumulation_still_steps():
    assert steps_per_epoch(10, 4) == 3
    assert steps_per_epoch(10, 2, processes=3) == math.ceil(math.ceil(10 / 3) / 2)


@pytest.mark.parametrize(
    ("images", "steps", "epochs", "batch", "repeats"),
    [
        (10, 1000, 10, 2, 20),
        (35, 1050, 1, 1, 30),
        (30, 1800, 10, 1, 6),
        (15, 1000, 10, 1, 7),
        (7, 1, 10, 1, 1),
    ],
)
def test_the_formula_of_the_tutorials_gives_the_repeats(images, steps, epochs, batch, repeats):
    made = plan(
        [ConceptImages("x", count=images)],
        rules=SD,
        batch_settings=BatchSettings(epochs, batch),
        steps=steps,
    )
    assert made.concepts[0].repeats == repeats
    assert made.concepts[0].one_bucket_assumed


def test_ten_images_with_twenty_repeats_make_a_thousand_steps():
    (concept,) = plan(
        [ConceptImages("x", count=10)], rules=SD, batch_settings=BatchSettings(10, 2), steps=1000
    ).concepts
    assert (concept.ideal, concept.samples, concept.alone.steps_per_epoch, concept.alone.steps) == (
        20,
        200,
        100,
        1000,
    )


def test_rounding_up_per_bucket_lowers_the_repeats():
    # Five buckets of one image: with batch 4 every repeat adds 1.25 batches by the formula and up
    # to 5 in truth.
    sizes = [(512, 512), (448, 576), (576, 448), (384, 640), (640, 384)]
    (concept,) = plan(
        [ConceptImages("x", sizes)], rules=SD, batch_settings=BatchSettings(1, 4), steps=11
    ).concepts
    assert concept.buckets == dict.fromkeys(sorted(sizes), 1)
    assert concept.ideal == pytest.approx(8.8)
    assert (concept.repeats, concept.alone.steps) == (8, 10)


def test_concepts_are_balanced_as_the_guide_wants():
    concepts = [ConceptImages("nekochan", count=76), ConceptImages("maid", count=16)]
    for steps in (None, 760, 1000):
        made = plan(concepts, rules=SD, batch_settings=BatchSettings(10, 1), steps=steps)
        assert [(c.repeats, c.samples) for c in made.concepts] == [(1, 76), (5, 80)]
        assert made.train.samples == 156


def test_fixed_repeats_are_kept_and_the_others_follow_them():
    concepts = [ConceptImages("a", count=10, repeats=8), ConceptImages("b", count=20)]
    assert [
        c.repeats for c in plan(concepts, rules=SD, batch_settings=BatchSettings()).concepts
    ] == [
        8,
        4,
    ]
    assert [
        c.repeats
        for c in plan(concepts, rules=SD, batch_settings=BatchSettings(), steps=1000).concepts
    ] == [8, 5]


def test_concepts_share_their_batches():
    concepts = [ConceptImages(name, [(512, 512)], repeats=1) for name in "abc"]
    made = plan(concepts, rules=SD, batch_settings=BatchSettings(1, 4))
    assert [c.alone.steps for c in made.concepts] == [1, 1, 1]
    assert made.train.steps == 1


def test_the_face_recipe_counts_reg_images_as_the_trainer_does():
    reg = [ConceptImages("mywife", count=100, repeats=5)]
    concepts = [ConceptImages("mywife", count=100, repeats=10)]
    made = plan(concepts, rules=ONE_SIZE, batch_settings=BatchSettings(10, 1), reg=reg)
    assert (made.train.samples, made.total.samples, made.total.steps) == (1000, 2000, 20000)
    assert made.reg is not None
    assert (made.reg.wanted, made.reg.samples, made.reg.unused) == (500, 1000, 0)


@pytest.mark.parametrize(
    ("samples", "images", "repeats"), [(200, 100, 2), (200, 150, 1), (200, 300, 1), (0, 5, 1)]
)
def test_reg_repeats_are_the_most_that_use_every_image(samples, images, repeats):
    assert balance_reg(samples, images) == repeats


def test_nothing_to_plan_is_an_error():
    with pytest.raises(DatasetError):
        plan([], rules=SD, batch_settings=BatchSettings())
    with pytest.raises(DatasetError):
        ConceptImages("empty")
    with pytest.raises(ConfigError):
        plan([ConceptImages("a", count=1)], rules=SD, batch_settings=BatchSettings(), steps=0)
    with pytest.raises(ConfigError):
        BatchSettings(epochs=0)
    with pytest.raises(ConfigError):
        ConceptImages("a", count=1, repeats=0)


SIZES = st.lists(st.tuples(st.integers(200, 3000), st.integers(200, 3000)), min_size=1, max_size=25)
SCHEDULE = st.builds(
    BatchSettings, st.integers(1, 20), st.integers(1, 8), st.integers(1, 4), st.integers(1, 3)
)


def simulate(concepts, repeats, rules, batch_settings, reg=()):
    """Walk through every epoch of a run as a trainer does; return the optimizer steps and an
    epoch's samples.
    """
    waiting: dict = defaultdict(list)
    samples = 0
    for (name, sizes), n in zip(concepts, repeats, strict=True):
        for i, size in enumerate(sizes):
            waiting[select(rules, *size).bucket] += [(name, i)] * n
            samples += n
    for (i, size), n in kohya_reg_loop(
        samples, [((i, size), rep) for i, (size, rep) in enumerate(reg)]
    ).items():
        waiting[select(rules, *size).bucket] += [("reg", i)] * n
    batches = []
    for images in waiting.values():
        while images:
            batches.append(images[: batch_settings.batch_size])
            del images[: batch_settings.batch_size]
    steps = 0
    for _ in range(batch_settings.epochs):
        shares = [
            batches[i : i + batch_settings.processes]
            for i in range(0, len(batches), batch_settings.processes)
        ]
        for n, _share in enumerate(shares, 1):
            steps += n % batch_settings.gradient_accumulation == 0 or n == len(shares)
    return steps, sum(map(len, batches))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(SIZES, min_size=1, max_size=3),
    SCHEDULE,
    st.integers(1, 600),
    st.lists(
        st.tuples(st.tuples(st.integers(200, 3000), st.integers(200, 3000)), st.integers(1, 4)),
        max_size=6,
    ),
    st.booleans(),
)
def test_the_planned_steps_are_the_steps_of_a_simulated_run(
    sets, batch_settings, steps, reg, no_upscale
):
    rules = BucketRules.standard(512, no_upscale=no_upscale)
    named = [(str(i), sizes) for i, sizes in enumerate(sets)]
    regs = [ConceptImages(str(i), [size], repeats=rep) for i, (size, rep) in enumerate(reg)]
    concepts = [ConceptImages(name, sizes) for name, sizes in named]
    made = plan(concepts, rules=rules, batch_settings=batch_settings, steps=steps, reg=regs)
    repeats = [c.repeats for c in made.concepts]
    assert (made.train.steps, made.train.samples) == simulate(named, repeats, rules, batch_settings)
    assert (made.total.steps, made.total.samples) == simulate(
        named, repeats, rules, batch_settings, reg
    )
    for one, concept in zip(named, made.concepts, strict=True):
        assert (concept.alone.steps, concept.samples) == simulate(
            [one], [concept.repeats], rules, batch_settings
        )


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.tuples(st.integers(1, 9), st.just(1)), st.integers(1, 12), min_size=1),
    SCHEDULE,
    st.integers(1, 2000),
)
def test_no_other_repeats_are_nearer_to_the_steps(images, batch_settings, steps):
    block = BlockSamples(images, batch_settings.batch_size)

    def distance(repeats):
        return abs(batch_settings.steps([block.times(repeats)]) - steps)

    chosen = nearest_repeats([block], batch_settings, steps)
    assert distance(chosen) == min(map(distance, range(1, chosen + 60)))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 500), min_size=2, max_size=6), st.integers(1, 5000))
def test_balanced_concepts_differ_by_at_most_half_of_their_images(counts, steps):
    made = plan(
        [ConceptImages(str(i), count=n) for i, n in enumerate(counts)],
        rules=SD,
        batch_settings=BatchSettings(),
        steps=steps,
    )
    target = max(made.concepts, key=lambda c: c.images).samples
    assert all(abs(c.samples - target) <= c.images / 2 for c in made.concepts)


def advise(
    images, kind="character", steps=1000, epochs=10, batch=1, reg=0, reg_repeats=1, repeats=None
):
    regs = [ConceptImages("1girl", count=reg, repeats=reg_repeats)] if reg else []
    concepts = [ConceptImages(f"c{i}", count=n, repeats=repeats) for i, n in enumerate(images)]
    made = plan(
        concepts, rules=ONE_SIZE, batch_settings=BatchSettings(epochs, batch), steps=steps, reg=regs
    )
    return advice(made, kind)


def test_usual_numbers_need_no_advice():
    assert advise([40], steps=4000) == ()
    assert advise([100], "style", steps=10_000, epochs=20) == ()


def test_numbers_far_out_of_range_are_named_with_the_range_in_one_line():
    (few,) = advise([10], steps=300)
    assert "300 samples in all; 2,000-7,000" in few and "more epochs" in few
    (short,) = advise([10], steps=1200, epochs=40)
    assert "30 samples an epoch; 300-500" in short
    (style,) = advise([40], "style", steps=2000)
    assert "8,000-12,000" in style


def test_fewer_than_one_repeat_advises_fewer_epochs():
    (line, *_) = advise([400])
    assert "4,000 steps in 10 epochs, not 1,000" in line
    assert "--epochs 2 makes 800" in line


def test_one_epoch_that_is_too_long_does_not_advise_one_epoch():
    (line, *_) = advise([4000], epochs=1)
    assert "--epochs" not in line


def test_steps_that_whole_repeats_cannot_reach_are_named():
    assert any("repeats = 1 makes 760 steps, not 1,000" in line for line in advise([76]))


def test_surplus_reg_images_are_named():
    assert any(
        "200 of 600 regularisation images are never used" in a
        for a in advise([40], steps=4000, reg=600)
    )
    lines = advise([40], steps=4000, reg=200, reg_repeats=4)
    assert any("100 of 200" in line and "2 repeats would use them all" in line for line in lines)
    assert advise([40], steps=4000, reg=200, reg_repeats=2) == ()


def test_unbalanced_fixed_repeats_are_named():
    assert any(
        "5 repeats would balance c1" in line for line in advise([76, 16], steps=None, repeats=1)
    )


def test_an_assumed_bucket_is_named_where_it_matters():
    made = plan(
        [ConceptImages("x", count=40)], rules=SD, batch_settings=BatchSettings(10, 4), steps=1000
    )
    assert any("one bucket is assumed" in line for line in advice(made))
