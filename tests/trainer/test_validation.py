"""Validation: held-out images are not trained, are measured the same way each time, and select
the best step.
"""

import json
import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datasetkit import api
from datasetkit.core.errors import ConfigError, DatasetError
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from tests.trainer.test_run import Killer, Stopped, training_rows
from trainer import config, loop, setup
from trainer.data import seeds
from trainer.files.run_files import RunFiles
from trainer.monitor import metrics, validation
from trainer.objective.losses import TARGETS
from trainer.objective.noise import add_noise
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train

SPLIT = {
    "validation_split": 0.4,
    "max_train_epochs": 2,
    "save_every_n_epochs": 0,
    "network_dropout": 0.1,
}


def planned(data, options):
    return make_plan(find_subsets(data, options)[0], options)


@pytest.fixture
def options(model, tmp_path):
    return tiny.options(model, tmp_path / "out", **SPLIT)


@pytest.fixture(scope="module")
def run(data, model, tmp_path_factory):
    options = tiny.options(model, tmp_path_factory.mktemp("run"), **SPLIT)
    plan = planned(data, options)
    return setup.assemble(options, plan, setup.load_parts(options))


def test_held_out_images_are_not_trained_and_steps_are_those_of_the_rest(data, options):
    whole = planned(data, replace(options, validation_split=0.0))
    plan = planned(data, options)
    held = {p.id for p in plan.held_out}
    assert 1 <= len(held) < 4
    assert {p.id for p in whole.images} == held | {p.id for p in plan.images}
    assert not held & {p.id for p in plan.images}
    assert not any(p.subset.is_reg for p in plan.held_out)
    assert plan.count(is_reg=False) == 2 * (4 - len(held)) == plan.count(is_reg=True)


def test_split_does_not_depend_on_the_runs_seed(data, options):
    first, second, other = (planned(data, replace(options, seed=n)).held_out for n in (1, 2, 3))
    assert first == second == other
    chosen = {planned(data, replace(options, validation_seed=n)).held_out for n in range(6)}
    assert len(chosen) > 1


def test_copies_of_an_image_are_held_out_together(options, tmp_path):
    sizes = [(64, 64)] * 6
    tiny.save_images(tmp_path / "d" / "train" / "2_sks", sizes)
    tiny.save_images(tmp_path / "d" / "train" / "7_other", sizes)
    plan = planned(tmp_path / "d", options)
    assert plan.held_out and len(plan.held_out) == 2 * len({p.id for p in plan.held_out})


def test_one_image_cannot_be_held_out(options, tmp_path):
    tiny.save_images(tmp_path / "d" / "train" / "2_sks", [(64, 64)])
    with pytest.raises(DatasetError, match="two different"):
        planned(tmp_path / "d", options)


@pytest.mark.long
def test_validation_does_not_depend_on_batch_and_seed(run):
    images = (*run.plan.held_out, *run.plan.images[:2])
    first = validation.losses(run, images)
    assert first.shape == (len(images), validation.TIMESTEPS) and bool((first > 0).all())
    assert torch.equal(first, validation.losses(run, images))
    other = replace(run, options=replace(run.options, seed=9, train_batch_size=1))
    assert torch.allclose(first, validation.losses(other, images), rtol=1e-5)
    alone = validation.losses(run, images[1:2])
    assert torch.equal(alone[0], first[1])
    assert not torch.allclose(
        first,
        validation.losses(replace(run, options=replace(run.options, validation_seed=1)), images),
        rtol=1e-3,
    )


def test_validation_is_the_training_loss_without_randomness(run):
    """The base's own UNet, asked by hand at the first timestep of the grid."""
    [image, *_] = run.plan.held_out
    [found, *_] = validation.losses(run, [image])[0].tolist()
    generators = [
        seeds.generator(0, 0, image.id, 0, f"validation {purpose}")
        for purpose in ("latent", "noise")
    ]
    latents = run.encoder.moments(image, image.bucket.crop, False).sample(generators[0])[None]
    latents = latents * run.family.LATENT_SCALE
    noise = torch.randn(latents.shape[1:], generator=generators[1])[None]
    t = torch.tensor([125])
    assert run.process.grid(validation.TIMESTEPS).tolist() == [125, 375, 625, 875]
    noisy = add_noise(latents, noise, t, run.process.alphas)
    with torch.no_grad():
        text = run.family.encode_text(run.parts, [image.caption], clip_skip=1, max_tokens=75)
        predicted = run.family.predict(run.parts, noisy, t, text)
    target = TARGETS[run.process.prediction](latents, noise, t, run.process.alphas)
    assert math.isclose(found, float(((predicted - target) ** 2).mean()), rel_tol=1e-4)


