"""A run: its files and metadata, and that a resumed run equals an uninterrupted one."""

import json
import os
import re
import shutil
import time
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from datasetkit.core.errors import ConfigError, InputError, Locked
from tests.trainer import tiny
from trainer.files import lora, run_lock
from trainer.monitor import metrics
from trainer.plan import outputs
from trainer.plan.plan import find_subsets, make_plan
from trainer.run import train


class Stopped(BaseException):
    """Raised instead of a kill at a chosen step."""


class Killer:
    """A reporter that kills the run after so many optimizer steps, and records the messages."""

    def __init__(self, after=None):
        self.remaining = after
        self.counts = False
        self.warnings = []
        self.notes = []
        self.phases = []

    def start(self, label, total):
        self.counts = label == "training"

    def advance(self, n=1):
        if self.counts and self.remaining is not None:
            self.remaining -= n
            if self.remaining <= 0:
                raise Stopped

    def note(self, text):
        self.notes.append(text)

    def phase(self, name):
        self.phases.append(name)

    def finish(self):
        pass

    def warn(self, message):
        self.warnings.append(message)


def planned(data, options):
    return make_plan(find_subsets(data, options)[0], options)


def whole(data, options):
    return train(options, planned(data, options))


@pytest.mark.long
def test_files_of_a_run(data, full_model, tmp_path):
    options = tiny.options(full_model, tmp_path / "out")
    result = whole(data, options)
    out = tmp_path / "out"
    assert [f.name for f in result.files] == ["sks-000001.safetensors", "sks.safetensors"]
    steps = planned(data, options).steps
    assert (result.steps, result.start, result.modules) == (steps, 0, 264)
    state = f"sks-state-{steps // 2:08d}"
    assert sorted(p.name for p in out.iterdir()) == [
        ".dsk", "sks-000001.safetensors", "sks-loss.png", "sks-metrics.jsonl", "sks-run.json",
        state, "sks.safetensors",
    ]  # fmt: skip
    assert len(metrics.read_rows(result.metrics)) == steps
    recorded = json.loads((out / "sks-run.json").read_bytes())["plan"]
    assert (recorded["images"], recorded["samples"]) == (4, 8)
    assert (recorded["regularisation_images"], recorded["regularisation_samples"]) == (2, 8)
    assert recorded["samples_per_epoch"] == 16
    assert result.plot.read_bytes().startswith(b"\x89PNG")
    assert result.files[0].stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.long
def test_metrics_and_progress_line_weigh_every_sample_the_same(data, options):
    """The last step of an epoch has fewer samples than the others."""
    reporter, began = Killer(), time.time()
    result = train(options, planned(data, options), reporter=reporter)
    rows = metrics.read_rows(result.metrics)
    assert len(reporter.notes) == len(rows) > 2
    per_epoch = planned(data, options).totals.steps_per_epoch
    recent = rows[-per_epoch:]
    assert len({row["samples"] for row in recent}) > 1
    mean = sum(row["loss"] * row["samples"] for row in recent) / sum(r["samples"] for r in recent)
    assert abs(result.loss - mean) < 1e-12
    assert reporter.notes[0].startswith(f"loss {rows[0]['loss']:.4f}, ")
    assert re.fullmatch(rf"loss {mean:.4f}, \d+\.\d GB", reporter.notes[-1])

    assert all(row.keys() >= set(metrics.MACHINE) for row in rows)
    times, elapsed = [[row[key] for row in rows] for key in ("time", "elapsed")]
    assert began - 1 <= times[0] and times == sorted(times) and times[-1] <= time.time() + 1
    assert elapsed == sorted(elapsed) and all(row["memory"] > 1e7 for row in rows)
    assert abs(sum(row["seconds"] for row in rows) - result.seconds) < 0.001 * len(rows)
    assert result.between_steps > 0


