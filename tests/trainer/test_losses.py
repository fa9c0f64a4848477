"""Targets, kinds of loss and masks: golden values, and one value per sample."""

from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler

from datasetkit.core.errors import ConfigError
from datasetkit.options.declare import by_name
from datasetkit.options.train import TrainOptions
from trainer.objective.losses import (
    HUBER_SCHEDULES,
    LOSSES,
    TARGETS,
    each,
    latent_mask,
    mse,
)
from trainer.objective.noise_schedule import PREDICTIONS, alphas_cumprod, snr

AB = alphas_cumprod()
SNR = snr(AB)


def test_every_prediction_has_a_target():
    assert set(TARGETS) == set(PREDICTIONS)


def test_targets_are_those_of_diffusers():
    theirs: Any = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    z, eps, t = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8), torch.tensor([0, 500, 999])
    assert torch.equal(TARGETS["epsilon"](z, eps, t, AB), eps)
    torch.testing.assert_close(
        TARGETS["v"](z, eps, t, AB), theirs.get_velocity(z, eps, t), rtol=1e-4, atol=1e-4
    )


def test_velocity_gives_back_noise_and_image():
    z, eps, t = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([400])
    a, b = AB[400].sqrt(), (1 - AB[400]).sqrt()
    x, v = a * z + b * eps, TARGETS["v"](z, eps, t, AB)
    torch.testing.assert_close(a * x - b * v, z)
    torch.testing.assert_close(b * x + a * v, eps)


def test_loss_is_one_float32_value_per_sample():
    prediction = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 4, 8, 8).half()
    loss = mse(prediction, torch.zeros(2, 4, 8, 8, dtype=torch.float16))
    assert loss.dtype == torch.float32
    assert loss.tolist() == [1.0, 9.0]


def test_loss_of_half_precision_does_not_overflow():
    prediction = torch.full(
        (1, 4, 8, 8), 300.0, dtype=torch.float16
    )  # its square overflows float16
    assert mse(prediction, torch.zeros_like(prediction)).item() == 90_000.0


def test_masked_loss_is_not_renormalised():
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1.0  # the left half
    error = torch.ones(1, 4, 4, 4)
    assert mse(error, torch.zeros_like(error), mask).item() == 0.5


def test_no_gradient_outside_the_mask():
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


# ---- kinds of loss

T = torch.tensor([0, 500, 999])


@pytest.mark.parametrize(
    ("schedule", "golden"),
    [
        ("constant", [0.1, 0.1, 0.1]),
        ("exponential", [1.0, 0.316228, 0.100231]),
        ("snr", [0.949709, 0.231282, 0.103691]),
    ],
)
def test_huber_c_has_its_golden_values(schedule, golden):
    assert HUBER_SCHEDULES[schedule](T, SNR[T], 0.1, 1.0).tolist() == pytest.approx(
        golden, rel=1e-4
    )


def test_huber_scale_multiplies_c_except_in_the_snr_schedule():
    for name, schedule in HUBER_SCHEDULES.items():
        once, twice = schedule(T, SNR[T], 0.1, 1.0), schedule(T, SNR[T], 0.1, 2.0)
        torch.testing.assert_close(twice, once * (1 if name == "snr" else 2))


def test_huber_c_is_finite_at_zero_snr():
    for schedule in HUBER_SCHEDULES.values():
        assert schedule(torch.tensor([999]), torch.zeros(1), 0.1, 1.0).tolist() == pytest.approx(
            [0.1], rel=0.01
        )


@pytest.mark.parametrize(
    ("kind", "c", "difference", "golden"),
    [
        ("l2", 0.1, 3.0, 9.0),
        ("l1", 0.1, -3.0, 3.0),
        ("huber", 0.1, 1.0, 0.18099751),
        ("smooth_l1", 0.1, 1.0, 1.8099751),
        ("huber", 1.0, 0.1, 0.0099751),  # like l2 for small differences
        ("huber", 0.001, 5.0, 0.01),  # like 2 c l1 for large differences
        ("smooth_l1", 0.001, 5.0, 10.0),  # like 2 l1
    ],
)
def test_kinds_of_loss_have_their_golden_values(kind, c, difference, golden):
    loss = each(
        torch.full((2, 4, 8, 8), difference),
        torch.zeros(2, 4, 8, 8),
        kind=kind,
        c=torch.tensor([c, c]),
    )
    assert loss.tolist() == pytest.approx([golden, golden], rel=1e-3)


@pytest.mark.parametrize("kind", LOSSES)
def test_every_sample_has_its_own_c_and_mask(kind):
    generator = torch.Generator().manual_seed(0)
    prediction, target = (torch.randn(3, 4, 4, 4, generator=generator) for _ in range(2))
    c, mask = torch.tensor([0.1, 0.5, 1.0]), torch.rand(3, 1, 4, 4, generator=generator)
    together = each(prediction, target, mask, kind=kind, c=c)
    alone = [
        each(prediction[i : i + 1], target[i : i + 1], mask[i : i + 1], kind=kind, c=c[i : i + 1])
        for i in range(3)
    ]
    torch.testing.assert_close(together, torch.cat(alone))
    assert together.dtype == torch.float32


def test_the_squared_error_is_the_kind_l2_to_the_last_bit():
    prediction, target = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    expected = ((prediction - target) ** 2).mean(dim=(1, 2, 3))
    assert torch.equal(mse(prediction, target), expected)
    assert torch.equal(each(prediction, target, kind="l2", c=torch.full((2,), 0.3)), expected)


def test_choices_of_the_options_are_the_keys_of_the_tables():
    assert set(by_name(TrainOptions)["loss_type"].choices) == set(LOSSES)
    assert set(by_name(TrainOptions)["huber_schedule"].choices) == set(HUBER_SCHEDULES)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"zero_terminal_snr": True, "v_parameterization": False}, "zero_terminal_snr"),
        ({"scale_v_pred_loss_like_noise_pred": True, "v_parameterization": False}, "velocity"),
        ({"v_pred_like_loss": 0.1, "v_parameterization": True}, "noise"),
        ({"loss_type": "hubert"}, "huber"),
        ({"huber_schedule": "linear"}, "huber_schedule"),
        ({"huber_c": 0.0}, "huber_c"),
    ],
)
def test_options_that_contradict_each_other_are_refused(others, words):
    with pytest.raises(ConfigError) as caught:
        TrainOptions(**others)
    assert words in f"{caught.value.message} {caught.value.hint}"
