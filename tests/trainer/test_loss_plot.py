"""The plot of a run: a heading, the saved LoRAs, a mean over an epoch, every learning rate."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from datasetkit.options.train import TrainOptions
from trainer import run
from trainer.families import registry
from trainer.files.save_lora import saved_steps
from trainer.monitor import loss_plot

PER_EPOCH = 20


def rows(steps: int = 100, text: float = 1.0):
    return [
        {
            "step": step,
            "epoch": (step - 1) // PER_EPOCH + 1,
            "loss": 0.1 + 0.05 * math.sin(step),
            "samples": 4,
            "lr/unet": 1e-4 * (1 - step / steps),
            "lr/text_encoder": text * 1e-4 * (1 - step / steps),
        }
        for step in range(1, steps + 1)
    ]


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Return what makes a plot, and the figure that was drawn."""
    from matplotlib.figure import Figure

    def plot(of, **options):
        kept: list[Figure] = []
        save = Figure.savefig

        def spy(self, *arguments, **options):
            kept.append(self)
            save(self, *arguments, **options)

        monkeypatch.setattr(Figure, "savefig", spy)
        given: dict[str, Any] = {
            "title": "sks", "facts": "24 images", "per_epoch": PER_EPOCH, "saved": {},
        }  # fmt: skip
        loss_plot.plot(of, tmp_path / "loss.png", **(given | options))
        with Image.open(tmp_path / "loss.png") as image:
            image.load()
        return kept[0]

    return plot


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines() if line.get_label()[0] != "_"}


def texts(figure):
    return [text.get_text() for text in (*figure.texts, *figure.axes[0].texts)]


def test_the_heading_says_which_run_and_with_which_rates(drawn):
    figure = drawn(rows(), title="sks girl", facts="24 images; AdamW, cosine: unet 0.0001")
    assert texts(figure) == ["sks girl", "24 images; AdamW, cosine: unet 0.0001"]


def test_each_saved_lora_has_a_mark_in_each_panel(drawn):
    figure = drawn(rows(), saved={20: "epoch 1", 40: "epoch 2", 41: "step 41", 100: "end"})
    assert {"epoch 1", "step 41", "end", "saved:"} <= set(texts(figure))
    assert "epoch 2" not in texts(figure)  # too close to the next
    for axes in figure.axes:
        marks = {line.get_xdata()[0] for line in axes.get_lines() if len(line.get_xdata()) == 2}
        assert marks == {20, 40, 41, 100}


def test_rates_that_coincide_are_one_line_with_both_names(drawn):
    assert set(lines(drawn(rows()).axes[-1])) == {"text_encoder, unet"}
    assert set(lines(drawn(rows(text=0.5)).axes[-1])) == {"text_encoder", "unet"}


def test_the_rates_of_blocks_share_a_name_and_a_colour(drawn):
    blocks = [
        row | {f"lr/unet_block{n:02}": 1e-5 * n / row["step"] for n in range(3)} for row in rows()
    ]
    axes = drawn(blocks).axes[-1]
    assert set(lines(axes)) == {"text_encoder, unet", "unet_blocks"}
    colours = [line.get_color() for line in axes.get_lines()]
    assert len(colours) == 4 and len(set(colours)) == 2


def test_the_mean_is_over_an_epoch_and_begins_when_it_is_complete(drawn):
    mean = lines(drawn(rows()).axes[0])["mean of an epoch"]
    assert list(mean.get_xdata()) == list(range(PER_EPOCH, 101))
    loss = [row["loss"] for row in rows()]
    assert mean.get_ydata()[0] == pytest.approx(sum(loss[:PER_EPOCH]) / PER_EPOCH)
    assert mean.get_ydata()[-1] == pytest.approx(sum(loss[-PER_EPOCH:]) / PER_EPOCH)


def test_of_a_long_epoch_the_mean_is_over_a_part_and_of_few_steps_there_is_none(drawn):
    assert "mean of 20 steps" in lines(drawn(rows(), per_epoch=90).axes[0])
    assert set(lines(drawn(rows(5), per_epoch=5).axes[0])) == {"loss of a step"}


@pytest.mark.long
def test_one_step_and_a_name_in_any_script_can_be_plotted(drawn):
    figure = drawn(rows(1), title="張娜英 $x$ \x1b[31m", saved={1: "end"})
    assert "\x1b" not in texts(figure)[0]


def test_saved_files_are_found_at_the_steps_that_their_names_say():
    names = ["sks-000001.safetensors", "sks-000002.diffusers.safetensors",
             "sks-step00000033.safetensors", "sks-best.safetensors", "sks.safetensors"]  # fmt: skip
    steps = saved_steps([Path(name) for name in names], "sks", rows())
    assert steps == {20: "epoch 1", 40: "epoch 2", 33: "step 33", 100: "end"}
    assert saved_steps([], "sks", []) == {}


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_heading_has_the_rates_of_the_parts_that_the_model_has(family):
    plan = SimpleNamespace(image_count=2, steps=12, epochs=1)
    setup = SimpleNamespace(options=TrainOptions(), plan=plan, family=registry.family(family))
    facts = run._plot_facts(setup)  # type: ignore[arg-type]
    assert "12 steps in 1 epoch;" in facts
    assert ("text_encoder_2" in facts) == (family == "sdxl")


def test_moving_mean_weighs_every_sample_the_same():
    assert loss_plot.moving_mean([1.0, 2.0, 4.0], [8, 8, 2], 2) == [1.5, 2.4]
