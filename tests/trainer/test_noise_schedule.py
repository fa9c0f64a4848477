"""The noise schedule with zero terminal SNR: its values, its weights, and its samplers."""

import diffusers
import numpy as np
import pytest
import torch
from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

from tests.trainer import tiny
from trainer import loop, setup
from trainer.monitor import preview
from trainer.monitor.prompts import Prompt
from trainer.objective.loss_weights import debiased, min_snr
from trainer.objective.noise_schedule import alphas_cumprod, alphas_of, betas, snr, zero_terminal
from trainer.objective.process import Ddpm
from trainer.objective.samplers import SAMPLERS, of_diffusers
from trainer.plan.plan import find_subsets, make_plan

AB = alphas_cumprod()
MOVED = zero_terminal(AB)


def test_zero_terminal_snr_keeps_the_first_timestep_and_makes_the_last_pure_noise():
    assert MOVED[0] == AB[0]
    assert MOVED[-1] == 0
    assert (MOVED[:-1] > 0).all() and (MOVED.diff() < 0).all()
    assert MOVED.dtype == torch.float32


def test_zero_terminal_schedule_equals_the_papers():
    """Algorithm 1 of arXiv:2305.08891, as diffusers has it, which keeps betas."""
    given = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    theirs = torch.cumprod(1 - rescale_zero_terminal_snr(given), dim=0)
    torch.testing.assert_close(MOVED, theirs.float(), rtol=1e-5, atol=1e-9)


def test_run_without_zero_terminal_snr_has_the_plain_noise_schedule():
    assert torch.equal(alphas_of(zero_terminal_snr=False), AB)
    assert torch.equal(alphas_of(zero_terminal_snr=True), MOVED)


def test_weights_use_the_zero_terminal_snr_and_are_finite_for_velocity():
    moved = snr(MOVED)
    assert moved[-1] == 0 and moved[500] < snr(AB)[500]
    for weight in (min_snr(moved, 5, "v"), debiased(moved, "v")):
        assert torch.isfinite(weight).all()
    assert min_snr(moved, 5, "epsilon")[-1].isnan()  # why noise is not predicted so


def test_betas_reproduce_the_noise_schedule():
    again = torch.cumprod(1 - torch.tensor(betas(AB), dtype=torch.float64), dim=0)
    torch.testing.assert_close(again.float(), AB)
    last = torch.cumprod(1 - torch.tensor(betas(MOVED), dtype=torch.float64), dim=0)
    torch.testing.assert_close(last[:-1].float(), MOVED[:-1])
    assert last[-1] == pytest.approx(2**-24)


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # in diffusers, with numpy 2
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_starts_at_the_last_timestep(sampler):
    made = of_diffusers(sampler, 10, "v", zero_terminal=True, device=torch.device("cpu")).scheduler
    assert isinstance(made, getattr(diffusers, SAMPLERS[sampler][0]))
    assert made.timesteps[0] == 999
    assert float(made.alphas_cumprod[-1]) == pytest.approx(2**-24, rel=0.1)
    assert torch.isfinite(torch.as_tensor(float(made.init_noise_sigma)))


@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # in diffusers, with numpy 2
def test_v_prediction_model_trains_and_generates_with_zero_terminal_snr(data, model, tmp_path):
    options = tiny.options(
        model, tmp_path, v_parameterization=True, zero_terminal_snr=True, min_timestep=999,
        min_snr_gamma=0.0, max_train_steps=2, scale_v_pred_loss_like_noise_pred=False,
    )  # fmt: skip
    plan = make_plan(find_subsets(data, options)[0], options)
    run = setup.assemble(options, plan, setup.load_parts(options))
    assert isinstance(run.process, Ddpm) and run.process.alphas[-1] == 0
    assert all(0 < log.loss < 100 and log.grad_norm > 0 for log in loop.steps(run))
    for sampler in ("ddim", "euler_a"):
        prompt = Prompt(
            text="sks", width=64, height=64, steps=3, sampler=sampler, seed=1, guidance=2.0
        )
        (image,) = preview.generate(run, [prompt])
        assert np.asarray(image).std() > 0