def test_standard_error_is_over_the_images_differences():
    before = torch.tensor([[1.0, 3.0], [5.0, 7.0], [2.0, 2.0]], dtype=torch.float64)
    change = torch.tensor([[-0.1, -0.3], [-0.2, 0.0], [0.1, 0.1]], dtype=torch.float64)
    found = validation.compare(8, 2, before + change, before, (before, before))
    each = [-0.2, -0.1, 0.1]
    mean = sum(each) / 3
    spread = math.sqrt(sum((one - mean) ** 2 for one in each) / 2)
    assert found.change is not None and found.error is not None
    assert math.isclose(found.change, mean, rel_tol=1e-9)
    assert math.isclose(found.error, spread / math.sqrt(3), rel_tol=1e-9)
    assert found.trained_change == 0 and math.isclose(found.gap, -mean, rel_tol=1e-9)
    alone = validation.compare(8, 2, before[:1] + 1, before[:1], (before[:1], before[:1]))
    assert alone.change == 1 and alone.error is None
    unknown = validation.compare(8, 2, before, before, None)
    assert unknown.change is None and unknown.words() == ""


def log(step, epoch, last):
    return loop.StepLog(step, epoch, 0.1, 4, {}, {}, 1.0, last)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, [3, 6, 7]),
        ({"validate_every_n_epochs": 2}, [6, 7]),
        ({"validate_every_n_epochs": 0}, [7]),
        ({"validate_every_n_steps": 2}, [2, 4, 6, 7]),
        ({"validate_every_n_steps": 5, "validate_every_n_epochs": 1}, [3, 5, 6, 7]),
    ],
)
def test_when_validation_is_due(given, wanted):
    options = TrainOptions(validation_split=0.1, **given)
    logs = [log(step, 1 + (step - 1) // 3, step % 3 == 0) for step in range(1, 8)]
    assert [one.step for one in logs if validation.due(options, one, 7)] == wanted


@pytest.fixture(scope="module")
def finished(data, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    options = tiny.options(model, out, **SPLIT, validate_every_n_steps=1)
    reporter = Killer()
    return train(options, planned(data, options), reporter=reporter), out, reporter


def checks(path):
    return [row for row in metrics.read_rows(path) if "validation/loss" in row]


@pytest.mark.long
def test_run_records_each_validation_and_keeps_the_best(finished):
    result, out, reporter = finished
    rows = checks(result.metrics)
    assert [row["step"] for row in rows] == list(range(result.steps + 1))
    assert rows[0]["validation/change"] == 0 and all("loss" not in row for row in rows)
    assert len(metrics.read_rows(result.metrics)) == 2 * result.steps + 1
    least = min(rows[1:], key=lambda row: row["validation/loss"])
    assert (result.best.step, result.best.loss) == (least["step"], least["validation/loss"])
    assert json.loads((out / "sks-best.json").read_text())["step"] == result.best.step
    assert [f.name for f in result.files] == ["sks-best.safetensors", "sks.safetensors"]
    last = rows[-1]
    assert result.last.step == result.steps and result.last.loss == last["validation/loss"]
    assert last["validation/gap"] == last["validation/trained"] - last["validation/loss"]
    before = rows[
        -2
    ]  # the line tells of the last look when a step is taken, and looks come behind steps
    assert (
        f", held out {before['validation/loss']:.4f} ({before['validation/change']:+.4f}"
        in reporter.notes[-1]
    )
    assert result.plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_validation_does_not_change_the_training_and_the_best_file_is_the_lora_of_its_step(
    finished, data, model, tmp_path
):  # fmt: skip
    result, out, _ = finished
    options = tiny.options(
        model, tmp_path / "blind", **{**SPLIT, "save_every_n_steps": 1}, save_state=False
    )
    train(options, replace(planned(data, options), held_out=()))
    name = "sks" if result.best.step == result.steps else f"sks-step{result.best.step:08d}"
    for mine, theirs in (
        (f"{name}.safetensors", "sks-best.safetensors"),
        ("sks.safetensors", "sks.safetensors"),
    ):
        blind, seeing = load_file(tmp_path / "blind" / mine), load_file(out / theirs)
        assert all(torch.equal(blind[key], seeing[key]) for key in seeing)
    assert not (tmp_path / "blind" / "sks-best.safetensors").exists()


@pytest.mark.long
def test_resumed_run_keeps_its_validations(finished, data, model, tmp_path):
    whole, _, _ = finished
    options = tiny.options(
        model, tmp_path / "out", **{**SPLIT, "save_every_n_steps": 2}, validate_every_n_steps=1
    )  # fmt: skip
    with pytest.raises(Stopped):
        train(options, planned(data, options), reporter=Killer(whole.steps - 1))
    result = train(options, planned(data, options), resume=True)
    assert (
        0 < result.start < whole.steps and result.best == whole.best and result.last == whole.last
    )
    assert training_rows(result.metrics) == training_rows(whole.metrics)
    seen = (tmp_path / "out" / "sks-validation.jsonl").read_text()
    assert seen == whole.metrics.with_name("sks-validation.jsonl").read_text()


@pytest.mark.long
def test_new_run_moves_away_the_best_of_an_earlier_one(finished, data, options, tmp_path):
    (tmp_path / "out").mkdir()
    earlier = RunFiles.start(tmp_path / "out", "sks", "2026-11-29T10:15:00Z")
    for name, kind in (
        ("sks-best.safetensors", "lora"),
        ("sks-best.json", "best"),
        ("sks-validation.jsonl", "validation"),
    ):
        earlier.write(name, kind, b"old")
    result = train(replace(options, validation_split=0.0, max_train_steps=1), planned(
        data, replace(options, validation_split=0.0, max_train_steps=1)))  # fmt: skip
    assert (
        [f.name for f in result.files] == ["sks.safetensors"]
        and result.best is None
        and result.last is None
    )
    assert (
        not list((tmp_path / "out").glob("sks-best*"))
        and not (tmp_path / "out" / "sks-validation.jsonl").exists()
    )


def test_tensorboard_has_the_validations(tmp_path):
    board = metrics.TensorBoard(tmp_path, start=0, per_epoch=1)
    board.add_validation(metrics.ValidationPoint(3, 1, 0.5, 0.25, -0.125, 0.5, -0.25))
    board.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    shown = {
        tag: (event.step, event.value)
        for tag in read.Tags()["scalars"]
        for event in read.Scalars(tag)
    }
    assert shown == {
        "loss/validation/step_average": (3, 0.5),
        "loss/validation/step_divergence": (3, 0.25),
        "loss/validation/change": (3, -0.125),
        "loss/validation/change_error": (3, 0.5),
    }


def test_max_validation_steps_limits_the_images(data, options):
    few = replace(options, validation_split=0.7, max_validation_steps=1)
    plan = planned(data, few)
    held, trained = validation.choose_images(plan, few)
    assert held == plan.held_out[:1] and len(trained) == 1 and not trained[0].subset.is_reg


def test_validation_keys_of_sd_scripts_are_accepted(tmp_path, data):
    message = tmp_path / "config.toml"
    message.write_text(
        f'train_data_dir = "{data / "train"}"\nvalidation_split = 0.3\nvalidation_seed = 5\n'
        "validate_every_n_epochs = 2\nvalidate_every_n_steps = 10\nmax_validation_steps = 3\n",
        encoding="utf-8",
    )
    options = config.translate(message, None, {}).options
    assert (options.validation_split, options.validation_seed, options.max_validation_steps) == (
        0.3,
        5,
        3,
    )
    assert (options.validate_every_n_epochs, options.validate_every_n_steps) == (2, 10)


@pytest.mark.parametrize("split", [-0.1, 1, 1.5])
def test_split_leaves_images_to_train(split):
    with pytest.raises(ConfigError, match="validation_split"):
        TrainOptions(validation_split=split)


def test_plan_repeats_counts_what_is_trained(data, options, tmp_path):
    folder = tiny.copy_folder(data, tmp_path / "d")
    (folder / "dsk.toml").write_text(
        "[train]\nresolution = 128\nvalidation_split = 0.4\n", encoding="utf-8"
    )
    counted = api.plan_repeats(folder, api.PlanRepeatsOptions()).plan
    trained = [p for p in planned(folder, options).images if not p.subset.is_reg]
    assert [concept.images for concept in counted.concepts] == [len(trained)]
