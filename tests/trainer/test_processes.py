"""Several processes train what one process with as much accumulation trains."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from datasetkit.core.config import TrainOptions
from tests.trainer import tiny
from trainer.plan import find_subsets, make_plan
from trainer.run import train


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates(data, model, tmp_path):
    options = tiny.options(model, tmp_path / "one", train_batch_size=2, max_train_steps=4, seed=3)
    alone = replace(options, gradient_accumulation_steps=2)
    one = train(alone, make_plan(find_subsets(data, alone)[0], alone))
    usual = TrainOptions()
    changed = {k: v for k in options.__slots__ if (v := getattr(options, k)) != getattr(usual, k)}
    changed["output_dir"] = str(tmp_path / "two")
    settings = [f"{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in changed.items()]
    # `accelerate launch --cpu --num_processes 2` starts one process where there is no MPI; torch's launcher needs none.
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launch, "-m", "trainer", str(data), *settings]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = load_file(one.files[-1]), load_file(tmp_path / "two" / "sks.safetensors")
    assert all(torch.allclose(first[key], second[key], atol=1e-5) for key in first)
