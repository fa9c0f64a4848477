"""Buckets: golden values of sd-scripts, and what holds for any image."""

from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from datasetkit.dataset.buckets import BucketRules, default_range, make_buckets, select

SD = BucketRules((512, 512), 256, 1024, 64)
SDXL = BucketRules((1024, 1024), 256, 2048, 64)
SD_KEEP = BucketRules((512, 512), 256, 1024, 64, no_upscale=True)
SDXL_KEEP = BucketRules((1024, 1024), 256, 2048, 64, no_upscale=True)


def test_the_buckets_of_512_are_those_of_sd_scripts():
    half = [
        (256, 832),
        (256, 896),
        (256, 960),
        (256, 1024),
        (320, 704),
        (320, 768),
        (384, 640),
        (448, 576),
    ]
    assert make_buckets(SD) == tuple(sorted([*half, (512, 512), *((h, w) for w, h in half)]))


@pytest.mark.parametrize(
    ("rules", "count"),
    [
        (SD, 17),
        (BucketRules((768, 768), 320, 1536, 64), 27),
        (SDXL, 41),
        (BucketRules((1024, 1024), 512, 2048, 32), 65),
        (BucketRules((512, 768), 256, 1024, 64), 19),
    ],
)
def test_the_number_of_buckets_is_that_of_sd_scripts(rules, count):
    assert len(make_buckets(rules)) == count


def test_an_oblong_resolution_has_a_square_of_its_area_and_a_clipped_side():
    buckets = make_buckets(BucketRules((512, 768), 256, 1024, 64))
    assert [b for b in buckets if b[0] == b[1]] == [(576, 576)]
    assert (320, 1024) in buckets


def test_the_range_is_widened_to_multiples_of_the_step():
    assert make_buckets(BucketRules((512, 512), 300, 1000, 64)) == make_buckets(SD)


def test_without_buckets_there_is_one_size():
    rules = BucketRules((512, 768), enabled=False)
    assert make_buckets(rules) == ((512, 768),)
    chosen = select(rules, 1000, 1000)
    assert (chosen.bucket, chosen.resized, chosen.crop) == ((512, 768), (768, 768), (128, 0))


SELECTED = [
    # image, then (bucket, resized) for 512, 512 no_upscale, 1024, 1024 no_upscale
    (
        (1920, 1080),
        ((640, 384), (683, 384)),
        ((640, 384), (683, 384)),
        ((1344, 768), (1365, 768)),
        ((1344, 768), (1365, 768)),
    ),
    (
        (1080, 1920),
        ((384, 640), (384, 683)),
        ((384, 640), (384, 683)),
        ((768, 1344), (768, 1365)),
        ((768, 1344), (768, 1365)),
    ),
    (
        (3000, 2000),
        ((640, 384), (640, 427)),
        ((576, 384), (576, 384)),
        ((1216, 832), (1248, 832)),
        ((1216, 832), (1248, 832)),
    ),
    (
        (1000, 1200),
        ((448, 576), (480, 576)),
        ((448, 512), (448, 538)),
        ((960, 1088), (960, 1152)),
        ((896, 1088), (907, 1088)),
    ),
    (
        (640, 480),
        ((576, 448), (597, 448)),
        ((512, 384), (512, 384)),
        ((1152, 896), (1195, 896)),
        ((640, 448), (640, 480)),
    ),
    (
        (300, 900),
        ((256, 832), (277, 832)),
        ((256, 768), (256, 768)),
        ((576, 1728), (576, 1728)),
        ((256, 896), (300, 900)),
    ),
    (
        (4000, 500),
        ((1024, 256), (2048, 256)),
        ((1024, 128), (1024, 128)),
        ((2048, 256), (2048, 256)),
        ((2560, 320), (2560, 320)),
    ),
    (
        (833, 1250),
        ((384, 640), (426, 640)),
        ((384, 576), (384, 576)),
        ((832, 1216), (832, 1248)),
        ((832, 1216), (833, 1250)),
    ),
]


