"""A training at two resolutions."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from datasetkit.core.errors import ConfigError
from tests.trainer import tiny
from tests.trainer.test_run import Killer, Stopped
from trainer import loop, setup
from trainer.data.epochs import Sample, epoch_batches
from trainer.data.prefetch import StepBatches
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train


@pytest.mark.long
def test_a_full_batch_has_the_same_weight_in_every_block(data, model, tmp_path):
    small = tiny.options(model, tmp_path, resolution=128, train_batch_size=1)
    main = tiny.options(model, tmp_path, resolution=192, train_batch_size=4)
    first = find_subsets(data, small)[0]
    second = [replace(subset, block=main.blocks(1)[0]) for subset in first]

    def gradient(subsets, options):
        run = setup.assemble(options, make_plan(subsets, options), setup.load_parts(options))
        batches = epoch_batches(run.plan, 42, 0)
        index = next(i for i, p in enumerate(run.plan.images) if p.subset.block.number == 0)
        (batch,) = [b for b in batches if b == (Sample(index, 0),)]
        work = StepBatches(0, 0, ((0, loop.reader(run).batch(batch, 0)),))
        loop.gradients(run, work)
        return torch.cat([p.grad.flatten() for p in run.lora.parameters() if p.grad is not None])

    alone, beside = gradient(first, small), gradient([*first, *second], main)
    assert float(alone.norm()) > 0 and torch.equal(alone, beside)


@pytest.mark.long
def test_a_run_at_two_resolutions_resumes_bit_by_bit(data, model, tmp_path):
    options = tiny.options(
        model, tmp_path / "whole", resolutions=(128, 192), train_batch_size=2,
        save_every_n_epochs=1, save_state=True, validation_split=0.3, max_validation_steps=2,
    )  # fmt: skip
    plan = make_plan(find_subsets(data, options)[0], options)
    whole = train(options, plan)
    assert whole.steps == plan.steps
    rows = [json.loads(line) for line in whole.metrics.read_text().splitlines()]
    assert sum(row.get("samples", 0) for row in rows) == plan.totals.samples * plan.epochs

    again = replace(options, output_dir=str(tmp_path / "again"))
    with pytest.raises(Stopped):
        train(again, plan, reporter=Killer(plan.totals.steps_per_epoch + 1))
    resumed = train(again, plan, resume=True)
    assert resumed.start == plan.totals.steps_per_epoch
    one, two = (load_file(result.files[-1]) for result in (whole, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one) and set(one) == set(two)
    with safe_open(whole.files[-1], "pt") as file:
        blocks = json.loads(file.metadata()["ss_datasets"])
    assert [b["resolution"] for b in blocks] == [[128, 128], [192, 192]]

    other = replace(again, resolutions=(128, 256))
    with pytest.raises(ConfigError, match="cannot be resumed"):
        train(other, make_plan(find_subsets(data, other)[0], other), resume=True)