def test_metadata_has_the_training_and_no_folder(data, options, tmp_path):
    result = whole(data, replace(options, max_train_steps=1, network_alpha=2.0))
    with safe_open(result.files[-1], "pt") as file:
        reported = file.metadata()
    assert reported["ss_network_dim"] == "4" and reported["ss_network_alpha"] == "2.0"
    assert (
        reported["ss_steps"] == "1"
        and reported["ss_num_train_images"] == "8"
        and reported["ss_num_reg_images"] == "8"
    )
    assert json.loads(reported["ss_dataset_dirs"]) == {"2_sks": {"n_repeats": 2, "img_count": 4}}
    assert json.loads(reported["ss_tag_frequency"])["2_sks"]["red hair"] == 4
    assert reported["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert len(reported["sshs_model_hash"]) == 64
    assert str(tmp_path.parent) not in json.dumps(reported)


@pytest.mark.long
def test_runs_of_one_seed_are_equal_and_of_two_are_not(data, options, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    short = replace(options, max_train_steps=1)
    paths = [
        whole(data, replace(short, output_dir=str(tmp_path / name), seed=seed)).files[-1]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    files = [load_file(path) for path in paths]
    assert all(torch.equal(files[0][key], files[1][key]) for key in files[0])
    assert not all(torch.equal(files[0][key], files[2][key]) for key in files[0])


LIVELY = {
    "max_train_epochs": 2, "save_every_n_epochs": 0, "save_every_n_steps": 3,
    "caption_dropout_rate": 0.3, "caption_tag_dropout_rate": 0.2, "network_dropout": 0.2,
    "flip_aug": True, "lr_scheduler": "cosine_with_restarts", "lr_warmup_steps": 2,
    "token_warmup_step": 6, "enable_wildcard": True, "caption_prefix": "{a|b},",
    "loss_type": "smooth_l1", "diff_output_preservation": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def uninterrupted(data, model, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    result = whole(data, tiny.options(model, out, **LIVELY))
    return load_file(result.files[-1]), training_rows(result.metrics)


def training_rows(path):
    """Return the rows of a metrics file without what differs between equal runs."""
    rows = metrics.read_rows(path)
    return [{k: v for k, v in row.items() if k not in metrics.MACHINE} for row in rows]


@pytest.mark.long
@pytest.mark.parametrize("stop", [4, pytest.param(7, marks=pytest.mark.slow)])
def test_resumed_run_is_bit_identical(data, model, tmp_path, uninterrupted, stop):
    options = tiny.options(model, tmp_path / "out", **LIVELY)
    with pytest.raises(Stopped):
        train(options, planned(data, options), reporter=Killer(stop))
    result = train(options, planned(data, options), resume=True)
    assert result.start == stop // 3 * 3
    tensors, rows = uninterrupted
    resumed = load_file(result.files[-1])
    assert all(torch.equal(tensors[key], resumed[key]) for key in tensors)
    assert training_rows(result.metrics) == rows


@pytest.mark.slow
def test_run_of_24_steps_can_be_resumed_anywhere(data, model, tmp_path):
    longer = {**LIVELY, "max_train_steps": 24, "train_batch_size": 2, "save_every_n_steps": 5}
    whole_run = load_file(whole(data, tiny.options(model, tmp_path / "whole", **longer)).files[-1])
    for stop in (7, 13, 19):
        options = tiny.options(model, tmp_path / f"stopped-{stop}", **longer)
        stopped(data, options, stop)
        resumed = load_file(train(options, planned(data, options), resume=True).files[-1])
        assert all(torch.equal(value, resumed[key]) for key, value in whole_run.items())


def stopped(data, options, after):
    with pytest.raises(Stopped):
        train(options, planned(data, options), reporter=Killer(after))


@pytest.mark.long
def test_truncated_state_is_reported_and_the_one_before_is_used(
    data, model, tmp_path, uninterrupted
):
    options = tiny.options(model, tmp_path / "out", **LIVELY)
    stopped(data, options, 7)
    newest = tmp_path / "out" / "sks-state-00000006" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-10])
    reporter = Killer()
    result = train(options, planned(data, options), resume=True, reporter=reporter)
    assert result.start == 3
    assert any("sks-state-00000006 is damaged" in line for line in reporter.warnings)
    resumed = load_file(result.files[-1])
    assert all(torch.equal(value, resumed[key]) for key, value in uninterrupted[0].items())


@pytest.mark.long
def test_half_written_state_is_never_used_and_is_deleted(data, options, tmp_path, monkeypatch):
    def killed(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a kill cleans nothing up
        with pytest.raises(Stopped):
            whole(data, options)
    assert len(list((tmp_path / "out").glob(".dsk-stage-*"))) == 1
    with pytest.raises(InputError, match="no training state"):
        train(options, planned(data, options), resume=True)
    assert not list((tmp_path / "out").glob(".dsk-stage-*"))


@pytest.mark.long
def test_resuming_another_run_is_an_error_that_names_the_difference(data, model, tmp_path):
    options = tiny.options(model, tmp_path / "out", **LIVELY)
    stopped(data, options, 4)
    other = replace(options, learning_rate=0.5)
    with pytest.raises(ConfigError, match=r"learning_rate was 0\.01 and is 0\.5"):
        train(other, planned(data, other), resume=True)
    folder = tiny.copy_folder(data, tmp_path / "data")
    (folder / "train" / "2_sks" / "1.txt").write_text("sks, other", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"2_sks/1\.png: caption changed"):
        train(options, planned(folder, options), resume=True)


def test_two_runs_of_one_name_cannot_write_to_one_folder(data, options, tmp_path):
    (tmp_path / "out").mkdir()
    with run_lock.hold(tmp_path / "out", "sks"), pytest.raises(Locked):
        whole(data, options)


@pytest.mark.long
def test_only_the_last_files_are_kept(data, options):
    result = whole(
        data, replace(options, max_train_epochs=4, train_batch_size=16, save_last_n_epochs=2)
    )
    assert [f.name for f in result.files] == [
        "sks-000002.safetensors",
        "sks-000003.safetensors",
        "sks.safetensors",
    ]


@pytest.mark.long
def test_both_formats_hold_the_same_change(data, options, tmp_path):
    whole(data, replace(options, max_train_steps=1, lora_format="both"))
    out = tmp_path / "out"
    with safe_open(out / "sks.diffusers.safetensors", "pt") as file:
        metadata = file.metadata()
    ours = lora.deltas(load_file(out / "sks.safetensors"))
    theirs = lora.diffusers_deltas(load_file(out / "sks.diffusers.safetensors"), metadata)
    named = {
        path.replace(".", "_").removeprefix("unet_").removeprefix("text_encoder_"): d
        for path, d in theirs.items()
    }
    for name, delta in ours.items():
        plain = name.removeprefix("lora_unet_").removeprefix("lora_te_")
        assert torch.allclose(named[plain], delta, rtol=1e-6)


@pytest.mark.long
def test_latents_on_disk_are_used_again(data, options, tmp_path):
    once = replace(options, max_train_steps=1, cache_latents_to_disk=True)
    first = load_file(whole(data, once).files[-1])
    [shard] = (tmp_path / "out" / "latent-cache").iterdir()
    written = shard.stat().st_mtime_ns
    second = load_file(whole(data, once).files[-1])
    assert list(shard.parent.iterdir()) == [shard] and shard.stat().st_mtime_ns == written
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.long
def test_network_weights_continues_from_a_lora_file(data, options, tmp_path):
    first = whole(data, replace(options, max_train_steps=2))
    more = replace(
        options,
        max_train_steps=1,
        network_weights=str(first.files[-1]),
        output_dir=str(tmp_path / "more"),
    )
    before, after = (
        lora.deltas(load_file(f)) for f in (first.files[-1], whole(data, more).files[-1])
    )
    assert all(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.long
def test_tensorboard_is_written_with_logging_dir(data, options, tmp_path):
    whole(data, replace(options, max_train_steps=1, logging_dir=str(tmp_path / "logs")))
    stamp = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "Z"  # a folder for each run
    assert len(list((tmp_path / "logs").glob(f"sks-{stamp}/events.out.tfevents.*"))) == 1
    named = replace(options, max_train_steps=1, logging_dir=str(tmp_path / "logs"))
    whole(data, replace(named, log_prefix="try 2_"))
    assert len(list((tmp_path / "logs").glob(f"try 2_{stamp}/events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("prefix", ["../sks", "a/b", "a:b", "x" * 300])
def test_log_prefix_must_be_the_start_of_a_name(data, options, tmp_path, prefix):
    with pytest.raises(InputError, match="log_prefix"):
        outputs.check_folders(replace(options, logging_dir=str(tmp_path), log_prefix=prefix))


def test_output_name_must_be_a_file_name(data, options):
    with pytest.raises(InputError, match="is not a file name"):
        whole(data, replace(options, output_name="../sks"))