@pytest.mark.parametrize(("size", "sd", "sd_keep", "sdxl", "sdxl_keep"), SELECTED)
def test_images_get_the_buckets_of_sd_scripts(size, sd, sd_keep, sdxl, sdxl_keep):
    chosen = [select(rules, *size) for rules in (SD, SD_KEEP, SDXL, SDXL_KEEP)]
    assert [(c.bucket, c.resized) for c in chosen] == [sd, sd_keep, sdxl, sdxl_keep]


@pytest.mark.parametrize(
    ("size", "bucket", "crop"),
    [
        ((1000, 1200), (960, 1088), (0, 32)),
        ((1920, 1080), (1344, 768), (10, 0)),
        ((3000, 2000), (1216, 832), (16, 0)),
        ((800, 1500), (704, 1408), (23, 0)),
    ],
)
def test_crop_offsets_are_those_of_the_real_crop(size, bucket, crop):
    chosen = select(SDXL, *size)
    assert (chosen.bucket, chosen.crop) == (bucket, crop)


def test_scale_and_loss_are_reported():
    chosen = select(SD, 4000, 500)
    assert chosen.scale == pytest.approx(256 / 500)
    assert chosen.cropped == pytest.approx(0.5)
    assert select(SDXL, 683, 1024).scale == pytest.approx(1.22, abs=0.01)


def test_an_image_of_a_bucket_size_is_unchanged():
    chosen = select(SD, 448, 576)
    assert (chosen.bucket, chosen.resized, chosen.scale, chosen.cropped) == (
        (448, 576),
        (448, 576),
        1.0,
        0.0,
    )


def test_a_side_below_one_step_is_scaled_up_to_one_step():
    assert select(SD_KEEP, 40, 300).bucket == (64, 448)
    assert select(SD_KEEP, 4000, 20).bucket == (4096, 64)
    assert select(SD_KEEP, 1, 1).bucket == (64, 64)
    assert select(SD_KEEP, 20000, 1).bucket == (4096, 64)


@pytest.mark.parametrize(
    ("resolution", "expected"),
    [
        (512, (256, 1024)),
        (768, (320, 1536)),
        (1024, (256, 2048)),
        ((512, 768), (256, 1280)),
        (640, (256, 1280)),
        (256, (128, 512)),
        (64, (64, 128)),
        ((200, 2000), (192, 2048)),
    ],
)
def test_the_default_range_follows_the_resolution(resolution, expected):
    assert default_range(resolution) == expected
    BucketRules.standard(resolution)


@pytest.mark.parametrize(
    "fields",
    [
        {"resolution": (0, 512)},
        {"step": 60},
        {"step": 0},
        {"min_reso": 32},
        {"min_reso": 640},
        {"max_reso": 448},
        {"resolution": (40, 40), "no_upscale": True},
        {"resolution": (500, 500), "enabled": False},
    ],
)
def test_rules_that_make_no_buckets_are_refused_with_a_hint(fields):
    with pytest.raises(ConfigError) as caught:
        BucketRules(**fields)
    assert caught.value.hint


def test_no_upscale_ignores_the_range():
    assert select(BucketRules((512, 512), 640, 448, 64, no_upscale=True), 100, 100).bucket == (
        64,
        64,
    )


RULES = st.builds(
    BucketRules.standard,
    st.one_of(
        st.sampled_from([512, 768, 1024]),
        st.tuples(st.integers(2, 16), st.integers(2, 16)).map(lambda s: (s[0] * 64, s[1] * 64)),
    ),
    step=st.sampled_from([32, 64]),
    no_upscale=st.booleans(),
)
SIDE = st.one_of(st.integers(1, 300), st.integers(1, 20000))


@settings(max_examples=150, deadline=None)
@given(RULES)
def test_buckets_come_in_transposes_within_the_area_and_the_range(rules):
    buckets = make_buckets(rules)
    low, high = rules.sides
    assert {(h, w) for w, h in buckets} == set(buckets)
    assert all(w * h <= rules.area and low <= w <= high and low <= h <= high for w, h in buckets)
    assert all(w % rules.step == h % rules.step == 0 for w, h in buckets)
    assert bool(buckets) is not rules.no_upscale


