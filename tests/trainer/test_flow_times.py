"""Times of flow-matching models: densities, shifts, weights, and the steps of the sampler."""

import math

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux2.pipeline_flux2 import compute_empirical_mu
from diffusers.training_utils import (
    compute_density_for_timestep_sampling,
    compute_loss_weighting_for_sd3,
)

from datasetkit.core.errors import ConfigError
from trainer.families import flux2
from trainer.objective import flow_sampler, flow_times
from trainer.objective.flow_times import (
    FLUX_SHIFT,
    KREA2_SHIFT,
    QWEN_SHIFT,
    TimeSampling,
    of_options,
    shifted,
)

SIZES = [(512, 512), (768, 768), (832, 1216), (1024, 1024), (1536, 1536)]
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
ANY = (1024, 1024)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize(
    ("rule", "mus", "shifts"),
    [
        (
            FLUX_SHIFT,
            (0.63, 0.846667, 1.125625, 1.15, 2.016667),
            (1.877611, 2.331861, 3.082143, 3.158193, 7.513239),
        ),
        (
            QWEN_SHIFT,
            (0.53871, 0.603226, 0.68629, 0.693548, 0.951613),
            (1.713794, 1.828006, 1.986333, 2.000803, 2.589884),
        ),
        (
            KREA2_SHIFT,
            (0.58125, 0.716667, 0.891016, 0.90625, 1.447917),
            (1.788272, 2.047597, 2.437604, 2.475024, 4.254242),
        ),
    ],
    ids=["flux", "qwen", "krea2"],
)
def test_shift_by_resolution_has_its_golden_values(rule, mus, shifts):
    assert [rule.mu(flow_times.tokens_of(size)) for size in SIZES] == pytest.approx(mus, abs=1e-6)
    assert [rule.shift(size) for size in SIZES] == pytest.approx(shifts, abs=2e-6)


def test_tokens_are_sixteen_pixels_wide():
    assert [flow_times.tokens_of(size) for size in SIZES] == [1024, 2304, 3952, 4096, 9216]


def test_inference_shift_of_flux2_equals_diffusers():
    golden = (1.701956, 1.835871, 2.008286, 2.023351, 2.016659)
    tokens = [flow_times.tokens_of(size) for size in SIZES]
    mus = [math.log(flux2.preview_shift(n, 50)) for n in tokens]
    assert mus == pytest.approx(golden, abs=1e-6)
    assert math.log(flux2.preview_shift(4096, 4)) == pytest.approx(2.29118, abs=1e-5)
    for n in (256, 4096, 4300, 4301, 9216):
        for steps in (4, 28, 200):
            assert math.log(flux2.preview_shift(n, steps)) == pytest.approx(
                compute_empirical_mu(n, steps)
            )


@pytest.mark.parametrize(
    ("shift", "logit_normal", "uniform"),
    [
        (1.0, (0.161806, 0.337492, 0.5, 0.662508, 0.838194), (0.05, 0.25, 0.5, 0.75, 0.95)),
        (
            1.15,
            (0.181667, 0.369415, 0.534884, 0.693015, 0.856266),
            (0.057072, 0.277108, 0.534884, 0.775281, 0.956236),
        ),
        (
            2.2,
            (0.298093, 0.528461, 0.6875, 0.811983, 0.919332),
            (0.103774, 0.423077, 0.6875, 0.868421, 0.976636),
        ),
        (
            3.0,
            (0.366737, 0.604469, 0.75, 0.854843, 0.939543),
            (0.136364, 0.5, 0.75, 0.9, 0.982759),
        ),
        (
            6.0,
            (0.536661, 0.753482, 0.857143, 0.921742, 0.968829),
            (0.24, 0.666667, 0.857143, 0.947368, 0.991304),
        ),
    ],
)
def test_quantiles_of_a_fixed_shift_have_their_golden_values(shift, logit_normal, uniform):
    normal, flat = TimeSampling(shift=shift), TimeSampling("uniform", shift=shift)
    assert [normal.quantile(p, ANY) for p in SHARES] == pytest.approx(logit_normal, abs=1e-6)
    assert [flat.quantile(p, ANY) for p in SHARES] == pytest.approx(uniform, abs=1e-6)


