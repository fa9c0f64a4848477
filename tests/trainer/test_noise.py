"""The noise schedule, and noise that does not depend on the batch."""

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from datasetkit.core.errors import ConfigError
from trainer.objective.noise import (
    add_noise,
    noise_like,
    perturbed,
    timesteps,
    with_offset,
    with_pyramid,
)
from trainer.objective.noise_schedule import alphas_cumprod, signal_and_noise, snr

AB = alphas_cumprod()


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def images(n, size=16):
    return torch.randn((n, 4, size, size), generator=torch.Generator().manual_seed(99)) + 0.7


@pytest.mark.parametrize(
    ("t", "golden"),
    [(0, 1175.4), (100, 8.4539), (250, 2.0655), (500, 0.38185), (750, 0.059513), (999, 0.0046819)],
)
def test_snr_has_its_golden_value(t, golden):
    assert snr(AB)[t].item() == pytest.approx(golden, rel=1e-4)


def test_noise_schedule_and_mixing_equal_diffusers():
    theirs: Any = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    assert AB.shape == (1000,)
    assert AB.dtype == torch.float32
    torch.testing.assert_close(AB, theirs.alphas_cumprod, rtol=1e-4, atol=0)
    z, eps, t = images(3), images(3).flip(0), torch.tensor([0, 500, 999])
    torch.testing.assert_close(
        add_noise(z, eps, t, AB), theirs.add_noise(z, eps, t), rtol=1e-4, atol=1e-4
    )


def test_first_timestep_keeps_its_noise_in_bfloat16():
    _, amount = signal_and_noise(
        AB, torch.tensor([0]), torch.zeros((1, 4, 8, 8), dtype=torch.bfloat16)
    )
    assert amount.dtype == torch.bfloat16
    assert amount.item() == pytest.approx(0.00085**0.5, rel=0.01)


def test_mixed_sample_has_unit_variance():
    z = noise_like(torch.empty((1, 4, 64, 64)), generators(1))
    eps = noise_like(z, generators(2))
    for t in (0, 400, 999):
        assert add_noise(z, eps, torch.tensor([t]), AB).std().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    "draw",
    [
        noise_like,
        lambda z, gs: timesteps(gs)[:, None],
        lambda z, gs: with_offset(
            torch.zeros_like(z), z, gs, 0.1, adaptive=0.05, random_strength=True
        ),
        lambda z, gs: with_pyramid(noise_like(z, gs), gs, 6),
        lambda z, gs: perturbed(torch.zeros_like(z), gs, 0.1, random_strength=True),
    ],
    ids=["noise", "timesteps", "offset", "pyramid", "perturbation"],
)
def test_draw_of_a_sample_does_not_depend_on_its_batch(draw):
    z = images(5)
    z[3] *= 50  # a neighbour that would change a deviation of the whole batch
    together = draw(z, generators(0, 1, 2, 3, 4))
    alone = torch.cat([draw(z[i : i + 1], generators(i)) for i in range(5)])
    assert torch.equal(together, alone)
    assert not torch.equal(together[0], together[1])


def test_every_sample_needs_its_own_generator():
    with pytest.raises(ValueError, match="1 generators for 2 samples"):
        noise_like(images(2), generators(1))


def test_noise_has_the_type_of_the_latents():
    assert noise_like(images(1).half(), generators(1)).dtype == torch.float16
    assert with_pyramid(images(1).half(), generators(1), 3).dtype == torch.float16


def test_timesteps_reach_both_ends_and_no_further():
    drawn = torch.cat([timesteps(generators(seed), 3, 6) for seed in range(40)])
    assert drawn.dtype == torch.int64
    assert set(drawn.tolist()) == {3, 4, 5}


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (5, 5), (6, 5), (0, 1001)])
def test_impossible_timesteps_are_an_error(low, high):
    with pytest.raises(ConfigError):
        timesteps(generators(1), low, high)


def test_offset_is_constant_per_channel():
    z = images(2)
    added = with_offset(torch.zeros_like(z), z, generators(1, 2), 0.1)
    assert torch.equal(added, added[:, :, :1, :1].expand_as(added))
    expected = 0.1 * torch.randn((4, 1, 1), generator=generators(1)[0])
    torch.testing.assert_close(added[0, :, :1, :1], expected)


def test_adaptive_offset_grows_with_the_mean_and_stops_at_zero():
    z = torch.tensor([-2.0, 0.0, 1.0, 3.0]).reshape(1, 4, 1, 1).expand(1, 4, 8, 8)
    zero = torch.zeros_like(z)
    plain = with_offset(zero, z, generators(1), 1.0)
    torch.testing.assert_close(
        with_offset(zero, z, generators(1), 0.1, adaptive=0.2)[0, :, 0, 0],
        plain[0, :, 0, 0] * torch.tensor([0.5, 0.1, 0.3, 0.7]),
    )
    negative = with_offset(zero, z, generators(1), 0.1, adaptive=-0.1)[0, :, 0, 0]
    torch.testing.assert_close(negative, plain[0, :, 0, 0] * torch.tensor([0.0, 0.1, 0.0, 0.0]))


def test_random_strength_is_a_share_of_the_offset():
    z = images(200, size=1)
    full = with_offset(torch.zeros_like(z), z, generators(*range(200)), 1.0, random_strength=True)
    # N(0, 1) * U(0, 1) has the variance 1/3.
    assert full.std().item() == pytest.approx(3**-0.5, rel=0.1)


def test_pyramid_noise_is_coarser_and_has_unit_deviation_in_each_sample():
    z = images(3, size=64)
    plain = noise_like(z, generators(1, 2, 3))
    mixed = with_pyramid(plain, generators(4, 5, 6), 6, 0.5)
    torch.testing.assert_close(mixed.std(dim=(1, 2, 3)), torch.ones(3))
    means = [torch.nn.functional.avg_pool2d(x, 16).std().item() for x in (plain, mixed)]
    assert means[1] > 2 * means[0]


def test_pyramid_stops_at_a_side_of_one_pixel():
    plain = noise_like(torch.empty((1, 4, 2, 2)), generators(1))
    # Level 1 of a 2 x 2 image is one pixel whatever r is, so no third level is ever drawn.
    few, many = (with_pyramid(plain, generators(2), iterations) for iterations in (2, 9))
    assert torch.equal(few, many)


def test_pyramid_without_levels_only_normalises():
    plain = images(1)
    torch.testing.assert_close(with_pyramid(plain, generators(1), 0), plain / plain.std())


def test_perturbation_changes_the_input_only_by_its_strength():
    eps = noise_like(torch.empty((1, 4, 64, 64)), generators(1))
    before = eps.clone()
    assert (perturbed(eps, generators(2), 0.1) - eps).std().item() == pytest.approx(0.1, rel=0.03)
    assert torch.equal(eps, before)
