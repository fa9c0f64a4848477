"""Differences from sd-scripts, each as a kind: without a reason there is none, and with one it is
named.
"""

from __future__ import annotations

from random import Random

import pytest

from tests.trainer import tiny

torch = pytest.importorskip("torch")

from datasetkit.options.train import TrainOptions  # noqa: E402
from trainer.data.captions import CaptionOptions, sample  # noqa: E402
from trainer.optimizers import schedule_options  # noqa: E402
from trainer.plan.plan import TrainImage, find_subsets, make_plan  # noqa: E402

# ---- captions that no option changes
# --------------------------------------------------------------------------------------------------

WRITTEN = [
    "a crowd of 1,000 at 10,5 km",
    "(a),(b),c",
    "a,,b, ,c,",
    "{red|blue} hair, \\(x\\)",
    "1girl ,solo",
]


def images(folder, options) -> list[TrainImage]:
    return list(make_plan(find_subsets(folder, options)[0], options).images)


@pytest.mark.parametrize("text", WRITTEN)
def test_a_caption_that_no_option_changes_is_trained_as_it_is_in_the_file(text, tmp_path):
    folder = tiny.save_images(tmp_path / "data" / "train" / "2_sks", [(64, 64)])
    (folder / "1.txt").write_text(f"  {text} \r\n", encoding="utf-8")
    options = tiny.options(tmp_path / "model", tmp_path / "out", shuffle_caption=False)
    [image] = images(tmp_path / "data", options)
    assert image.caption == text
    for kept in (CaptionOptions(), CaptionOptions(keep_tokens=2, keep_tokens_separator="|||")):
        assert sample(image.caption, kept, 1, Random(0)) == text


def test_prefix_and_suffix_do_not_change_the_caption_between_them():
    options = CaptionOptions(caption_prefix="sks,", caption_suffix="by night")
    assert sample("1,000 (a),(b)", options, 1, Random(0)) == "sks, 1,000 (a),(b) by night"


# ---- fractions of steps
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lr_warmup_steps", "lr_decay_steps"])
@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.29, 0.5, 0.999])
@pytest.mark.parametrize("total", [1, 9, 100, 333, 1999])
def test_a_fraction_of_the_steps_is_cut_off_and_not_rounded(name, fraction, total):
    """sd-scripts: `int(args.lr_warmup_steps * num_training_steps)`."""
    options = TrainOptions(**{name: fraction})
    schedule = schedule_options.schedule(options, total)
    assert max(schedule.warmup, schedule.decay) == int(fraction * total)