@pytest.mark.parametrize(
    ("rule", "size", "golden"),
    [
        ("flux_shift", (512, 512), (0.266031, 0.488879, 0.652489, 0.78659, 0.906773)),
        ("flux2_shift", ANY, (0.378751, 0.616687, 0.759511, 0.861104, 0.942397)),
        ("qwen_shift", ANY, (0.278622, 0.504765, 0.666756, 0.797063, 0.912008)),
        ("krea2_shift", ANY, (0.32331, 0.557682, 0.712232, 0.829309, 0.927648)),
    ],
)
def test_quantiles_of_a_shift_by_resolution_have_their_golden_values(rule, size, golden):
    sampling = of_options(rule)
    assert [sampling.quantile(p, size) for p in SHARES] == pytest.approx(golden, abs=1e-6)


def test_mode_has_its_golden_values():
    drawn = flow_times.mode(torch.tensor(SHARES, dtype=torch.float64), 1.29)
    golden = [0.893441, 0.616416, 0.5, 0.383584, 0.106559]
    assert drawn.tolist() == pytest.approx(golden, abs=1e-6)


def test_loss_weights_have_their_golden_values():
    s = torch.tensor(SHARES, dtype=torch.float64)
    golden = {
        "sigma_sqrt": (400, 16, 4, 1.7778, 1.108),
        "cosmap": (0.703447, 1.018592, 1.27324, 1.018592, 0.703447),
        "none": (1, 1, 1, 1, 1),
        "logit_normal": (1, 1, 1, 1, 1),
    }
    for scheme, values in golden.items():
        assert flow_times.weights(s, scheme).tolist() == pytest.approx(values, rel=1e-4)
        theirs = compute_loss_weighting_for_sd3(scheme, s)
        torch.testing.assert_close(flow_times.weights(s, scheme), theirs.to(s), rtol=1e-6, atol=0)


def test_signal_to_noise_ratio_has_its_golden_values():
    ratios = flow_times.snr(torch.tensor(SHARES, dtype=torch.float64)).tolist()
    assert ratios == pytest.approx((361, 9, 1, 0.1111, 0.0028), abs=5e-5)


@pytest.mark.parametrize("density", ["logit_normal", "mode"])
def test_drawn_times_equal_diffusers_bit_by_bit(density):
    drawn = TimeSampling(density).draw(generators(*range(50)), ANY)
    theirs = [
        compute_density_for_timestep_sampling(density, 1, 0.0, 1.0, 1.29, generator=generator)
        for generator in generators(*range(50))
    ]
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn, torch.cat(theirs))


@pytest.mark.parametrize(
    "sampling",
    [
        TimeSampling("uniform"),
        TimeSampling("mode"),
        TimeSampling(std=0.5, shift=2.2),
        TimeSampling(shift=FLUX_SHIFT),
    ],
    ids=["uniform", "mode", "shift", "resolution"],
)
def test_time_of_a_sample_does_not_depend_on_its_batch(sampling):
    together = sampling.draw(generators(*range(50)), ANY)
    alone = torch.cat([sampling.draw(generators(seed), ANY) for seed in range(50)])
    assert torch.equal(together, alone)
    assert len(set(together.tolist())) == 50


@pytest.mark.parametrize("density", ["logit_normal", "uniform", "mode"])
def test_drawn_times_have_the_quantiles_of_their_density(density):
    sampling = TimeSampling(density, shift=2.0)
    drawn = sampling.draw(generators(*range(4000)), ANY)
    assert 0.0 < drawn.min() < drawn.max() <= 1.0
    for share in (0.25, 0.5, 0.75):
        assert (drawn < sampling.quantile(share, ANY)).float().mean() == pytest.approx(
            share, abs=0.03
        )


def test_no_density_draws_a_time_without_noise():
    for name in ("uniform", "mode"):
        ends = TimeSampling(name).at(torch.tensor([0.0, 1.0 - 2**-24]), ANY)
        assert ends[0] == 1.0
        assert ends[1] > 0.0


def test_range_scales_the_times():
    sampling = of_options("sigmoid", min_timestep=200, max_timestep=600)
    drawn = sampling.draw(generators(*range(200)), ANY)
    whole = TimeSampling().draw(generators(*range(200)), ANY)
    torch.testing.assert_close(drawn, 0.2 + 0.4 * whole)


def test_options_mean_what_they_mean_in_sd_scripts():
    assert of_options("uniform", discrete_flow_shift=3.0) == TimeSampling("uniform")
    assert of_options("sigmoid", sigmoid_scale=0.5) == TimeSampling(std=0.5)
    assert of_options("shift", discrete_flow_shift=2.2) == TimeSampling(shift=2.2)
    assert of_options("shift") == TimeSampling(shift=3.0)
    assert of_options("qwen_shift", sigmoid_scale=2.0) == TimeSampling(std=2.0, shift=QWEN_SHIFT)
    assert of_options("sigma") == TimeSampling("uniform", shift=3.0)
    assert of_options("sigma", weighting_scheme="cosmap").density == "uniform"
    assert of_options(
        "sigma", weighting_scheme="logit_normal", logit_mean=0.2, logit_std=0.7
    ) == TimeSampling(mean=0.2, std=0.7, shift=3.0)
    assert of_options("sigma", weighting_scheme="mode", mode_scale=1.0) == TimeSampling(
        "mode", mode_scale=1.0, shift=3.0
    )


