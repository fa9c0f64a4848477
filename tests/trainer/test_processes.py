"""Several processes train like one process with as much accumulation, and end together."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from datasetkit.cli.launched import main as launched_main
from datasetkit.options.train import TrainOptions
from tests.trainer import tiny
from trainer import device, launch
from trainer.monitor import metrics
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train

# A process that fails by itself, in its second step.
FAULTY = """
import os, sys
from datasetkit.cli.launched import main
from datasetkit.core.errors import InputError
from trainer import loop
gradients, calls = loop.gradients, []
def faulty(setup, work):
    calls.append(work)
    if len(calls) == int(os.environ["FAULT_AT"]) and os.environ["RANK"] in os.environ["FAULT_IN"]:
        raise InputError("the disk was pulled out", hint="put it back")
    return gradients(setup, work)
loop.gradients = faulty
sys.exit(main(sys.argv[1:]))
"""


def settings(options):
    usual = TrainOptions()
    changed = {k: v for k in options.__slots__ if (v := getattr(options, k)) != getattr(usual, k)}
    return [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in changed.items()
    ]


def launched(data, options, *more, script=None, **environment):
    """Run two processes on the CPU. `accelerate launch --cpu` starts one where there is no MPI;
    this is its other way, which takes the CPU by the variable.
    """
    start = [sys.executable, "-m", "trainer.launch", "2"]
    if script is not None:
        start = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(script),
        ]
    known = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", **environment}
    command = [*start, str(data), *settings(options), *more]
    return subprocess.run(command, env=known, capture_output=True, text=True, timeout=300)


@pytest.fixture
def options(model, tmp_path):
    return tiny.options(
        model,
        tmp_path / "two",
        train_batch_size=2,
        max_train_steps=4,
        seed=3,
        save_every_n_steps=2,
        save_every_n_epochs=0,
        validation_split=0.4,
    )


@pytest.mark.slow
def test_two_processes_equal_one_that_accumulates(data, options, tmp_path):
    alone = replace(options, gradient_accumulation_steps=2, output_dir=str(tmp_path / "one"))
    one = train(alone, make_plan(find_subsets(data, alone)[0], alone))
    ended = launched(data, options)
    assert ended.returncode == 0, ended.stderr[-3000:]
    out = tmp_path / "two"
    first, second = load_file(one.files[-1]), load_file(out / "sks.safetensors")
    assert all(torch.allclose(first[key], second[key], atol=1e-5) for key in first)
    assert (
        ended.stdout.count("4 steps of AdamW") == 1
        and ended.stdout.count("of 2 on 2 processes") == 1
    )
    assert ended.stdout.count("passed the LoRA check") == 1
    assert sorted(p.name for p in out.iterdir()) == [
        ".dsk", "sks-best.json", "sks-best.safetensors", "sks-loss.png", "sks-metrics.jsonl",
        "sks-run.json", "sks-state-00000002", "sks-step00000002.safetensors",
        "sks-validation.jsonl", "sks.safetensors",
    ]  # fmt: skip
    mine, theirs = metrics.read_rows(one.metrics), metrics.read_rows(out / "sks-metrics.jsonl")
    for key in ("loss", "samples", "validation/loss", "validation/change"):
        both = [(a[key], b[key]) for a, b in zip(mine, theirs, strict=True) if key in a]
        assert both and all(abs(a - b) < 1e-5 for a, b in both), key


@pytest.mark.slow
@pytest.mark.parametrize("where", ["0", "1", "01"])
def test_failing_process_ends_all_with_one_line_and_the_run_can_be_resumed(
    data, options, tmp_path, where
):
    script = tmp_path / "faulty.py"
    script.write_text(FAULTY, encoding="utf-8")
    ended = launched(data, options, script=script, FAULT_AT="4", FAULT_IN=where)
    assert ended.returncode != 0
    assert re.findall("^error: .*", ended.stderr, re.MULTILINE) == [
        "error: the disk was pulled out"
    ]
    assert "put it back" in ended.stderr and not (tmp_path / "two" / "sks.safetensors").exists()
    if where != "1":
        return
    on = launched(data, options, "--resume")
    assert on.returncode == 0, on.stderr[-3000:]
    assert "trained 2 steps" in on.stdout
    whole = replace(options, output_dir=str(tmp_path / "whole"))
    assert launched(data, whole).returncode == 0
    resumed, expected = (
        load_file(tmp_path / "two" / "sks.safetensors"),
        load_file(tmp_path / "whole/sks.safetensors"),
    )
    assert all(torch.equal(resumed[key], expected[key]) for key in expected)


@pytest.mark.slow
def test_error_of_all_processes_is_reported_once(options, tmp_path):
    ended = launched(tmp_path / "nowhere", options)
    assert ended.returncode == 10
    assert ended.stderr.count("error:") == 1 and "nowhere does not exist" in ended.stderr
    assert "Traceback" not in ended.stderr and "ChildFailed" not in ended.stderr


def test_first_process_to_fail_reports_the_error(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert (
        device.is_first_failure() and device.is_first_failure()
    )  # alone, whoever fails is the first
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    for name, value in (
        ("MASTER_ADDR", "127.0.0.1"),
        ("MASTER_PORT", str(store.port)),
        ("WORLD_SIZE", "2"),
    ):
        monkeypatch.setenv(name, value)
    assert [device.is_first_failure() for _ in range(3)] == [True, False, False]


def test_a_launched_process_shows_the_plan_or_what_is_wrong(data, options, tmp_path, capsys):
    assert launched_main([str(data), *settings(options), "--dry-run"]) == 0
    assert "4 steps of AdamW" in capsys.readouterr().out and not (tmp_path / "two").exists()
    assert launched_main([str(tmp_path / "nowhere"), "--dry-run"]) == 10
    assert "error: " in capsys.readouterr().err


def test_launch_is_accelerates():
    from accelerate.commands.launch import launch_command_parser

    told = launch_command_parser().parse_args(launch.arguments("2", ["data", "seed=1", "--resume"]))
    assert (
        told.multi_gpu
        and told.num_processes == 2
        and told.module
        and told.training_script == "datasetkit.cli.launched"
    )
    assert told.training_script_args == ["data", "seed=1", "--resume"]


@pytest.mark.parametrize("given", [[], ["2"], ["1", "data"], ["two", "data"]])
def test_launch_says_how_it_is_called(given, capsys):
    assert launch.main(given) == 2
    assert "python -m trainer.launch GPUS DIR" in capsys.readouterr().err


@pytest.mark.slow
def test_processes_are_paused_together_and_go_on_from_the_same_step(data, options, tmp_path):
    options = replace(options, save_every_n_steps=0, max_train_steps=40, validation_split=0.0)
    command = [sys.executable, "-m", "trainer.launch", "2", str(data), *settings(options)]
    known = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launched_run = subprocess.Popen(
        command, env=known, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    rows = tmp_path / "two" / "sks-metrics.jsonl"
    for _ in range(1200):
        if rows.exists() and rows.read_text().count("\n") > 1:
            break
        time.sleep(0.1)
    launched_run.send_signal(signal.SIGINT)
    _, err = launched_run.communicate(timeout=120)
    assert launched_run.returncode == 130, err
    stopped_at = re.search(r"stopped after step (\d+) of 40; the training state is saved", err)
    assert stopped_at is not None, err
    assert "to continue: python -m trainer.launch 2" in err and "Traceback" not in err
    (state,) = (tmp_path / "two").glob("sks-state-*")
    assert state.name == f"sks-state-pause-{int(stopped_at[1]):08d}"
    shorter = replace(options, max_train_steps=int(stopped_at[1]) + 2)
    ended = launched(data, shorter, "--resume", "--extend")
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "trained 2 steps" in ended.stdout
