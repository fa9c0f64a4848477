"""The rules of a learning-rate search: what is flat, ruined or a candidate, and which rate wins."""

import math
from statistics import median

import pytest

from datasetkit.core.errors import ConfigError
from datasetkit.options.networks import NetworkArgs
from tests.trainer import tiny
from trainer.lr_search import rules, run_options
from trainer.lr_search.rules import Probe
from trainer.optimizers.optimizer_names import literal_args
from trainer.paired import PairedMean, difference

LEARNED = PairedMean(-0.3, 0.01)


def grown(top, steps, ratio=1.8, d0=1e-6):
    """Return an estimate that grows from d0 and stops at `top`."""
    return [min(top, d0 * ratio**n) for n in range(steps)]


def probe(rate, *, outcome="flat", change=LEARNED, d0=1e-6):
    return Probe(42, d0, outcome, (d0, rate), 2, change)


# ---- flat


@pytest.mark.parametrize("top", [1e-4, 1.98e-3])
def test_an_estimate_is_flat_thirty_steps_after_it_stopped(top):
    estimates = grown(top, 60)
    stopped = estimates.index(top) + 1
    found = next(n for n in range(1, 61) if rules.flat_from(estimates[:n], 1e-6))
    assert found == stopped + rules.FLAT_STEPS
    assert rules.flat_from(estimates[:found], 1e-6) == stopped


def test_a_later_flat_must_last_half_of_all_steps():
    estimates = [1e-6 * 1.1**n for n in range(100)]
    estimates += [estimates[-1]] * 110
    lengths = [n for n in range(1, len(estimates) + 1) if rules.flat_from(estimates[:n], 1e-6)]
    assert lengths[0] == 199


def test_growth_of_two_percent_is_not_flat():
    slow = [1e-3] * 10 + [1e-3 * 1.0007**n for n in range(200)]
    assert rules.flat_from(slow[:40], 1e-6) is None
    almost = [1e-3] * 10 + [1e-3 * 1.0006**n for n in range(31)]
    assert rules.flat_from(almost, 1e-6) == 1


@pytest.mark.parametrize("d0", [1e-6, 1e-5])
def test_an_estimate_at_its_start_is_never_flat(d0):
    assert rules.flat_from([d0] * 300, d0) is None
    assert not rules.has_left([d0 * 9.9] * 5, d0)
    assert rules.has_left([d0 * 10.1], d0)
    assert not rules.has_left([], d0)


def test_an_estimate_that_starts_very_low_has_to_reach_the_usual_start_first():
    assert not rules.has_left([1.9e-7], 1e-12)
    assert rules.has_left([1.1e-5], 1e-12)
    assert rules.flat_from([1e-9] * 100, 1e-12) is None


# ---- probes


@pytest.mark.parametrize(
    ("change", "ruined"),
    [
        (PairedMean(-0.3271, 0.012), False),
        (PairedMean(0.019, 0.01), False),
        (PairedMean(0.021, 0.01), True),
        (PairedMean(0.5711, 0.0144), True),
        (PairedMean(math.nan, 0.01), True),
        (PairedMean(0.001, None), True),
        (None, True),
    ],
)
def test_a_probe_is_ruined_if_its_loss_rose_by_two_errors(change, ruined):
    assert probe(1e-3, change=change).is_ruined is ruined


def test_the_candidate_is_the_median_of_the_probes_that_have_a_rate():
    probes = [probe(rate) for rate in (1.98e-3, 4.83e-3, 3.3e-3)]
    assert rules.candidate(probes) == median([1.98e-3, 4.83e-3, 3.3e-3])
    assert rules.candidate([*probes, probe(1e-6, outcome="never left d0")]) == 3.3e-3
    assert rules.candidate([probe(1e-6, outcome="never left d0")]) is None
    assert rules.candidate([probe(math.inf, outcome="not finite"), probe(2e-3)]) == 2e-3


# ---- the sweep


def grid(*means):
    """Return losses of images, (images, 4), with these means."""
    return [[mean] * 4 for mean in means]


BEFORE = grid(0.4, 0.5)


def test_the_smallest_rate_within_one_error_of_the_best_is_taken():
    losses = {1e-3: grid(0.2, 0.28), 2e-3: grid(0.1, 0.19), 4e-3: grid(0.09, 0.2)}
    points = rules.decide(losses, BEFORE)
    changes = [point.change.mean for point in points if point.change is not None]
    assert changes == pytest.approx([-0.21, -0.305, -0.305])
    assert rules.taken_rate(points) == 2e-3
    assert [point.is_taken for point in points] == [False, True, False]


