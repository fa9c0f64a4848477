"""Preview images: generated when due, the same for the same seed, without an effect on the
training.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from datasetkit.captions.tokens import TokenLimit
from datasetkit.core.errors import ConfigError
from datasetkit.images import labelled_sheet
from datasetkit.options import train as train_options
from tests.trainer import tiny
from tests.trainer.test_run import Killer, planned, stopped, training_rows
from trainer import run, setup
from trainer.files.lora import ADAPTER
from trainer.files.run_files import RunFiles
from trainer.loop import StepLog
from trainer.monitor import metrics, preview, preview_contact_sheet, prompts
from trainer.monitor.preview_contact_sheet import PreviewContactSheet
from trainer.monitor.prompts import Prompt
from trainer.objective import samplers
from trainer.run import train

SMALL: dict[str, Any] = {"width": 64, "height": 64, "steps": 2, "seed": 3, "sampler": "ddim"}


@pytest.fixture(scope="module")
def sampled(model, tmp_path_factory):
    """Options that draw two small prompts at every epoch, and train with all that draws at
    random.
    """
    folder = tmp_path_factory.mktemp("sampled")
    (folder / "prompts.txt").write_text(
        "sks, red hair --n bad --w 64 --h 64 --s 2\nsks --w 128 --h 64 --s 2 --ss ddpm --l 1\n",
        encoding="utf-8",
    )
    return tiny.options(
        model, folder / "out", sample_prompts=str(folder / "prompts.txt"), sample_every_n_epochs=1,
        sample_at_first=True, network_dropout=0.2, caption_dropout_rate=0.3, scale_weight_norms=1.0,
        logging_dir=str(folder / "logs"), train_batch_size=8,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(data, sampled):
    return train(sampled, planned(data, sampled))


@pytest.mark.long
def test_run_reports_its_phases(data, sampled, tmp_path):
    short = replace(
        sampled, output_dir=str(tmp_path), max_train_steps=1, sample_at_first=False, logging_dir=""
    )
    reporter = Killer()
    train(short, planned(data, short), reporter=reporter)
    assert reporter.phases == [
        "loading the base model",
        "loading diffusers and transformers",
        "loading the base model: unet",
        "loading the base model: text_encoder",
        "loading the base model: vae",
        "preparing the network and the optimizer",
        "reading the base model's hash",
        "first step",
        "saving",
        "preview 1/2",
        "preview 2/2",
        "plotting the loss",
        "checking the LoRA",
    ]


def log(step, epoch, *, last=False):
    return StepLog(step, epoch, 0.1, 1, {}, {}, 0.0, last)


def test_images_are_due_by_epochs_by_steps_and_at_the_end():
    def stems(**others):
        options = train_options.TrainOptions(sample_prompts="p.txt", **others)
        logs = [log(n, 1 + (n - 1) // 3, last=n % 3 == 0) for n in range(1, 9)]
        return [stem for each in logs if (stem := preview.due(options, each, 8)) is not None]

    assert stems() == ["000003"]
    assert stems(sample_every_n_epochs=1) == ["000001", "000002", "000003"]
    assert stems(sample_every_n_epochs=2) == ["000002", "000003"]
    assert stems(sample_every_n_steps=3) == ["step00000003", "step00000006", "000003"]
    assert stems(sample_every_n_epochs=1, sample_every_n_steps=2) == [
        "step00000002", "000001", "step00000004", "000002", "000003",
    ]  # fmt: skip


@pytest.mark.long
def test_training_is_the_same_with_and_without_preview_images(data, sampled, whole, tmp_path):
    plain = replace(
        sampled, sample_prompts="", sample_every_n_epochs=None, sample_at_first=False,
        output_dir=str(tmp_path), logging_dir="",
    )  # fmt: skip
    without = train(plain, planned(data, plain))
    ours, theirs = (load_file(result.files[-1]) for result in (whole, without))
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert training_rows(whole.metrics) == training_rows(without.metrics)
    assert without.samples is None and not (tmp_path / "sample").exists()


@pytest.mark.long
def test_preview_images_and_contact_sheet_of_a_run(whole):
    out = whole.metrics.parent
    assert sorted(p.name for p in (out / "sample").iterdir()) == [
        *(f"sks-{epoch:06d}-{place:02d}.png" for epoch in (0, 1, 2) for place in (0, 1)),
        "sks.jsonl",
    ]  # fmt: skip
    with Image.open(out / "sample" / "sks-000002-01.png") as image:
        assert (image.size, image.mode, image.info) == ((128, 64), "RGB", {})
    assert whole.samples == out / "sks-samples.png"
    with Image.open(whole.samples) as sheet:
        assert sheet.width > 2 * 128 and sheet.height > 3 * 128
    base, first, last = (
        np.asarray(Image.open(out / "sample" / f"sks-{n:06d}-00.png")) for n in (0, 1, 2)
    )
    assert (base != first).any() and (first != last).any()


@pytest.mark.long
def test_resumed_run_keeps_the_rows_of_its_contact_sheet(data, sampled, whole, tmp_path):
    broken = replace(sampled, output_dir=str(tmp_path), logging_dir="")
    stopped(data, broken, planned(data, broken).totals.steps_per_epoch + 1)
    train(broken, planned(data, broken), resume=True)
    lines = [
        json.loads(line) for line in (tmp_path / "sample" / "sks.jsonl").read_text().splitlines()
    ]
    assert [(line["epoch"], line["place"]) for line in lines] == [
        (e, p) for e in (0, 1, 2) for p in (0, 1)
    ]
    assert (tmp_path / "sks-samples.png").read_bytes() == whole.samples.read_bytes()


def test_new_prompts_of_a_resumed_run_get_new_columns(tmp_path):
    grey, white = (Image.new("RGB", (64, 64), shade) for shade in ("grey", "white"))
    sheet = PreviewContactSheet(tmp_path, "sks")
    sheet.add(4, 1, "000001", [(Prompt(text="sks", **SMALL), grey)])
    sheet.add(8, 2, "000002", [(Prompt(text="sks", **SMALL), grey)])
    resumed = PreviewContactSheet(tmp_path, "sks", start=4)
    resumed.add(8, 2, "000002", [(Prompt(text="sks, hat", **SMALL), white)])
    lines = [
        json.loads(line) for line in (tmp_path / "sample" / "sks.jsonl").read_text().splitlines()
    ]
    assert [(line["step"], line["text"]) for line in lines] == [(4, "sks"), (8, "sks, hat")]
    narrow = sheet.draw().width
    assert resumed.draw().width > narrow


def test_new_run_starts_a_new_contact_sheet(tmp_path):
    image = Image.new("RGB", (64, 64))
    PreviewContactSheet(tmp_path, "sks").add(4, 1, "000001", [(Prompt(text="old", **SMALL), image)])
    PreviewContactSheet(tmp_path, "sks").add(4, 1, "000001", [(Prompt(text="new", **SMALL), image)])
    assert "old" not in (tmp_path / "sample" / "sks.jsonl").read_text()


@pytest.mark.long
def test_contact_sheet_of_very_many_images_can_be_opened(tmp_path):
    sheet = PreviewContactSheet(tmp_path, "sks")
    row = [
        (Prompt(text=f"prompt {n} " * 30, **SMALL), Image.new("RGB", (64, 2048), "red"))
        for n in range(40)
    ]
    sheet.add(1, 1, "000001", row)
    with Image.open(sheet.path) as drawn:
        assert drawn.width * drawn.height < 40_000_000


def test_a_long_run_shows_a_part_of_its_steps(tmp_path, monkeypatch):
    """All of them would take gigabytes, in the file and in memory."""
    monkeypatch.setattr(labelled_sheet, "LARGEST", 8 * 136 * 136)
    sheet = PreviewContactSheet(tmp_path, "sks")
    row = [(Prompt(text=text, **SMALL), Image.new("RGB", (64, 64))) for text in ("a", "b")]
    for step in range(1, 10):
        sheet.add(step, step, f"{step:06d}", row)
    (tmp_path / "few").mkdir()
    few = PreviewContactSheet(tmp_path / "few", "sks")
    for step in (1, 2, 3, 4):
        few.add(step, step, f"{step:06d}", row)
    assert sheet.draw().size == few.draw().size and len(sheet._small) == 8
    assert len((tmp_path / "sample" / "sks.jsonl").read_text().splitlines()) == 18
    rows = [(step, 0) for step in range(1, 10)]
    shown = [step for step, _ in preview_contact_sheet._evenly(rows, 4)]
    assert shown == [1, 3, 6, 9] and preview_contact_sheet._evenly(rows, 0)[-1] == (9, 0)


@pytest.fixture(scope="module")
def ready(model, data, tmp_path_factory):
    """A run before its first step, whose LoRA does something already."""
    options = tiny.options(model, tmp_path_factory.mktemp("out"))
    made = setup.assemble(options, planned(data, options), setup.load_parts(options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in made.lora.modules:
            module.up.copy_(torch.randn(module.up.shape, generator=generator))
    return made


def drawn(made, **others):
    return np.asarray(
        preview.generate(made, [Prompt(**{"text": "sks", **SMALL, **others})])[0]
    ).astype(int)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # in diffusers, with numpy 2
@pytest.mark.parametrize("sampler", train_options.SAMPLERS)
def test_every_sampler_generates_reproducibly(ready, sampler):
    torch.manual_seed(0)
    first = drawn(ready, sampler=sampler, steps=3)
    torch.manual_seed(1)
    assert (drawn(ready, sampler=sampler, steps=3) == first).all()
    assert first.std() > 1


def test_every_sampler_of_the_options_exists():
    assert tuple(samplers.SAMPLERS) == train_options.SAMPLERS


@pytest.mark.long
def test_fields_of_a_prompt_change_the_image(ready):
    plain = drawn(ready)
    for other in (
        {"text": "cat"},
        {"seed": 4},
        {"negative": "bad"},
        {"guidance": 12.0},
        {"steps": 3},
    ):
        assert (drawn(ready, **other) != plain).any()
    unguided = drawn(ready, guidance=1.0)
    assert (drawn(ready, guidance=1.0, negative="bad") == unguided).all()


def test_images_equal_those_of_a_diffusers_pipeline(ready):
    from diffusers import DDIMScheduler

    from tests.trainer.test_lora import pipeline_of

    pipe = pipeline_of(ready.parts)
    pipe.scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    pipe.tokenizer.model_max_length = 77
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        "sks", negative_prompt="bad", width=64, height=64, num_inference_steps=4,
        guidance_scale=7.5, generator=torch.Generator().manual_seed(3), output_type="np",
    ).images[0]  # fmt: skip
    assert np.abs(drawn(ready, negative="bad", steps=4) - theirs * 255).max() < 1


def test_previews_do_not_change_modes_random_state_and_gradients(ready):
    module = ready.lora.modules[0].layer
    modes = [m.training for m in ready.parts.denoiser.modules()]
    state = torch.get_rng_state()
    drawn(ready)
    assert torch.equal(torch.get_rng_state(), state)
    assert [m.training for m in ready.parts.denoiser.modules()] == modes
    assert (
        module.lora_A[ADAPTER].weight.grad is None and module.lora_A[ADAPTER].weight.requires_grad
    )


def test_out_of_memory_in_a_preview_warns_once_and_stops_the_previews(ready, tmp_path, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(preview, "generate", full)
    reporter = Killer()
    sheet, files = PreviewContactSheet(tmp_path, "sks"), RunFiles.start(tmp_path, "sks", "")
    previews = run.Previews(ready, (Prompt(text="sks", **SMALL),), sheet, files, [], reporter)
    previews.generate(1, 1, "000001")
    previews.generate(2, 2, "000002")
    assert len(reporter.warnings) == 1 and "out of memory" in reporter.warnings[0]
    assert not previews.sheet.path.exists()


def test_long_prompt_is_warned_of():
    both = [Prompt(text=text, **SMALL) for text in ("sks", "sks, " + "red hat, " * 40)]
    assert [line[:50] for line in prompts.too_long(both, TokenLimit(75))] == [
        "prompt 2 has 122 tokens, only the first 75 are rea"
    ]


def test_wrong_prompts_stop_a_run_before_anything_is_loaded_or_written(data, options, tmp_path):
    wrong = replace(
        options, sample_prompts=str(tmp_path / "none.txt"), pretrained_model_name_or_path="/nowhere"
    )
    with pytest.raises(ConfigError, match="cannot read sample_prompts"):
        train(wrong, planned(data, wrong))
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_tensorboard_reads_losses_rates_norms_and_images_under_the_names_of_sd_scripts(
    sampled, whole
):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    [folder] = Path(sampled.logging_dir).iterdir()  # of this run
    events = EventAccumulator(str(folder))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == [
        "loss/average", "loss/current", "loss/epoch_average", "lr/textencoder", "lr/unet",
        "max_norm/avg_key_norm", "max_norm/keys_scaled", "max_norm/max_key_norm",
    ]  # fmt: skip
    rows = metrics.read_rows(whole.metrics)
    losses = [row["loss"] for row in rows]
    per_epoch = len(rows) // 2
    assert [e.value for e in events.Scalars("loss/current")] == pytest.approx(losses)
    assert [e.value for e in events.Scalars("lr/textencoder")] == pytest.approx(
        [r["lr/text_encoder"] for r in rows]
    )
    means = []  # every sample weighs the same
    for part in (rows[:per_epoch], rows[per_epoch:]):
        total = sum(row["loss"] * row["samples"] for row in part)
        means.append(total / sum(row["samples"] for row in part))
    assert [(e.step, e.value) for e in events.Scalars("loss/epoch_average")] == [
        (1, pytest.approx(means[0])), (2, pytest.approx(means[1])),
    ]  # fmt: skip
    shown = events.Images("sample/01")
    assert [(i.step, i.width, i.height) for i in shown] == [
        (n * per_epoch, 128, 64) for n in (0, 1, 2)
    ]


def test_tensorboard_has_the_rate_of_d_adaptation(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import (
        EventAccumulator,
    )

    board = metrics.TensorBoard(tmp_path, start=0, per_epoch=2)
    board.add(StepLog(1, 1, 0.5, 1, {"unet": 3e-5}, {"unet": 1.0}, 0.0, False))
    board.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Scalars("lr/unet")[0].value == 1.0
    assert events.Scalars("lr/d*lr/unet")[0].value == pytest.approx(3e-5)


def test_lora_changes_the_image(ready):
    trained = drawn(ready)
    ups = [module.up.detach().clone() for module in ready.lora.modules]
    with torch.no_grad():
        for module in ready.lora.modules:
            module.up.zero_()
    base = drawn(ready)
    with torch.no_grad():
        for module, up in zip(ready.lora.modules, ups, strict=True):
            module.up.copy_(up)
    assert (trained != base).any() and (drawn(ready) == trained).all()
