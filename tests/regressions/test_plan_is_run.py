"""A dry run ends as the run ends: every refusal that needs no weights is in the plan, with the same
exit code and the same message. Nothing is created by a dry run.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from datasetkit.core.errors import Exit, ModelFileError
from datasetkit.options.train import TrainOptions
from trainer.families import model_files, registry
from trainer.tinybase import shipped

pytest.importorskip("torch")

SMALL = {
    "pretrained_model_name_or_path": "tiny", "resolution": 128, "min_bucket_reso": 64,
    "mixed_precision": "no", "network_dim": 4, "max_train_steps": 2, "sample_prompts": "",
}  # fmt: skip
USAGE, MODEL, STORAGE = Exit.USAGE, Exit.MODEL, Exit.STORAGE


@pytest.fixture
def data(here: Path) -> Path:
    folder = here / "ds" / "train" / "1_kitsu"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (128, 128), (90 * number, 80, 40)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("kitsu, smile\n")
    write_tensors(here / "other.safetensors", {"weight": (2, 2)})
    write_tensors(here / "lora.safetensors", {"lora_unet_x.lora_down.weight": (4, 8)})
    return here / "ds"


def write_tensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    from safetensors.numpy import save_file

    save_file({name: np.zeros(shape, np.float32) for name, shape in shapes.items()}, path)


def given(**options: object) -> list[str]:
    """Return the words of the command line that set options."""
    pairs = {**SMALL, **options}
    return [word for name, value in pairs.items() for word in ("--set", f"{name}={value}")]


def tree(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


REFUSED: dict[str, tuple[dict[str, Any], Exit, str]] = {
    "warm-up beyond the end": ({"lr_warmup_steps": 100}, USAGE, "lr_warmup_steps = 100 of 2"),
    "warm-up of all steps": ({"lr_warmup_steps": 2}, USAGE, "lr_warmup_steps = 2 of 2"),
    "warm-up of 100%": ({"lr_warmup_steps": "100%"}, USAGE, "lr_warmup_steps = 2 of 2"),
    "warm-up of constant": (
        {"lr_scheduler": "constant", "lr_warmup_steps": 1}, USAGE, "has no warm-up",
    ),
    "decay without its schedule": ({"lr_decay_steps": 1}, USAGE, "does not use lr_decay_steps"),
    "decay is missing": ({"lr_scheduler": "warmup_stable_decay"}, USAGE, "needs lr_decay_steps"),
    "minimum beside cosine": (
        {"lr_scheduler_min_lr_ratio": 0.1}, USAGE, "does not use lr_scheduler_min_lr_ratio",
    ),
    "argument of a cycle": (
        {"lr_scheduler": "cosine_warm_restarts", "lr_scheduler_args": '["x=1"]'},
        USAGE, "lr_scheduler_args: x",
    ),
    "unknown schedule class": ({"lr_scheduler_type": "Nope"}, USAGE, "has no scheduler Nope"),
    "schedule class without its argument": (
        {"lr_scheduler_type": "StepLR", "lr_scheduler_args": '["x=1"]'}, USAGE, "does not accept",
    ),
    "schedule class that ends early": (
        {"lr_scheduler_type": "OneCycleLR", "max_train_steps": 4,
         "lr_scheduler_args": '["max_lr=0.1", "total_steps=2"]'},
        USAGE, "fails after step 3 of 4",
    ),
    "schedule class and warm-up": (
        {"lr_scheduler_type": "CosineAnnealingLR", "lr_warmup_steps": 1}, USAGE, "does not use",
    ),
    "unknown optimizer": ({"optimizer_type": "AdamX"}, USAGE, "is not known"),
    "class that torch does not have": (
        {"optimizer_type": "torch.optim.Nope"}, USAGE, "has no optimizer Nope",
    ),
    "missing package": ({"optimizer_type": "no_such.Optimizer"}, MODEL, "no_such"),
    "argument of the optimizer": ({"optimizer_args": '["wd=1"]'}, USAGE, "does not accept wd=1"),
    "value of an argument": ({"optimizer_args": '["betas=0.9"]'}, USAGE, "does not accept betas"),
    "rate as an argument": ({"optimizer_args": '["lr=1"]'}, USAGE, "optimizer_args has lr"),
    "slash in the name": ({"output_name": "a/b"}, USAGE, "contains a slash"),
    "line break in the name": ({"output_name": '"a\\nb"'}, USAGE, "control character"),
    "colon in the name": ({"output_name": "a:b"}, USAGE, "contains :"),
    "question mark in the name": ({"output_name": "a?b"}, USAGE, "contains ?"),
    "long name": ({"output_name": "x" * 300}, USAGE, "is longer than 255 bytes"),
    "name too long with an ending": ({"output_name": "x" * 230}, USAGE, "is longer than"),
    "device of Windows": ({"output_name": "CON"}, USAGE, "device name"),
    "output folder": ({"output_dir": "/proc/x"}, STORAGE, "cannot write /proc/x"),
    "output folder is a file": ({"output_dir": "ds/train/1_kitsu/0.png"}, STORAGE, "0.png"),
    "output folder below a file": ({"output_dir": "ds/train/1_kitsu/0.png/x"}, STORAGE, "0.png"),
    "log folder": ({"logging_dir": "/proc/x"}, STORAGE, "cannot write /proc/x"),
    "name of the log folder": ({"logging_dir": "a:b"}, USAGE, "contains :"),
    "no base": ({"pretrained_model_name_or_path": ""}, USAGE, "no base model is given"),
    "missing base": ({"pretrained_model_name_or_path": "x.safetensors"}, MODEL, "does not exist"),
    "base of the hub without a commit": (
        {"pretrained_model_name_or_path": "owner/name"}, USAGE, "needs its revision",
    ),
    "missing VAE": ({"vae": "x.safetensors"}, MODEL, "does not exist"),
    "base that is no model": ({"pretrained_model_name_or_path": "ds"}, MODEL, "unet/config.json"),
    "missing network_weights": (
        {"network_weights": "/nope.safetensors"}, MODEL, "cannot read network_weights",
    ),
    "network_weights that are no LoRA": (
        {"network_weights": "other.safetensors"}, MODEL, "is not a LoRA with kohya's keys",
    ),
    "network_weights of other modules": (
        {"network_weights": "lora.safetensors"}, MODEL, "has other modules than those to train",
    ),
    "no block is trained": (
        {"network_args": '["block_dims=' + ",".join("0" * 25) + '"]', "text_encoder_lr": 0},
        USAGE, "nothing would be trained",
    ),
    "missing prompts": ({"sample_prompts": "x.txt"}, USAGE, "cannot read sample_prompts"),
}  # fmt: skip


@pytest.mark.parametrize("row", REFUSED)
def test_dry_run_refuses_what_the_run_refuses(dsk, here, data, row):
    options, code, words = REFUSED[row]
    before = tree(here)
    dry = dsk("train", "ds", "--dry-run", *given(**options))
    run = dsk("train", "ds", *given(**options))
    assert (dry.code, run.code) == (code, code), f"{dry.err}\n{run.err}"
    assert words in dry.err and "hint: " in dry.err
    assert problem(dry.err) == problem(run.err)
    assert tree(here) == before


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("text_encoder/config.json", "remove", "text_encoder/config.json is missing"),
        ("vae/diffusion_pytorch_model.safetensors", "remove", "model.safetensors is missing"),
        ("text_encoder/model.safetensors", "remove", "text_encoder/model.safetensors is missing"),
        ("text_encoder/model.safetensors", "cut", "model.safetensors: it is damaged or cut short"),
        ("unet/diffusion_pytorch_model.safetensors", "cut", "damaged or cut short"),
    ],
)
def test_base_that_is_not_whole_is_refused_by_both(dsk, here, data, part, change, words):
    shutil.copytree(shipped.FOLDER, here / "base")
    file = here / "base" / part
    if change == "remove":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-1000])
    options = given(pretrained_model_name_or_path="base")
    dry, run = dsk("train", "ds", "--dry-run", *options), dsk("train", "ds", *options)
    assert (dry.code, run.code) == (MODEL, MODEL) and words in dry.err
    assert problem(dry.err) == problem(run.err)


def test_file_without_its_text_encoder_is_refused(here):
    names = ("model.diffusion_model.input_blocks.0.0.weight", "first_stage_model.x",
             "cond_stage_model.transformer.x")  # fmt: skip
    write_tensors(here / "whole.safetensors", dict.fromkeys(names, (4, 4)))
    model_files.require_whole(here / "whole.safetensors", registry.family("sd1"))
    write_tensors(here / "part.safetensors", dict.fromkeys(names[:2], (4, 4)))
    with pytest.raises(ModelFileError, match="its text encoder is missing"):
        model_files.require_whole(here / "part.safetensors", registry.family("sd1"))


def problem(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("error: ", "hint: "))]


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("kitsu, smile.--w 64 --h 64", "a space and two plain dashes before it: --w 64"),
        ("kitsu \N{EM DASH}w 64", "--w 64"),
        ("kitsu \N{EN DASH}s 20", "--s 20"),
        ("kitsu -l 7", "--l 7"),
        ("kitsu -- w 64", "--w 64"),
        ("kitsu --n bad\N{EM DASH}w 64", "--w 64"),
        ("kitsu.--n bad", "--n bad"),
        ("kitsu --l 7,5", "write it like --l 7.5"),
        ("kitsu --w 512px", "write it like --w 512"),
        ("kitsu --s 20.5", "write it like --s 20"),
    ],
)
def test_misspelt_flag_of_a_prompt_is_refused_with_its_spelling(dsk, here, data, line, hint):
    (here / "prompts.txt").write_text(f"{line}\n", encoding="utf-8")
    dry = dsk("train", "ds", "--dry-run", *given(sample_prompts="prompts.txt"))
    assert dry.code == USAGE and "prompts.txt, line 1" in dry.err and hint in dry.err


def test_dashes_of_a_sentence_are_text(dsk, here, data):
    text = "kitsu \N{EM DASH} a fox, 1930\N{EN DASH}1940, e--mail -- and more, x-w 3\n"
    (here / "prompts.txt").write_text(text, encoding="utf-8")
    assert dsk("train", "ds", "--dry-run", *given(sample_prompts="prompts.txt")).code == Exit.DONE


def test_warnings_of_the_options_are_in_the_plan(dsk, here, data):
    (here / "prompts.txt").write_text("kitsu, " * 60 + "\n", encoding="utf-8")
    dry = dsk("train", "ds", "--dry-run", *given(sample_prompts="prompts.txt", clip_skip=2))
    assert dry.code == Exit.DONE and "prompt 1 has" in dry.err


def test_loss_weights_that_undo_zero_terminal_snr_are_warned_of():
    from trainer.plan import run_checks

    both = TrainOptions(min_snr_gamma=5, zero_terminal_snr=True, v_parameterization=True)
    (line,) = run_checks.notices(both, None)
    assert "min_snr_gamma = 5" in line and "leave one of the two out" in line
    assert run_checks.notices(replace(both, min_snr_gamma=None), None) == ()


def test_plan_of_a_missing_base_is_shown_before_the_error(dsk, data):
    dry = dsk("train", "ds", "--dry-run", *given(pretrained_model_name_or_path=""))
    assert "2 steps of AdamW" in dry.out and dry.err.startswith("error: no base model is given")


def test_dry_run_needs_the_packages_of_the_run(dsk, data, monkeypatch):
    from trainer.plan import run_checks

    monkeypatch.setattr(run_checks, "find_spec", lambda name: None if name == "peft" else name)
    for command in (["train", "ds", "--dry-run"], ["train", "ds"]):
        ended = dsk(*command, *given())
        assert ended.code == MODEL and "needs the package peft" in ended.err
    monkeypatch.setattr(run_checks, "find_spec", lambda name: None)
    ended = dsk("train", "ds", "--dry-run", *given(logging_dir="logs"))
    assert ended.code == MODEL and "tensorboard" in ended.err