def test_the_error_is_that_of_the_best_change():
    wide = {1e-3: grid(0.15, 0.25), 2e-3: grid(0.0, 0.3)}  # -0.25 ± 0.0; -0.3 ± 0.1
    assert rules.taken_rate(rules.decide(wide, BEFORE)) == 1e-3
    narrow = {1e-3: grid(0.15, 0.25), 2e-3: grid(0.1, 0.2)}
    assert rules.taken_rate(rules.decide(narrow, BEFORE)) == 2e-3


def test_a_rate_that_diverged_or_does_not_learn_is_not_taken():
    losses = {1e-3: grid(0.1, 0.2), 2e-3: None, 4e-3: grid(0.9, 0.9)}
    points = rules.decide(losses, BEFORE)
    assert rules.taken_rate(points) == 1e-3 and points[1].loss is None
    assert rules.taken_rate(rules.decide({1e-3: grid(0.4, 0.5), 2e-3: None}, BEFORE)) is None
    assert rules.taken_rate(rules.decide({1e-3: None}, BEFORE)) is None


def test_the_error_is_over_images_not_over_timesteps():
    change = difference([[0.0, 0.4], [0.2, 0.2]], [[0.1, 0.5], [0.4, 0.4]])
    assert change.mean == pytest.approx(-0.15)
    assert change.error == pytest.approx(0.05)
    assert difference([[0.1]], [[0.2]]).error is None


# ---- cost, options


def test_the_cost_counts_probes_sweep_and_grid():
    cost = rules.cost(2, 3, 300, sweep=True, images=8)
    assert (cost.probes, cost.probe_steps, cost.sweep_steps) == (6, 1800, 480)
    assert cost.passes == (12 + 8 + 2) * 8 * 4
    alone = rules.cost(1, 1, 100, sweep=False, images=2)
    assert (alone.probe_steps, alone.sweep_steps, alone.passes) == (100, 0, 16)


@pytest.mark.parametrize(
    "args",
    [
        NetworkArgs(plus=16.0),
        NetworkArgs(plus_unet=4.0),
        NetworkArgs(plus_text=4.0),
        NetworkArgs(down_weights=("sine", 0.0)),
        NetworkArgs(mid_weights=(0.5,)),
        NetworkArgs(up_weights=tuple([0.5] * 12)),
    ],
)
def test_several_rates_in_one_part_are_refused(args):
    with pytest.raises(ConfigError, match="one rate for all weights"):
        rules.require_one_rate(args)
    rules.require_one_rate(NetworkArgs(conv_dim=4, dora=True))


@pytest.mark.parametrize(
    ("optimizer", "args", "betas"),
    [
        ("AdamW", (), (0.9, 0.999)),
        ("AdamW", ("betas=0.9,0.99",), (0.9, 0.99)),
        ("Prodigy", ("betas=0.8,0.95", "decouple=True"), (0.8, 0.95)),
        ("Lion", ("betas=0.95,0.98",), (0.9, 0.999)),
        ("AdamW", ("betas=oops",), (0.9, 0.999)),
    ],
)
def test_probes_and_sweep_have_the_betas_of_the_trainings_adam(tmp_path, optimizer, args, betas):
    options = tiny.options(
        tmp_path, tmp_path, optimizer_type=optimizer, optimizer_args=args, text_encoder_lr=0.0
    )
    assert run_options.betas_of(options) == betas
    planned = run_options.searched(options)
    for run in (
        run_options.of_probe(planned, "unet", 1, "prodigy", 1e-6),
        run_options.of_probe(planned, "unet", 1, "dadapt", 1e-6),
        run_options.of_sweep(planned, "unet", 1e-3),
    ):
        arguments = literal_args(run.optimizer_args)
        assert (arguments["betas"], arguments["weight_decay"]) == (betas, 0.01)


def test_a_run_trains_one_part_at_a_constant_rate(tmp_path):
    options = tiny.options(
        tmp_path, tmp_path, text_encoder_lr=(1e-4, 0.0), lr_scheduler="cosine",
        lr_warmup_steps=5, ema_decay=0.9, max_grad_norm=1.0,
    )  # fmt: skip
    unet = run_options.of_probe(options, "unet", 7, "prodigy", 1e-5)
    assert unet.rates() == {"unet": 1.0, "text_encoder": 0.0, "text_encoder_2": 0.0}
    assert (unet.seed, unet.lr_scheduler, unet.lr_warmup_steps) == (7, "constant", 0)
    assert (unet.max_grad_norm, unet.ema_decay) == (0.0, 0.0)
    assert "d0=1e-05" in unet.optimizer_args and "safeguard_warmup=False" in unet.optimizer_args
    text = run_options.of_sweep(options, "text", 3e-3)
    assert text.rates() == {"unet": 0.0, "text_encoder": 3e-3, "text_encoder_2": 0.0}
    growth = run_options.of_probe(options, "unet", 7, "dadapt", 1e-6).optimizer_args
    assert "growth_rate=1.2" in growth