@settings(max_examples=400, deadline=None)
@given(RULES, SIDE, SIDE)
def test_every_image_covers_its_bucket(rules, width, height):
    chosen = select(rules, width, height)
    for side, resized, offset in zip(chosen.bucket, chosen.resized, chosen.crop, strict=True):
        assert side >= rules.step
        assert side % rules.step == 0
        assert 0 <= offset <= resized - side - offset
    assert 0 <= chosen.cropped < 1
    assert all(
        abs(r - s * chosen.scale) <= 1 for r, s in zip(chosen.resized, (width, height), strict=True)
    )


@settings(max_examples=300, deadline=None)
@given(SIDE, SIDE)
def test_no_upscale_enlarges_only_a_side_below_one_step(width, height):
    chosen = select(SD_KEEP, width, height)
    assert chosen.scale <= 1 or min(chosen.resized) == SD_KEEP.step
    assert chosen.bucket[0] * chosen.bucket[1] <= SD_KEEP.area


# ---- bucket_selector = "fit"
# ----------------------------------------------------------------------------------------


def fit(rules):
    return replace(rules, selector="fit")


@pytest.mark.parametrize(
    ("size", "bucket"),
    [
        ((512, 512), (512, 512)),
        ((3000, 2000), (576, 384)),  # 3:2 whole; kohya cuts 10 % off for 640x384
        ((2000, 3000), (384, 576)),
        ((1920, 1080), (640, 384)),
        ((4000, 500), (1024, 256)),  # wider than any bucket: the same half is lost
    ],
)
def test_fit_chooses_a_bucket_that_crops_less(size, bucket):
    assert select(fit(SD), *size).bucket == bucket


@settings(max_examples=400, deadline=None)
@given(RULES, SIDE, SIDE)
def test_fit_never_crops_more_than_kohya(rules, width, height):
    theirs, ours = select(rules, width, height), select(fit(rules), width, height)
    assert ours.cropped <= theirs.cropped
    assert all(side % rules.step == 0 and side >= rules.step for side in ours.bucket)
    assert all(
        abs(r - s * ours.scale) <= 1 for r, s in zip(ours.resized, (width, height), strict=True)
    )
    if rules.no_upscale:
        assert ours.scale <= 1 or ours == theirs
    elif ours.bucket not in make_buckets(rules):
        assert 0.8 * rules.area <= ours.bucket[0] * ours.bucket[1] <= rules.area
        assert all(rules.sides[0] <= side <= rules.sides[1] for side in ours.bucket)


@settings(max_examples=100, deadline=None)
@given(SIDE, SIDE)
@example(69, 193)  # the nearest ratio is 256x832, and 768x320 on its side
def test_fit_treats_a_rotated_image_alike(width, height):
    upright, lying = select(fit(SD), width, height), select(fit(SD), height, width)
    assert upright.bucket == lying.bucket[::-1]


@pytest.mark.parametrize(
    ("resolution", "kohya", "ours"),
    [(512, 0.0573, 0.0409), (768, 0.0394, 0.0174), (1024, 0.0288, 0.0126)],
)
def test_fit_crops_this_much_less_over_ratios_from_2_to_5_to_5_to_2(resolution, kohya, ours):
    """The numbers of docs/concepts/buckets.md."""
    rules = BucketRules.standard(resolution)
    for made, mean in ((rules, kohya), (fit(rules), ours)):
        sizes = [
            (round(3000 * 2.5 ** (n / 400)), round(3000 / 2.5 ** (n / 400)))
            for n in range(-200, 201)
        ]
        cuts = [select(made, *size).cropped for size in sizes]
        assert sum(cuts) / len(cuts) == pytest.approx(mean, abs=1e-4)


def test_fit_without_buckets_has_one_size():
    rules = BucketRules((512, 768), enabled=False)
    assert select(fit(rules), 1000, 1000) == select(rules, 1000, 1000)


def test_unknown_selector_names_the_nearest():
    with pytest.raises(ConfigError, match="bucket_selector") as caught:
        BucketRules(selector="kohia")
    assert "kohya" in caught.value.hint
