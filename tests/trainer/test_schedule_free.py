"""A run with a schedule-free optimizer: the average is saved and previewed, and a resumed run is
the same.
"""

import pytest
import torch
from safetensors.torch import load_file

from datasetkit.core.errors import ConfigError
from tests.trainer import tiny
from tests.trainer.test_run import Killer, Stopped, planned, training_rows, whole
from trainer.files import lora, saved_states
from trainer.monitor import metrics
from trainer.optimizers import trial
from trainer.run import train

FREE = {
    "optimizer_type": "AdamWScheduleFree", "optimizer_args": ("betas=0.9,0.99",),
    "lr_scheduler": "constant_with_warmup",
    "lr_warmup_steps": 2, "max_train_steps": 6, "save_every_n_epochs": 0, "save_every_n_steps": 3,
    "text_encoder_lr": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _there():
    pytest.importorskip("schedulefree")


@pytest.fixture(scope="module")
def uninterrupted(data, model, tmp_path_factory):
    return whole(data, tiny.options(model, tmp_path_factory.mktemp("whole"), **FREE))


@pytest.mark.long
def test_resumed_run_is_bit_identical(data, model, tmp_path, uninterrupted):
    options = tiny.options(model, tmp_path, **FREE)
    with pytest.raises(Stopped):
        train(options, planned(data, options), reporter=Killer(4))
    result = train(options, planned(data, options), resume=True)
    assert result.start == 3
    tensors, resumed = load_file(uninterrupted.files[-1]), load_file(result.files[-1])
    assert all(torch.equal(tensors[key], resumed[key]) for key in tensors)
    assert training_rows(result.metrics) == training_rows(uninterrupted.metrics)


@pytest.mark.long
def test_previews_and_saves_do_not_change_the_training(data, model, tmp_path, uninterrupted):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("sks --w 64 --h 64 --s 2 --l 1\n", encoding="utf-8")
    looked = {
        **FREE,
        "save_every_n_steps": 1,
        "sample_prompts": str(prompts),
        "sample_every_n_steps": 2,
    }
    result = whole(data, tiny.options(model, tmp_path / "out", **looked))
    tensors, seen = load_file(uninterrupted.files[-1]), load_file(result.files[-1])
    assert all(torch.equal(tensors[key], seen[key]) for key in tensors)
    assert [row["loss"] for row in metrics.read_rows(result.metrics)] == [
        row["loss"] for row in metrics.read_rows(uninterrupted.metrics)
    ]


@pytest.mark.long
def test_average_is_saved_and_the_trained_weights_are_kept(uninterrupted):
    """The state after step 3 holds what is trained, the file of step 3 the average of it."""
    folder = uninterrupted.files[-1].parent
    state = saved_states.newest(folder, "sks")
    assert state is not None and state.step == 3
    trained = load_file(state.folder / "lora.safetensors")
    saved = lora.deltas(load_file(folder / "sks-step00000003.safetensors"))
    assert trained.keys() and saved.keys()
    name = next(iter(saved))
    factors = [key for key in trained if key.startswith(f"{name}.")]
    up, down = (next(trained[key] for key in factors if end in key) for end in ("up", "down"))
    change = up.double().flatten(1) @ down.double().flatten(1) / down.shape[0]
    assert not torch.allclose(change, saved[name], rtol=1e-3, atol=1e-9)


@pytest.mark.long
def test_plot_has_the_given_rate(uninterrupted):
    rates = [row["lr/unet"] for row in metrics.read_rows(uninterrupted.metrics)]
    assert rates == pytest.approx([0, 0.005, 0.01, 0.01, 0.01, 0.01])


def test_ema_of_an_averaging_optimizer_is_an_error(data, model, tmp_path):
    options = tiny.options(model, tmp_path, **FREE, ema_decay=0.9)
    with pytest.raises(ConfigError, match="already averages"):
        trial.check(options, planned(data, options).steps)


def test_check_before_loading_prints_nothing(data, model, tmp_path, capsys):
    """Some optimizers print what they do; it is told of the real one alone."""
    options = tiny.options(
        model, tmp_path, optimizer_type="Prodigy", optimizer_args=("weight_decay=0.1",),
        learning_rate=1.0, text_encoder_lr=1.0,
    )  # fmt: skip
    trial.check(options, planned(data, options).steps)
    assert capsys.readouterr() == ("", "")
