"""LR schedules: golden points, equality with diffusers, and warm-up in steps or as a fraction."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.optimization import get_scheduler
from hypothesis import given, settings
from hypothesis import strategies as st

from datasetkit.core.errors import ConfigError, MissingExtra
from datasetkit.core.install import package_command
from tests.trainer import tiny
from trainer.optimizers.build_scheduler import build, lambda_lr, replay
from trainer.optimizers.lr_schedules import SCHEDULES, LrSchedule, WarmRestarts
from trainer.optimizers.schedule_options import warmup_steps


def optimizer(*rates):
    return torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    )


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
        ("inverse_sqrt", [0, 0.5, 1, 0.816497, 0.707107, 0.632456, 0.57735]),
    ],
)
def test_schedule_passes_through_its_golden_points(name, golden):
    schedule = LrSchedule(total=60, warmup=20, cycles=2, power=2.0)
    assert [SCHEDULES[name](step, schedule) for step in range(0, 61, 10)] == pytest.approx(
        golden, abs=1e-6
    )


OF_DIFFUSERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts")


@pytest.mark.parametrize("name", OF_DIFFUSERS)
def test_schedule_equals_diffusers(name):
    warmup = 0 if name == "constant" else 7
    # sd-scripts and diffusers' own scripts give `cosine` no number of cycles: half of one is its
    # default.
    cycles: Any = 0.5 if name == "cosine" else 3
    theirs = get_scheduler(
        name, optimizer(1e-4), num_warmup_steps=warmup, num_training_steps=50, num_cycles=cycles
    )
    ours = lambda_lr(optimizer(1e-4), name, LrSchedule(50, warmup, cycles=3))
    assert rates_of(ours, 50) == [
        pytest.approx(rates, rel=1e-9, abs=1e-15) for rates in rates_of(theirs, 50)
    ]


def test_polynomial_equals_diffusers_except_at_its_end():
    theirs = get_scheduler(
        "polynomial", optimizer(1e-4), num_warmup_steps=5, num_training_steps=50, power=2.0
    )
    ours = lambda_lr(optimizer(1e-4), "polynomial", LrSchedule(50, 5, power=2.0))
    for mine, their in zip(rates_of(ours, 50), rates_of(theirs, 50), strict=True):
        assert mine == pytest.approx(their, abs=1e-7)


@pytest.mark.parametrize(
    ("name", "theirs", "ours"),
    [
        ("inverse_sqrt", {}, {}),
        ("inverse_sqrt", {"timescale": 30}, {"timescale": 30}),
        ("cosine_with_min_lr", {"min_lr_rate": 0.1}, {"min_ratio": 0.1}),
        (
            "cosine_with_min_lr",
            {"min_lr_rate": 0.1, "num_cycles": 1.5},
            {"min_ratio": 0.1, "cycles": 3},
        ),
        ("warmup_stable_decay", {"num_decay_steps": 15}, {"decay": 15}),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 43, "min_lr_ratio": 0.2},
            {"decay": 43, "min_ratio": 0.2},
        ),
        (
            "warmup_stable_decay",
            {"num_decay_steps": 20, "min_lr_ratio": 0.1, "num_cycles": 1.5},
            {"decay": 20, "min_ratio": 0.1, "cycles": 3},
        ),
        ("cosine_with_restarts", {"num_cycles": 4}, {"cycles": 4}),
    ],
)
@pytest.mark.parametrize("warmup", [0, 7])
def test_schedule_equals_transformers(name, theirs, ours, warmup):
    from transformers import get_scheduler as get

    made = get(
        name,
        optimizer(1e-4),
        num_warmup_steps=warmup,
        num_training_steps=50,
        scheduler_specific_kwargs=theirs,
    )
    mine = lambda_lr(optimizer(1e-4), name, LrSchedule(50, warmup, **ours))
    steps = 50 if name == "cosine_with_min_lr" else 55  # theirs swings up again behind the end
    assert rates_of(mine, steps) == [
        pytest.approx(rates, rel=1e-9, abs=1e-15) for rates in rates_of(made, steps)
    ]


def test_warm_restarts_pass_through_their_golden_points():
    """Two cycles of 10 and 20 steps: rises of 2 and 4, peaks of 1 and 0.5, down to 0.1."""
    schedule = LrSchedule(30, warmup=2, min_ratio=0.1, restarts=WarmRestarts(10, 2.0, 4, 0.5))
    curve = [SCHEDULES["cosine_warm_restarts"](step, schedule) for step in range(30)]
    assert curve[:3] == pytest.approx([0.1, 0.55, 1.0])
    assert curve[6] == pytest.approx(0.55)  # half-way down
    assert curve[9] == pytest.approx(0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 7 / 8)))
    assert curve[10:15] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert curve[22] == pytest.approx(0.3)
    assert curve[29] == pytest.approx(0.1 + 0.4 * 0.5 * (1 + math.cos(math.pi * 15 / 16)))


def test_warm_restarts_without_numbers_are_cosine_with_restarts():
    schedule = LrSchedule(60, 0, cycles=3)
    found = [SCHEDULES["cosine_warm_restarts"](step, schedule) for step in range(60)]
    assert found == pytest.approx(
        [SCHEDULES["cosine_with_restarts"](step, schedule) for step in range(60)]
    )


@settings(max_examples=100, deadline=None)
@given(
    total=st.integers(1, 400),
    cycles=st.integers(1, 7),
    steps=st.integers(0, 90),
    mult=st.floats(0.5, 3.0),
    step=st.integers(0, 450),
)
def test_cycles_follow_each_other_without_gaps(total, cycles, steps, mult, step):
    schedule = LrSchedule(total, cycles=cycles, restarts=WarmRestarts(steps, mult))
    k, place, length = schedule.cycle(step)
    assert 0 <= place < length
    if place:
        assert schedule.cycle(step - 1) == (k, place - 1, length)
    elif step:
        assert schedule.cycle(step - 1)[0] == k - 1
    if not steps and cycles <= total and mult >= 1 and step < total:
        assert k < cycles


def test_reference_run_peaks_three_times_after_82_steps():
    schedule = LrSchedule(total=1000, warmup=82, cycles=3)
    curve = [SCHEDULES["cosine_with_restarts"](step, schedule) for step in range(1000)]
    assert [step for step, rate in enumerate(curve) if rate == 1.0] == [82, 388, 694]
    assert curve[41] == 0.5


def test_every_group_keeps_its_own_rate():
    first, last = rates_of(lambda_lr(optimizer(1e-3, 5e-4), "linear", LrSchedule(10, 2)), 3)[1:]
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
    schedule = LrSchedule(
        total,
        min(int(share * total), total - 1),
        cycles,
        power=1.5,
        decay=total - min(int(share * total), total - 1),
        min_ratio=0.1,
    )
    curve = [SCHEDULES[name](step, schedule) for step in range(total + beyond + 1)]
    assert all(-1e-12 <= rate <= 1.0 + 1e-12 and math.isfinite(rate) for rate in curve)


@settings(max_examples=50, deadline=None)
@given(
    name=st.sampled_from([n for n in SCHEDULES if n != "constant"]),
    total=st.integers(2, 300),
    data=st.data(),
)
def test_full_rate_is_reached_right_after_the_warmup(name, total, data):
    schedule = LrSchedule(total, data.draw(st.integers(0, total - 1)))
    assert SCHEDULES[name](schedule.warmup, schedule) == 1.0


@pytest.mark.parametrize(
    ("given_as", "steps"),
    [
        (82, 82),
        (0, 0),
        (0.0, 0),
        (100.0, 100),
        (0.05, 50),
        ("5%", 50),
        ("12.5 %", 125),
        (0.29, 290),
        ("100%", 1000),
    ],
)
def test_warmup_is_a_number_of_steps_or_a_fraction(given_as, steps):
    assert warmup_steps(given_as, 1000) == steps


@pytest.mark.parametrize(
    "given_as", ["5", "five%", "5%%", "101%", "-1%", "nan%", -0.5, 1.5, math.nan, math.inf]
)
def test_unreadable_warmup_is_an_error(given_as):
    with pytest.raises(ConfigError, match="lr_warmup_steps"):
        warmup_steps(given_as, 1000)


@pytest.mark.parametrize("warmup", [-1, 11])
def test_warmup_longer_than_the_run_is_an_error(warmup):
    with pytest.raises(ConfigError, match="lr_warmup_steps"):
        LrSchedule(total=10, warmup=warmup)


def test_constant_with_warmup_steps_is_an_error_instead_of_no_warmup():
    with pytest.raises(ConfigError) as caught:
        lambda_lr(optimizer(1e-4), "constant", LrSchedule(10, 1))
    assert "constant_with_warmup" in caught.value.hint


def test_unknown_schedule_names_the_nearest():
    with pytest.raises(ConfigError) as caught:
        lambda_lr(optimizer(1e-4), "cosine_with_restart", LrSchedule(10))
    assert "cosine_with_restarts" in caught.value.hint


def made(**others):
    options = tiny.options(Path("model"), Path("out"), **others)
    return build(optimizer(1e-4), options, 40)


def test_options_reach_the_schedule():
    found = rates_of(
        made(
            lr_scheduler="warmup_stable_decay", lr_warmup_steps=0.1, lr_decay_steps="25%",
            lr_scheduler_min_lr_ratio=0.5,
        ),
        40,
    )  # fmt: skip
    expected = [
        SCHEDULES["warmup_stable_decay"](s, LrSchedule(40, 4, decay=10, min_ratio=0.5)) * 1e-4
        for s in range(40)
    ]
    assert [rates[0] for rates in found] == pytest.approx(expected)
    restarts = ("cycle_steps=10", "cycle_mult=2", "cycle_warmup=4", "gamma=0.5")
    found = rates_of(
        made(lr_scheduler="cosine_warm_restarts", lr_warmup_steps=2, lr_scheduler_args=restarts), 40
    )
    schedule = LrSchedule(40, 2, restarts=WarmRestarts(10, 2, 4, 0.5))
    expected = [SCHEDULES["cosine_warm_restarts"](s, schedule) * 1e-4 for s in range(40)]
    assert [rates[0] for rates in found] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("path", "args", "theirs"),
    [
        (
            "CosineAnnealingLR", ("T_max=40", "eta_min=1e-6"),
            lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=40, eta_min=1e-6),
        ),
        (
            "torch.optim.lr_scheduler.MultiStepLR", ("milestones=[10, 20]", "gamma=0.1"),
            lambda o: torch.optim.lr_scheduler.MultiStepLR(o, milestones=[10, 20], gamma=0.1),
        ),
    ],
)  # fmt: skip
def test_schedule_of_any_class(path, args, theirs):
    found = made(lr_scheduler_type=path, lr_scheduler_args=args)
    assert rates_of(found, 40) == rates_of(theirs(optimizer(1e-4)), 40)


@pytest.mark.parametrize(
    "path", ["CosineAnnealingWarmRestarts", "MultiStepLR", "OneCycleLR", "ExponentialLR"]
)
@pytest.mark.parametrize("step", [0, 1, 11, 25])
def test_replayed_scheduler_continues_like_the_original(path, step):
    args = {
        "CosineAnnealingWarmRestarts": ("T_0=7", "T_mult=2"),
        "MultiStepLR": ("milestones=[5, 12, 20]",),
        "OneCycleLR": ("max_lr=0.1", "total_steps=60", "cycle_momentum=False"),
        "ExponentialLR": ("gamma=0.93",),
    }[path]
    whole = rates_of(made(lr_scheduler_type=path, lr_scheduler_args=args), 40)
    again = made(lr_scheduler_type=path, lr_scheduler_args=args)
    replay(again, step)
    assert rates_of(again, 40 - step) == whole[step:]


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"lr_scheduler": "cosine", "lr_decay_steps": 10}, "'cosine' does not use lr_decay_steps"),
        ({"lr_scheduler": "cosine", "lr_scheduler_min_lr_ratio": 0.1}, "cosine_with_min_lr"),
        ({"lr_scheduler": "linear", "lr_scheduler_timescale": 5}, "inverse_sqrt"),
        (
            {"lr_scheduler": "linear", "lr_scheduler_args": ("T_max=3",)},
            "does not use lr_scheduler_args",
        ),
        ({"lr_scheduler": "warmup_stable_decay"}, "lr_decay_steps"),
        (
            {"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": 35, "lr_warmup_steps": 10},
            "of 40 steps",
        ),
        (
            {"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": "half"},
            "lr_decay_steps = 'half'",
        ),
        (
            {"lr_scheduler": "cosine_warm_restarts", "lr_scheduler_args": ("cycles=3",)},
            "cycle_steps, cycle_mult",
        ),
        (
            {"lr_scheduler": "cosine_warm_restarts", "lr_scheduler_args": ("gamma='x'",)},
            "accepts cycle_steps",
        ),
        (
            {"lr_scheduler": "cosine_warm_restarts", "lr_scheduler_args": ("gamma=2",)},
            "gamma = 2 is out of range",
        ),
        (
            {
                "lr_scheduler": "cosine_warm_restarts",
                "lr_scheduler_args": ("cycle_steps=10", "cycle_warmup=10"),
            },
            "a warm-up of 10 steps in a cycle of 10",
        ),
        (
            {
                "lr_scheduler": "cosine_warm_restarts",
                "lr_scheduler_args": ("cycle_steps=10", "gamma=0.1"),
                "lr_scheduler_min_lr_ratio": 0.05,
            },
            "the peak of cycle 4",
        ),
        ({"lr_scheduler_type": "NoSuchLR"}, "has no scheduler NoSuchLR"),
        ({"lr_scheduler_type": "torch.nn.Linear"}, "has no scheduler Linear"),
        ({"lr_scheduler_type": "ReduceLROnPlateau"}, "needs a validation metric"),
        ({"lr_scheduler_type": "CosineAnnealingLR"}, "T_max"),
        (
            {"lr_scheduler_type": "LinearLR", "lr_warmup_steps": 3},
            "under the name that the class uses",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_an_error(others, words):
    with pytest.raises(ConfigError) as caught:
        made(**others)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_missing_package_of_a_schedule_is_named():
    with pytest.raises(MissingExtra) as caught:
        made(lr_scheduler_type="no_such_package.Schedule")
    assert caught.value.hint == package_command("no_such_package")
