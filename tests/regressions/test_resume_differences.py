"""What a resume refuses is said before anything is loaded, in the words of the user's files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from datasetkit.cli.main import run as run_dsk
from datasetkit.core.errors import ConfigError, DskError, InputError
from datasetkit.verbs.train import plan_training, saved_step
from tests.trainer import tiny
from trainer import run, setup
from trainer.files import saved_states
from trainer.files.run_files import RunFiles
from trainer.files.saved_states import LORA, OPTIMIZER, STATE
from trainer.monitor import loss_plot
from trainer.plan import resume
from trainer.plan.plan import find_subsets, make_plan

STARTED = "2026-11-29T10:00:00Z"


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    tiny.save_images(folder / "train" / "2_sks", [(64, 64), (64, 96), (96, 64), (64, 64)])
    tiny.save_images(folder / "reg" / "1_girl", [(64, 64), (64, 72)], captions=False)
    return folder


@pytest.fixture
def options(tmp_path):
    """Options for 3 epochs of 8 steps; the base is a file that is not there."""
    return tiny.options(
        tmp_path / "no such base", tmp_path / "out", resolution=64, max_bucket_reso=128,
        max_train_epochs=3, train_batch_size=2,
    )  # fmt: skip


def planned(data, options):
    return make_plan(find_subsets(data, options)[0], options)


def write_state(options, plan, step=5, *, pause=True, **more):
    """Write a state that has everything but tensors."""
    folder = Path(options.output_dir)
    folder.mkdir(exist_ok=True)
    files = RunFiles.start(folder, "sks", STARTED)
    state = {
        "version": saved_states.VERSION, "step": step, "facts": resume.facts(options, plan),
        "threads": 1, **more,
    }  # fmt: skip
    contents = {LORA: b"", OPTIMIZER: b"", STATE: json.dumps(state).encode()}
    return saved_states.write(files, step, contents, pause=pause)


def point(data, options, **more):
    return resume.resume_point(
        Path(options.output_dir), "sks", options, planned(data, options), **more
    )


def refusal(data, options, **more):
    with pytest.raises(ConfigError) as error:
        point(data, options, **more)
    return error.value


@pytest.fixture
def state(data, options):
    return write_state(options, planned(data, options))


TRAIN = Path("train", "2_sks")


def change_caption(data):
    (data / TRAIN / "1.txt").write_text("sks, other", encoding="utf-8")


def change_image(data):
    Image.new("RGB", (64, 64)).save(data / TRAIN / "1.png")


def remove(data):
    (data / TRAIN / "4.png").unlink()


def add(data):
    Image.new("RGB", (64, 64), "red").save(data / TRAIN / "5.png")


def remove_a_caption(data):
    (data / TRAIN / "2.txt").unlink()


def rename_and_caption(data):
    (data / TRAIN / "1.png").rename(data / TRAIN / "other.png")
    (data / TRAIN / "1.txt").unlink()


def change_repeats(data):
    (data / TRAIN).rename(data / "train" / "3_sks")


def change_a_reg_image(data):
    Image.new("RGB", (64, 64)).save(data / "reg" / "1_girl" / "1.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (change_caption, "2_sks/1.png: caption changed"),
        (change_image, "2_sks/1.png: image changed"),
        (remove, "2_sks/4.png: removed"),
        (add, "2_sks/5.png: added"),
        (remove_a_caption, "2_sks/2.png: caption changed"),
        (rename_and_caption, "2_sks/other.png: caption changed"),
        (change_repeats, "3_sks/1.png: 2 samples an epoch, now 3"),
        (change_a_reg_image, "1_girl/1.png: image changed"),
    ],
)
def test_an_image_that_differs_is_named_with_what_was_done(data, options, state, change, words):
    change(data)
    error = refusal(data, options)
    assert error.message.startswith(f"{state.name} cannot be resumed: {words}")
    assert "set it back" in error.hint


def test_the_first_three_images_are_named_and_the_others_counted(data, options, state):
    for caption in (data / TRAIN).glob("*.txt"):
        caption.write_text("other")
    message = refusal(data, options).message
    assert message.count("caption changed") == 3 and message.endswith(", and 1 more")


def test_renamed_and_moved_images_are_the_same_images(data, options, state, tmp_path):
    (data / TRAIN / "1.png").rename(data / TRAIN / "a.png")
    (data / TRAIN / "1.txt").rename(data / TRAIN / "a.txt")
    shutil.move(data, tmp_path / "elsewhere")
    assert point(tmp_path / "elsewhere", options).state.step == 5


def test_a_changed_mask_is_named(data, options):
    masks = data / TRAIN / "masks"
    masks.mkdir()
    for n, size in enumerate([(64, 64), (64, 96), (96, 64), (64, 64)], 1):
        Image.new("L", size, 255).save(masks / f"{n}.png")
    options = replace(options, masked_loss=True)
    write_state(options, planned(data, options))
    Image.new("L", (64, 64), 9).save(masks / "4.png")
    assert "2_sks/4.png: mask changed" in refusal(data, options).message
    (masks / "4.png").unlink()
    assert "2_sks/4.png: mask removed" in refusal(data, options).message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train_batch_size": 1}, "train_batch_size was 2 and is 1"),
        ({"learning_rate": 0.5}, "learning_rate was 0.01 and is 0.5"),
        ({"resolution": 96}, "resolution was 64 and is 96"),
        ({"flip_aug": True}, "flip_aug was false and is true"),
        ({"keep_tokens": 1, "seed": 9}, "seed was 42 and is 9; keep_tokens was not set and is 1"),
        ({"train_batch_size": 1, "max_train_epochs": 9}, "train_batch_size was 2 and is 1"),
    ],
)
def test_options_are_named_and_not_the_numbers_that_follow_from_them(
    data, options, state, changes, words
):
    message = refusal(data, replace(options, **changes)).message
    assert message.partition(" cannot be resumed: ")[2] in (
        words,
        "; ".join(words.split("; ")[::-1]),
    )


def test_options_and_images_are_named_together(data, options, state):
    change_caption(data)
    message = refusal(data, replace(options, seed=9)).message
    assert "seed was 42 and is 9; 2_sks/1.png: caption changed" in message


def test_options_of_files_may_change(data, options, state):
    other = replace(options, save_every_n_steps=1, lora_format="both", save_state_every_minutes=1)
    assert point(data, other).notices == ()


@pytest.mark.parametrize(
    "schedule",
    [
        {"lr_scheduler": "constant"},
        {"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 3},
        {"lr_scheduler": "inverse_sqrt", "lr_warmup_steps": 3},
        {"lr_scheduler": "cosine_warm_restarts", "lr_scheduler_args": ("cycle_steps=4",)},
        {"lr_scheduler_type": "ExponentialLR", "lr_scheduler_args": ("gamma=0.9",)},
    ],
)
def test_more_epochs_are_allowed_where_the_schedule_does_not_depend_on_them(
    data, options, schedule
):
    options = replace(options, **schedule)
    write_state(options, planned(data, options))
    (notice,) = point(data, replace(options, max_train_epochs=5)).notices
    assert notice.startswith("the run has ")
    assert point(data, replace(options, max_train_steps=9)).state.step == 5


@pytest.mark.parametrize(
    "schedule",
    [
        {"lr_scheduler": "cosine"},
        {"lr_scheduler": "linear"},
        {"lr_scheduler": "constant_with_warmup", "lr_warmup_steps": 0.25},
        {"lr_scheduler": "warmup_stable_decay", "lr_decay_steps": 4},
        {"lr_scheduler": "constant", "token_warmup_step": 0.5},
    ],
)
def test_elsewhere_more_epochs_need_extend_which_says_what_changes(data, options, schedule):
    options = replace(options, **schedule)
    write_state(options, planned(data, options))
    longer = replace(options, max_train_epochs=6)
    error = refusal(data, longer)
    assert "--extend" in error.hint and "instead of" in error.message
    (notice,) = point(data, longer, extend=True).notices
    assert notice in error.message.replace(", and ", "; ", 1)
    assert point(data, options, extend=True).notices == ()  # the length is the same


def test_a_run_that_would_end_before_its_state_is_refused(data, options, state):
    for steps in (1, 5):
        error = refusal(data, replace(options, max_train_steps=steps), extend=True)
        assert f"after 5 steps, and this run would end after {steps}" in error.message


def damage(state):
    path = state / OPTIMIZER
    path.write_bytes(b"damaged")


def test_an_only_state_that_is_damaged_gives_one_clear_error(data, options, state):
    damage(state)
    with pytest.raises(InputError) as error:
        point(data, options)
    assert (
        error.value.message == f"the training state {state.name} is damaged (optimizer.safetensors)"
    )
    assert error.value.hint == "no state can be resumed: start over without --resume"


def test_where_all_states_are_damaged_their_number_is_said(data, options):
    plan = planned(data, options)
    for step in (3, 4):
        damage(write_state(options, plan, step, pause=False))
    with pytest.raises(InputError, match="all 2 training states of sks are damaged"):
        point(data, options)


@pytest.mark.parametrize(
    "facts", [None, [], {}, {"options": [], "images": [], "steps": 1}, {"options": {}, "images": 3}]
)
def test_strange_facts_are_an_error_that_names_the_state(data, options, facts):
    write_state(options, planned(data, options), facts=facts)
    with pytest.raises(InputError, match="sks-state-pause-00000005 is damaged"):
        point(data, options)


@pytest.mark.parametrize("name", ["manifest.json", STATE, LORA])
def test_a_state_without_one_of_its_files_is_damaged(data, options, state, name):
    (state / name).unlink()
    with pytest.raises(InputError, match="is damaged"):
        point(data, options)


def test_the_command_refuses_before_the_base_is_loaded(
    data, options, tmp_path, monkeypatch, capsys
):
    def train(*more):
        names = ("output_dir", "resolution", "min_bucket_reso", "max_bucket_reso")
        pairs = [f"{name}={getattr(options, name)}" for name in names]
        pairs += ["max_train_epochs=3", "optimizer_type=AdamW", "output_name=sks", *more]
        sets = [word for pair in pairs for word in ("--set", pair)]
        return run_dsk(["train", str(data), *sets, "--resume", "--dry-run"])

    monkeypatch.setattr(setup, "load_parts", None)
    assert train() == 2
    assert "has no training state of sks" in capsys.readouterr().err
    assert run_dsk(["train", str(data), "--extend", "--dry-run"]) == 2
    assert "hint: add --resume" in capsys.readouterr().err


def test_a_stop_before_a_new_state_is_saved_names_the_state_that_is_resumed(data, options):
    base = {"output_name": "sks", "pretrained_model_name_or_path": "tiny"}
    options = replace(options, lr_scheduler="cosine", **base)
    write_state(options, planned(data, options))
    longer = replace(options, max_train_epochs=6)
    assert saved_step(plan_training(data, longer)) is None
    assert saved_step(plan_training(data, longer, resume=True, extend=True)) == 5
    assert saved_step(plan_training(data, options)) == 5


@pytest.mark.long
def test_a_longer_run_equals_one_that_had_the_length_from_its_start(data, tmp_path, monkeypatch):
    """And it uses the number of threads of the run that it continues."""
    monkeypatch.setattr(run, "check_files", lambda *_: ())
    monkeypatch.setattr(loss_plot, "plot", lambda *_, **__: None)
    model = tiny.save_small(tmp_path / "model")
    options = tiny.options(
        model, tmp_path / "out", resolution=64, max_bucket_reso=128, max_train_epochs=1,
        train_batch_size=4, lr_scheduler="constant", save_every_n_epochs=0, network_dim=1,
        save_every_n_steps=1,
    )  # fmt: skip
    longer = replace(options, max_train_epochs=2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = replace(longer, output_dir=str(tmp_path / "whole"))
        expected = load_file(run.train(whole, planned(data, whole)).files[-1])
        run.train(options, planned(data, options))
        torch.set_num_threads(2)
        result = run.train(longer, planned(data, longer), resume=True)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert 0 < result.start < planned(data, options).steps
    resumed = load_file(result.files[-1])
    assert all(torch.equal(value, resumed[key]) for key, value in expected.items())


@pytest.mark.parametrize("schedule", ["constant_with_warmup", "warmup_stable_decay"])
def test_a_warmup_that_is_over_is_not_said_to_change_a_rate_to_the_same(options, schedule):
    options = replace(options, lr_scheduler=schedule, lr_warmup_steps=0.1)
    (effect,) = resume._effects_of_length(options, 100, 200, 50)
    assert effect == (
        f"with 200 steps the LR schedule {schedule} would have had other learning rates up to step "
        "20, which the run has passed"
    )
    (effect,) = resume._effects_of_length(options, 100, 200, 12)
    assert "step 13 has 60.0% of the learning rate instead of 100.0%" in effect


def test_the_step_that_is_named_has_another_rate_that_can_be_seen(options):
    options = replace(options, lr_scheduler="cosine")
    (effect,) = resume._effects_of_length(options, 1000, 1010, 2)
    before, after = effect.split(" has ")[1].split(" of the learning rate instead of ")
    assert before != after


@pytest.mark.long
def test_the_lora_that_a_run_began_with_is_not_needed_again(data, tmp_path):
    """It may have been the result of an earlier run of the name, which this run moved away."""
    model = tiny.save_small(tmp_path / "model")
    options = tiny.options(
        model, tmp_path / "out", resolution=64, max_bucket_reso=128, max_train_epochs=3,
        train_batch_size=2, output_name="sks", network_dim=1,
        network_weights=str(tmp_path / "out" / "sks.safetensors"),
    )  # fmt: skip
    write_state(options, planned(data, options))
    assert plan_training(data, options, resume=True).start == 5
    with pytest.raises(DskError, match="network_weights"):
        plan_training(data, options)
    parts = setup.load_parts(options)
    assert setup.assemble(options, planned(data, options), parts, resumed=True).lora.modules