def test_unknown_sampling_and_impossible_numbers_are_errors():
    with pytest.raises(ConfigError, match="logsnr") as failure:
        of_options("logsnr")
    assert "krea2_shift" in (failure.value.hint or "")
    with pytest.raises(ConfigError, match="discrete_flow_shift"):
        of_options("shift", discrete_flow_shift=0.0)
    with pytest.raises(ConfigError, match="times from"):
        of_options("sigmoid", min_timestep=600, max_timestep=600)


def test_mixing_and_target_equal_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler()
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generators(1)[0])
    s = scheduler.sigmas[[100, 500, 900]]
    mixed = flow_times.add_noise(latents, noise, s)
    theirs = scheduler.scale_noise(latents, scheduler.timesteps[[100, 500, 900]], noise)
    torch.testing.assert_close(mixed, theirs)
    velocity = flow_times.velocity(latents, noise)
    torch.testing.assert_close(velocity, noise - latents)
    torch.testing.assert_close(flow_times.clean(mixed, velocity, s), latents, atol=1e-5, rtol=0)


def test_mixing_keeps_the_type_and_rounds_once():
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=generators(1)[0]).bfloat16()
    mixed = flow_times.add_noise(latents, noise, torch.tensor([0.001]))
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, (0.999 * latents.float() + 0.001 * noise.float()).bfloat16())


def test_steps_have_their_golden_values():
    z_image = flow_sampler.step_times(9, 3.0, last=flow_sampler.smallest_time(3.0))
    golden = "1 .954694 .900359 .833998 .751121 .644686 .502985 .305009 .008929 0"
    assert z_image.tolist() == pytest.approx([float(x) for x in golden.split()], abs=1e-6)
    flux = flow_sampler.step_times(4, math.exp(1.15), last=0.001)
    assert flux.tolist() == pytest.approx((1, 0.863497, 0.612979, 0.003151, 0), abs=1e-6)
    qwen = flow_sampler.step_times(4, QWEN_SHIFT.shift(ANY), last=0.001, terminal=0.02)
    assert qwen.tolist() == pytest.approx((1, 0.803906, 0.509853, 0.02, 0), abs=1e-6)
    thousand = FlowMatchEulerDiscreteScheduler(shift=3.0).sigmas
    mine = shifted(torch.arange(1000, 0, -1) / 1000, 3.0)
    torch.testing.assert_close(mine, thousand)
    assert mine[[0, 250, 500, 750, 999]].tolist() == pytest.approx(
        (1, 0.9, 0.75, 0.5, 0.002994), abs=1e-6
    )


@pytest.mark.parametrize(
    ("steps", "terminal"), [(1, None), (2, None), (28, None), (2, 0.02), (28, 0.02)]
)
def test_steps_of_a_pipeline_equal_diffusers(steps, terminal):
    scheduler = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift_terminal=terminal)
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=0.9)
    mine = flow_sampler.step_times(steps, math.exp(0.9), terminal=terminal)
    torch.testing.assert_close(mine, scheduler.sigmas)


def test_one_step_has_no_range_to_stretch():
    assert flow_sampler.step_times(1, 2.0, terminal=0.02).tolist() == [1.0, 0.0]


def test_euler_steps_equal_diffusers():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(5)
    times = flow_sampler.step_times(5, 3.0, last=flow_sampler.smallest_time(3.0))
    theirs = mine = torch.randn((1, 4, 8, 8), generator=generators(1)[0])
    for now, then, t in zip(times, times[1:], scheduler.timesteps, strict=False):
        theirs = scheduler.step(theirs.tanh() + now, t, theirs).prev_sample
        mine = flow_sampler.euler_step(mine, mine.tanh() + now, now, then)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)


def test_exact_velocity_leads_back_to_the_image_in_one_step():
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=generators(1)[0])
    times = flow_sampler.step_times(1)
    assert times.tolist() == [1.0, 0.0]
    back = flow_sampler.euler_step(noise, flow_times.velocity(latents, noise), *times)
    torch.testing.assert_close(back, latents)
