"""A search runs on one model: each run starts as if it were the only one, and trains one part."""

from dataclasses import replace

import pytest

from tests.benchmarks import tiny_lora
from tests.trainer import tiny
from trainer import loop, setup
from trainer.lr_search import rules, search
from trainer.lr_search.run_options import of_base, of_probe, searched
from trainer.lr_search.search import Runner
from trainer.monitor import validation
from trainer.plan.plan import find_subsets, make_plan


def runner_of(options, plan, most=4, optimizer="prodigy"):
    base = of_base(options, ["unet", "text"])
    whole = setup.assemble(base, plan, setup.load_parts(base))
    images = validation.training_images(plan, options, rules.IMAGES)
    start = [parameter.detach().clone() for parameter in whole.lora.parameters()]
    return Runner(options, whole, images, start, optimizer, most, 3)


@pytest.fixture(scope="module")
def searching(data, model, tmp_path_factory):
    """Options, a plan and a runner that the tests of this module share."""
    options = searched(tiny.options(model, tmp_path_factory.mktemp("out")))
    plan = make_plan(find_subsets(data, options)[0], options)
    return options, plan, runner_of(options, plan)


def estimates_of(setup_of_run):
    return [max(log.rates.values()) for log in loop.steps(setup_of_run)]


@pytest.mark.long
@pytest.mark.parametrize("part", ["unet", "text"])
def test_a_probe_is_the_run_that_its_options_describe(searching, part):
    """After other runs, and with a second network on the model: bit by bit."""
    options, plan, runner = searching
    runner.probe_once("text" if part == "unet" else "unet", options.seed + 1, 1e-6)
    runner.sweep(part, [1e-3])
    found = runner.probe_once(part, options.seed, 1e-6)
    alone = of_probe(options, part, options.seed, "prodigy", 1e-6)
    run = setup.assemble(alone, replace(plan, steps=4), setup.load_parts(alone))
    assert list(found.estimates) == estimates_of(run)
    assert found.estimates[0] == 1e-6 < found.estimates[-1]


@pytest.mark.long
def test_another_seed_draws_other_weights_and_noise(searching):
    _, _, runner = searching
    first, second = (runner.probe_once("unet", seed, 1e-6) for seed in (1, 2))
    assert first.estimates != second.estimates
    assert runner.probe_once("unet", 1, 1e-6) == first


@pytest.mark.long
def test_the_other_parts_stay_as_they_were(searching):
    _, _, runner = searching
    for part, trained in (("unet", "unet"), ("text", "text_encoder")):
        runner.sweep(part, [1e-2])
        moved = [m.part for m in runner.whole.lora.modules if bool(m.up.any())]
        assert set(moved) == {trained}


@pytest.mark.long
def test_a_sweep_starts_from_the_same_weights_each_time(searching):
    _, _, runner = searching
    first = runner.sweep("unet", [1e-3, 1e-2])
    again = runner.sweep("unet", [1e-2])
    assert first[1].change == again[0].change


@pytest.mark.long
def test_a_rate_that_makes_the_loss_infinite_is_reported(searching):
    _, _, runner = searching
    points = runner.sweep("unet", [1e-3, 100.0])
    assert points[0].loss is not None
    worst = points[1]
    assert worst.change is None or worst.change.is_rise


@pytest.mark.long
def test_an_estimate_that_never_leaves_its_start_is_tried_with_more(searching, monkeypatch):
    _, _, runner = searching
    tried = []
    real = Runner.probe_once

    def frozen(self, part, seed, d0):
        tried.append(d0)
        result = real(self, part, seed, d0)
        return replace(result, outcome="never left d0", estimates=(d0,) * 4)

    monkeypatch.setattr(Runner, "probe_once", frozen)
    found = runner.probe("unet", 1, 1e-12)
    assert tried == pytest.approx([1e-12, 1e-11, 1e-10])
    assert (found.outcome, found.rate, found.d0) == ("never left d0", None, tried[-1])


@pytest.mark.long
def test_few_steps_leave_the_estimate_growing_or_at_its_start(searching):
    _, _, runner = searching
    outcomes = {runner.probe_once(part, 1, 1e-12).outcome for part in ("unet", "text")}
    assert outcomes <= {"growing", "never left d0"}


@pytest.mark.slow
def test_a_short_search_on_the_tiny_base_finds_a_rate_that_learns(tmp_path):
    """The rate lies within a factor of 3 of the hand-tuned 2e-3, and lowers the loss."""
    data = tiny_lora.data_set(tmp_path / "data")
    options = searched(tiny_lora.recipe(tmp_path / "out", train_batch_size=4))
    plan = make_plan(find_subsets(data, options)[0], options)
    (found,) = search.search(options, plan, ["unet"], most=60, seeds=1, sweep_steps=10)
    (probe,) = found.probes
    assert probe.outcome == "flat" and probe.flat_from == 14
    assert probe.rate == pytest.approx(1.98e-3, rel=0.02) and not probe.is_ruined
    assert found.rate is not None and 2e-3 / 3 <= found.rate <= 6e-3
    taken = next(point for point in found.sweep if point.is_taken)
    assert taken.change is not None and taken.change.mean < -0.1
    (frozen,) = search.search(
        options, plan, ["unet"], most=20, seeds=1, sweep_steps=0, d0=1e-13
    )  # fmt: skip
    assert (frozen.rate, frozen.probes[0].outcome) == (None, "never left d0")
