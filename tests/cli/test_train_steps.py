"""The steps that the plan prints are the steps that are taken, for any configuration."""

import random
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch

from datasetkit.options.toml import Config
from tests.trainer import tiny
from trainer import loop, setup
from trainer.config import of_project, setting
from trainer.plan.plan import find_subsets, make_plan

SIDES = (64, 80, 100, 128, 160, 200, 256)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A run of the small model that is made once; each configuration takes its place."""
    folder = tmp_path_factory.mktemp("base")
    tiny.save_images(folder / "data" / "train" / "1_sks", [(64, 64)])
    options = tiny.options(
        tiny.save_small(folder / "model"), folder, network_train_text_encoder_only=True
    )
    plan = make_plan(find_subsets(folder / "data", options)[0], options)
    return setup.assemble(
        replace(options, lr_scheduler="constant"), plan, setup.load_parts(options)
    )


def lay_out(folder, draw):
    """Write one to three concepts and sometimes regularisation; images of many shapes."""
    for concept in range(draw.randint(1, 3)):
        sizes = [(draw.choice(SIDES), draw.choice(SIDES)) for _ in range(draw.randint(1, 5))]
        tiny.save_images(folder / "train" / f"{draw.randint(1, 4)}_c{concept}", sizes)
    if draw.random() < 0.5:
        sizes = [(draw.choice(SIDES), draw.choice(SIDES)) for _ in range(draw.randint(1, 6))]
        tiny.save_images(folder / "reg" / f"{draw.randint(1, 2)}_class", sizes)


def configuration(draw):
    """Draw the options that steps depend on."""
    drawn = {
        "pretrained_model_name_or_path": "tiny",
        "resolution": draw.choice([64, 128, "[128, 192]"]),
        "min_bucket_reso": 64,
        "max_bucket_reso": draw.choice([192, 256]),
        "bucket_reso_steps": draw.choice([8, 32, 64]),
        "enable_bucket": draw.choice(["true", "true", "false"]),
        "bucket_no_upscale": draw.choice(["true", "false"]),
        "train_batch_size": draw.randint(1, 5),
        "gradient_accumulation_steps": draw.randint(1, 3),
        "max_train_epochs": draw.randint(1, 3),
        "random_crop": draw.choice(["true", "false"]),
        "flip_aug": draw.choice(["true", "false"]),
        "seed": draw.randint(0, 99),
    }
    if draw.random() < 0.3:
        drawn["max_train_steps"] = draw.randint(1, 20)
    return drawn


def number_before(words, text):
    return int(re.findall(rf"([\d,]+) {words}", text)[0].replace(",", ""))


@pytest.mark.parametrize("number", range(30))
def test_steps_that_are_printed_are_taken(dsk, here, base, monkeypatch, number):
    draw = random.Random(number)
    lay_out(here / "ds", draw)
    drawn = configuration(draw)
    ended = dsk(
        "train",
        "ds",
        "--dry-run",
        *(word for k, v in drawn.items() for word in ("--set", f"{k}={v}")),
    )
    assert ended.code == 0, ended.err
    printed, samples = (
        number_before(words, ended.out) for words in (r"steps? of AdamW", r"samples? an epoch in")
    )

    options = of_project(Config(), dict(setting(f"{k}={v}") for k, v in drawn.items()))
    plan = make_plan(find_subsets(here / "ds", options)[0], options)
    seen: Counter = Counter()

    def cheap(run, batch, epoch):
        """Count the samples, and pull at one number of the LoRA."""
        seen.update((epoch, look.image.path) for look in batch)
        return run.lora.modules[0].up.sum() + torch.ones(len(batch))

    monkeypatch.setattr(loop, "sample_losses", cheap)
    one = replace(base.lora, modules=base.lora.modules[:1])
    taken = list(loop.steps(replace(base, options=options, plan=plan, lora=one)))
    assert len(taken) == printed
    assert [log.step for log in taken] == list(range(1, printed + 1))
    whole = [log.epoch - 1 for log in taken if log.last_of_epoch]
    for epoch in whole:
        assert {p.path: seen[epoch, p.path] for p in plan.images} == {
            p.path: n for p, n in zip(plan.images, plan.samples, strict=True)
        }
        assert sum(n for (e, _), n in seen.items() if e == epoch) == samples
    if "max_train_steps" not in drawn:
        assert whole == list(range(options.max_train_epochs))
