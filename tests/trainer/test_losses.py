"""Targets, masks and weights: golden values, and one value a sample."""

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from trainer.losses import TARGETS, debiased, latent_mask, min_snr, mse, weights
from trainer.schedule import PREDICTIONS, alphas_cumprod, snr

AB = alphas_cumprod()
SNR = snr(AB)

# t: min-SNR 5 epsilon, min-SNR 5 v, debiased epsilon, debiased v. Values of sd-scripts.
GOLDEN = {
    0: (0.00425, 0.00425, 0.0316, 0.0010),
    100: (0.5914, 0.5289, 0.3439, 0.1058),
    250: (1, 0.6738, 0.6958, 0.3262),
    500: (1, 0.2763, 1.6183, 0.7237),
    750: (1, 0.0562, 4.0992, 0.9438),
    999: (1, 0.0047, 14.6146, 0.9953),
}


@pytest.mark.parametrize("t", GOLDEN)
def test_snr_weights_have_their_golden_values(t):
    s = SNR[t]
    found = (min_snr(s, 5, "epsilon"), min_snr(s, 5, "v"), debiased(s, "epsilon"), debiased(s, "v"))
    # Half a unit of the last golden digit, and float32.
    assert [w.item() for w in found] == pytest.approx(GOLDEN[t], rel=1e-4, abs=5.1e-5)


def test_debiased_weight_stops_falling_at_snr_1000():
    assert debiased(SNR[0], "epsilon").item() == pytest.approx(1000**-0.5)
    assert debiased(SNR[0], "v").item() == pytest.approx(1 / 1001)


def test_weights_asked_together_are_multiplied():
    s = SNR[torch.tensor([0, 100, 500])]
    assert torch.equal(weights(s, "epsilon"), torch.ones(3))
    assert torch.equal(weights(s, "v", min_snr_gamma=0), torch.ones(3))
    both = weights(s, "v", min_snr_gamma=5, debiased_estimation_loss=True)
    torch.testing.assert_close(both, min_snr(s, 5, "v") * debiased(s, "v"))


def test_every_prediction_has_a_target():
    assert set(TARGETS) == set(PREDICTIONS)


def test_targets_are_those_of_diffusers():
    theirs: Any = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    z, eps, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    assert torch.equal(TARGETS["epsilon"](z, eps, t, AB), eps)
    torch.testing.assert_close(TARGETS["v"](z, eps, t, AB), theirs.get_velocity(z, eps, t), rtol=1e-4, atol=1e-4)


def test_velocity_gives_back_noise_and_picture():
    z, eps, t = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([400])
    a, b = AB[400].sqrt(), (1 - AB[400]).sqrt()
    x, v = a * z + b * eps, TARGETS["v"](z, eps, t, AB)
    torch.testing.assert_close(a * x - b * v, z)
    torch.testing.assert_close(b * x + a * v, eps)


def test_loss_is_one_float32_value_a_sample():
    prediction = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 4, 8, 8).half()
    loss = mse(prediction, torch.zeros(2, 4, 8, 8, dtype=torch.float16))
    assert loss.dtype == torch.float32
    assert loss.tolist() == [1.0, 9.0]


def test_loss_of_half_precision_does_not_overflow():
    prediction = torch.full((1, 4, 8, 8), 300.0, dtype=torch.float16)  # its square is no float16
    assert mse(prediction, torch.zeros_like(prediction)).item() == 90_000.0


def test_masked_loss_is_not_renormalised():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1.0  # the left half
    error = torch.ones(1, 4, 4, 4)
    assert mse(error, torch.zeros_like(error), mask).item() == 0.5


def test_nothing_is_learned_outside_the_mask():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 1, 1] = 0.5
    prediction = torch.randn(1, 4, 4, 4, requires_grad=True)
    mse(prediction, torch.zeros(1, 4, 4, 4), mask).sum().backward()
    assert prediction.grad is not None
    assert prediction.grad[:, :, 1, 1].all()
    assert prediction.grad.count_nonzero().item() == 4


def test_mask_is_shrunk_by_the_mean_of_its_area():
    mask = torch.zeros(1, 1, 16, 8)
    mask[..., :4, :8] = 1.0  # half of the upper 8 x 8 pixels
    assert latent_mask(mask, (2, 1)).flatten().tolist() == [0.5, 0.0]
