"""`dsk train --dry-run --plot` draws the rates that the run's own scheduler gives, and nothing else
is written.
"""

from typing import Any

import pytest
import torch
from PIL import Image

from datasetkit.core.errors import InputError
from datasetkit.options.train import TrainOptions
from tests.cli.conftest import dsk as dsk
from tests.cli.conftest import here as here
from tests.trainer import tiny
from trainer.monitor import lr_schedule_plot
from trainer.optimizers import build_scheduler, schedule_options

OPTIONS: dict[str, dict[str, Any]] = {
    "cosine": {"lr_warmup_steps": 3},
    "restarts": {"lr_scheduler": "cosine_with_restarts", "lr_scheduler_num_cycles": 3},
    "class": {
        "lr_scheduler_type": "OneCycleLR", "lr_scheduler_args": ("max_lr=0.1", "total_steps=20"),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_rates_are_those_of_the_scheduler_of_the_run(name):
    options = TrainOptions(**OPTIONS[name])
    groups = {"unet": 1e-3, "text_encoder": 2e-4}
    drawn = build_scheduler.rates(options, 20, groups)
    optimizer = torch.optim.SGD(
        [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in groups.values()],
        momentum=0.9,
    )
    scheduler = build_scheduler.build(optimizer, options, 20)
    for step in range(20):
        taken = [group["lr"] for group in optimizer.param_groups]
        assert [drawn[part][step] for part in groups] == pytest.approx(taken)
        build_scheduler.replay(scheduler, 1)


def test_words_name_what_the_schedule_uses():
    def words(**options):
        return schedule_options.words(TrainOptions(**options), 20)

    assert words(lr_warmup_steps=0.1) == "cosine, 20 steps, warm-up 2"
    assert words(**OPTIONS["restarts"]) == "cosine_with_restarts, 20 steps, 3 cycles"
    assert words(**OPTIONS["class"]).startswith("OneCycleLR max_lr=0.1")


def test_dry_run_draws_the_schedule_beside_the_lora_and_writes_nothing_else(dsk, here):
    tiny.save_images(here / "ds" / "train" / "2_sks", [(128, 128)])
    command = ["train", "ds", "--set", "pretrained_model_name_or_path=tiny", "--set",
               "resolution=128", "--set", "min_bucket_reso=64", "--set", "output_dir=loras/new",
               "--set", "lr_scheduler_type=CosineAnnealingLR", "--set",
               'lr_scheduler_args=["T_max=20"]']  # fmt: skip
    before = set(here.rglob("*"))
    ended = dsk(*command, "--dry-run", "--plot", "--json")
    assert ended.code == 0, ended.err
    path = here / "loras" / "new" / "sks-lr-schedule.png"
    assert ended.result["lr_schedule_plot"].endswith("sks-lr-schedule.png")
    assert ended.result["plan"]["lr_schedule"] == "CosineAnnealingLR"
    assert set(here.rglob("*")) - before == {here / "loras", path.parent, path}
    with Image.open(path) as image:
        assert image.size == (900, 420)
    shown = dsk(*command, "--dry-run", "--plot").out
    assert "AdamW, CosineAnnealingLR: " in shown and "LR schedule: loras/new/sks-lr" in shown
    alone = dsk(*command, "--plot")
    assert alone.code == 2 and "--plot needs --dry-run" in alone.err


def test_a_file_that_is_not_such_a_plot_is_kept(tmp_path):
    options = TrainOptions(output_dir=str(tmp_path / "out"))
    path = lr_schedule_plot.write(options, 4, ["unet"], "sks")
    assert lr_schedule_plot.write(options, 5, ["unet"], "sks") == path
    picture = Image.new("RGB", (8, 8))
    picture.save(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match="is not a plot of dsk train"):
        lr_schedule_plot.write(options, 4, ["unet"], "sks")
    assert path.read_bytes() == before
