"""Loss weights by timestep: golden values, and how they combine."""

from dataclasses import fields

import pytest
import torch

from datasetkit.options.train import TrainOptions
from trainer.objective.loss_weights import (
    WEIGHTS,
    debiased,
    like_noise,
    min_snr,
    weights,
    with_v_like,
)
from trainer.objective.noise_schedule import alphas_cumprod, snr

SNR = snr(alphas_cumprod())
T = torch.tensor([0, 500, 999])

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


def test_weights_given_together_are_multiplied():
    s = SNR[torch.tensor([0, 100, 500])]
    assert torch.equal(weights(s, "epsilon", dict.fromkeys(WEIGHTS)), torch.ones(3))
    assert torch.equal(
        weights(s, "v", {"min_snr_gamma": 0, "debiased_estimation_loss": False}), torch.ones(3)
    )
    both = weights(s, "v", {"min_snr_gamma": 5, "debiased_estimation_loss": True})
    torch.testing.assert_close(both, min_snr(s, 5, "v") * debiased(s, "v"))


def test_weights_that_scale_one_prediction_like_the_other():
    assert like_noise(SNR[T]).tolist() == pytest.approx([0.999001, 0.276332, 0.00466], rel=1e-3)
    assert with_v_like(SNR[T], 0.5).tolist() == pytest.approx([1.5005, 2.80943, 108.293], rel=1e-3)
    options = {"v_pred_like_loss": 0.5, "min_snr_gamma": 5.0}
    torch.testing.assert_close(
        weights(SNR[T], "epsilon", options),
        with_v_like(SNR[T], 0.5) * min_snr(SNR[T], 5, "epsilon"),
    )
    torch.testing.assert_close(
        weights(SNR[T], "v", {"scale_v_pred_loss_like_noise_pred": True}), like_noise(SNR[T])
    )


def test_every_weight_is_an_option():
    assert set(WEIGHTS) <= {field.name for field in fields(TrainOptions)}
