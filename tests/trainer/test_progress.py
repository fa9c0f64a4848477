"""A run names what it does in each long stretch, before the first step and after the last one."""

import pytest

from tests.trainer import tiny
from tests.trainer.test_run import Killer, planned
from trainer.run import train


class Recorder(Killer):
    def start(self, label, total):
        super().start(label, total)
        self.phases.append(f"{label} {total}")


@pytest.mark.long
def test_every_stretch_of_a_run_is_named(model, tmp_path):
    data = tiny.save_images(tmp_path / "data" / "train" / "1_sks", [(64, 64)] * 3).parents[1]
    options = tiny.options(
        model, tmp_path / "out", resolution=64, max_train_steps=1, validation_split=0.3,
        network_train_text_encoder_only=True, save_every_n_epochs=0,
    )  # fmt: skip
    reporter = Recorder()
    train(options, planned(data, options), reporter=reporter)
    stretches = [
        "loading the base model", "loading diffusers and transformers",
        "loading the base model: unet", "loading the base model: text_encoder",
        "loading the base model: vae", "preparing the network and the optimizer",
        "encoding images 3", "reading the base model's hash", "training 1", "first step",
        "validating", "saving", "plotting the loss", "checking the LoRA",
    ]  # fmt: skip
    named = iter(reporter.phases)
    missing = [stretch for stretch in stretches if stretch not in reporter.phases]
    assert not missing
    in_order = [s for s in stretches if s != "validating"]  # it comes before the first step too
    assert all(stretch in named for stretch in in_order)
