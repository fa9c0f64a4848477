"""Learning-rate schedules: golden points, the curves of diffusers, and warm-up in steps or as a part."""

import math
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError
from trainer.lr import SCHEDULES, Course, scheduler, warmup_steps


def optimizer(*rates):
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates])


def rates_of(schedule, steps):
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr())
        schedule.optimizer.step()
        schedule.step()
    return seen


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("constant_with_warmup", [0, 0.5, 1, 1, 1, 1, 1]),
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25, 0]),
        ("cosine", [0, 0.5, 1, 0.853553, 0.5, 0.146447, 0]),
        ("cosine_with_restarts", [0, 0.5, 1, 0.5, 1, 0.5, 0]),
        ("polynomial", [0, 0.5, 1, 0.5625, 0.25, 0.0625, 0]),
    ],
)
def test_schedule_passes_through_its_golden_points(name, golden):
    course = Course(total=60, warmup=20, cycles=2, power=2.0)
    assert [SCHEDULES[name](step, course) for step in range(0, 61, 10)] == pytest.approx(golden, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "polynomial"])
def test_schedule_is_that_of_diffusers(name):
    warmup = 0 if name == "constant" else 7
    # sd-scripts and diffusers' own scripts give `cosine` no number of cycles: half of one is its default.
    cycles: Any = 0.5 if name == "cosine" else 3
    theirs = get_scheduler(name, optimizer(1e-4), num_warmup_steps=warmup, num_training_steps=50, num_cycles=cycles)
    ours = scheduler(optimizer(1e-4), name, Course(50, warmup, cycles=3))
    assert rates_of(ours, 50) == [pytest.approx(rates, rel=1e-9, abs=1e-15) for rates in rates_of(theirs, 50)]


def test_polynomial_is_that_of_diffusers_but_for_its_end():
    theirs = get_scheduler("polynomial", optimizer(1e-4), num_warmup_steps=5, num_training_steps=50, power=2.0)
    ours = scheduler(optimizer(1e-4), "polynomial", Course(50, 5, power=2.0))
    for mine, their in zip(rates_of(ours, 50), rates_of(theirs, 50), strict=True):
        assert mine == pytest.approx(their, abs=1e-7)


def test_reference_run_peaks_three_times_after_82_steps():
    course = Course(total=1000, warmup=82, cycles=3)
    curve = [SCHEDULES["cosine_with_restarts"](step, course) for step in range(1000)]
    assert [step for step, rate in enumerate(curve) if rate == 1.0] == [82, 388, 694]
    assert curve[41] == 0.5


def test_every_group_keeps_its_own_rate():
    first, last = rates_of(scheduler(optimizer(1e-3, 5e-4), "linear", Course(10, 2)), 3)[1:]
    assert first == pytest.approx([5e-4, 2.5e-4])
    assert last == pytest.approx([1e-3, 5e-4])


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    total=st.integers(1, 200),
    share=st.floats(0, 1),
    cycles=st.integers(1, 9),
    beyond=st.integers(0, 20),
)
def test_multiplier_stays_between_0_and_1_also_beyond_the_end(name, total, share, cycles, beyond):
    course = Course(total, int(share * total), cycles, power=1.5)
    curve = [SCHEDULES[name](step, course) for step in range(total + beyond + 1)]
    assert all(0.0 <= rate <= 1.0 and math.isfinite(rate) for rate in curve)


@settings(max_examples=50, deadline=None)
@given(name=st.sampled_from([n for n in SCHEDULES if n != "constant"]), total=st.integers(2, 300), data=st.data())
def test_full_rate_is_reached_right_after_the_warmup(name, total, data):
    course = Course(total, data.draw(st.integers(0, total - 1)))
    assert SCHEDULES[name](course.warmup, course) == 1.0


@pytest.mark.parametrize(
    ("given_as", "steps"),
    [(82, 82), (0, 0), (0.0, 0), (100.0, 100), (0.05, 50), ("5%", 50), ("12.5 %", 125), (0.29, 290), ("100%", 1000)],
)
def test_warmup_is_read_as_steps_or_as_a_part(given_as, steps):
    assert warmup_steps(given_as, 1000) == steps


@pytest.mark.parametrize("given_as", ["5", "five%", "5%%", "101%", "-1%", "nan%", -0.5, 1.5, math.nan, math.inf])
def test_unreadable_warmup_is_an_error(given_as):
    with pytest.raises(ConfigError, match="lr_warmup_steps"):
        warmup_steps(given_as, 1000)


@pytest.mark.parametrize("warmup", [-1, 11])
def test_warmup_longer_than_the_run_is_an_error(warmup):
    with pytest.raises(ConfigError, match="lr_warmup_steps"):
        Course(total=10, warmup=warmup)


def test_constant_with_warmup_steps_is_an_error_instead_of_no_warmup():
    with pytest.raises(ConfigError) as caught:
        scheduler(optimizer(1e-4), "constant", Course(10, 1))
    assert "constant_with_warmup" in caught.value.hint


def test_unknown_schedule_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        scheduler(optimizer(1e-4), "cosine_with_restart", Course(10))
    assert "cosine_with_restarts" in caught.value.hint
