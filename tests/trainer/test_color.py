"""Colour augmentation: small changes in a third of the samples, and never to cached latents."""

from random import Random
from typing import Any

import numpy as np
import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer import loop, setup
from trainer.data.epochs import epoch_batches
from trainer.data.pixels import color_augmented, read, with_gamma, with_hue_shift
from trainer.plan.plan import find_subsets, make_plan

RAMP = np.stack([np.tile(np.arange(0, 256, 4, dtype=np.uint8), (8, 1))] * 3, axis=-1)
RED = np.full((4, 4, 3), (200, 40, 40), np.uint8)


def test_a_third_of_the_samples_are_augmented():
    changed = [not np.array_equal(color_augmented(RED, Random(seed)), RED) for seed in range(3000)]
    # A turn of less than half a level of the hue, and a gamma near 1, may change nothing.
    assert 0.29 < sum(changed) / len(changed) < 0.34


def test_changes_are_small_and_the_size_stays():
    for seed in range(300):
        found = color_augmented(RED, Random(seed))
        assert found.dtype == np.uint8 and found.shape == RED.shape
        assert np.abs(found.astype(int) - RED).max() <= 48


def test_augmentation_of_a_sample_is_reproducible():
    assert np.array_equal(color_augmented(RAMP, Random(5)), color_augmented(RAMP, Random(5)))


def test_hue_shift_leaves_grey_unchanged():
    assert np.abs(with_hue_shift(RAMP, 16).astype(int) - RAMP).max() <= 1
    red, green, blue = with_hue_shift(RED, 16)[0, 0].astype(int)
    assert red == 200 and green > 60 and blue == 40  # towards yellow
    red, green, blue = with_hue_shift(RED, -16)[0, 0].astype(int)
    assert red == 200 and green == 40 and blue > 60
    assert np.abs(with_hue_shift(RED, 0).astype(int) - RED).max() <= 1


def test_gamma_keeps_black_and_white_and_moves_what_is_between():
    darker = with_gamma(RAMP, 1.05)
    assert darker[0, 0].tolist() == [0, 0, 0]
    assert with_gamma(np.full((1, 1, 3), 255, np.uint8), 1.05).tolist() == [[[255, 255, 255]]]
    assert (darker <= RAMP).all() and darker[0, 32, 0] == round((128 / 255) ** 1.05 * 255)
    assert (np.abs(darker.astype(int) - RAMP) <= 5).all()


@pytest.mark.parametrize("kept", ["cache_latents", "cache_latents_to_disk"])
def test_color_aug_excludes_cached_latents(kept):
    both: dict[str, Any] = {"cache_latents": False, "cache_latents_to_disk": False, kept: True}
    with pytest.raises(ConfigError, match="color_aug") as caught:
        TrainOptions(color_aug=True, **both)
    assert "cache_latents = false" in caught.value.hint


@pytest.mark.long
def test_training_uses_the_augmented_images(data, model, tmp_path):
    options = tiny.options(model, tmp_path, color_aug=True, cache_latents=False)
    plan = make_plan(find_subsets(data, options)[0], options)
    run = setup.assemble(options, plan, setup.load_parts(options))
    reader, changed = loop.reader(run), []
    for epoch in range(4):
        for batch in epoch_batches(plan, options.seed, epoch):
            for seen, again in zip(
                reader.batch(batch, epoch), reader.batch(batch, epoch), strict=True
            ):
                assert seen.pixels is not None and again.pixels is not None
                assert np.array_equal(seen.pixels, again.pixels)
                plain = read(seen.image, seen.at, flip=seen.flip)
                changed.append(not np.array_equal(seen.pixels, plain))
    assert 0 < sum(changed) < len(changed)
