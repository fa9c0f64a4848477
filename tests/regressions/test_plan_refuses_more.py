"""The plan refuses what ends a run: an optimizer that cannot take a step, numbers that are not
finite, a VAE that is none, and folders from which images would be lost or trained by mistake.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasetkit.core.errors import ConfigError, Exit
from datasetkit.options.train import TrainOptions
from trainer.optimizers import build_optimizer, trial
from trainer.plan import run_checks
from trainer.plan.plan import find_subsets, make_plan

torch = pytest.importorskip("torch")

SMALL: dict[str, Any] = {
    "pretrained_model_name_or_path": "tiny", "resolution": 64, "min_bucket_reso": 64,
    "mixed_precision": "no", "network_dim": 4, "max_train_steps": 4, "text_encoder_lr": 0,
    "lr_scheduler": "constant",
}  # fmt: skip


@pytest.fixture
def data(here: Path) -> Path:
    folder = here / "ds" / "train" / "1_kitsu"
    folder.mkdir(parents=True)
    for number in range(2):
        Image.new("RGB", (64, 64), (90 * number, 80, 40)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text("kitsu, smile\n")
    return here / "ds"


def plan(dsk, **options: object):
    pairs = {**SMALL, **options}
    given = (word for name, value in pairs.items() for word in ("--set", f"{name}={value}"))
    return dsk("train", "ds", "--dry-run", *given)


def sched(name: str, *args: str) -> dict[str, str]:
    return {"lr_scheduler_type": name, "lr_scheduler_args": json.dumps(args)}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip_skip": 4}, "clip_skip = 4: the text encoder has 3 layers"),
        ({"network_dropout": 1}, "give a value from 0 to 0.95"),
        ({"optimizer_args": '["betas=(0.9,)"]'}, "does not accept betas=(0.9,)"),
        ({"optimizer_args": '["foreach=True", "fused=True"]'}, "does not accept foreach=True"),
        ({"optimizer_args": '["differentiable=True"]'}, "cannot take a step"),
        ({"optimizer_type": "torch.optim.LBFGS"}, "cannot take a step"),
        ({"optimizer_type": "torch.optim.SparseAdam"}, "cannot take a step"),
        ({"optimizer_type": "torch.optim.Muon"}, "the network has tensors of 4 dimensions"),
        ({"optimizer_type": "torch.optim.Muon", "optimizer_args": '["nope=1"]'}, "nope"),
        ({"optimizer_args": '["eps=0"]'}, "makes weights that are not finite"),
        ({"optimizer_args": '["weight_decay=1e400"]'}, "is not a finite number"),
        ({"optimizer_args": '["betas=(1e400, 0.9)"]'}, "is not a finite number"),
        (sched("StepLR", "step_size=1", "gamma=1e400"), "is not a finite number"),
        (sched("StepLR", "step_size=1", "gamma=-1"), "learning rate of -0.0001 in step 2 of 4"),
        (sched("ExponentialLR", "gamma=1e300"), "learning rate of 1e+296 in step 2 of 4"),
        (sched("StepLR", "step_size=1", "last_epoch=5"), "does not accept step_size=1"),
        (sched("torch.optim.lr_scheduler.LRScheduler"), "does not accept an empty argument list"),
        ({"prior_loss_weight": "nan"}, "prior_loss_weight = nan is not a finite number"),
        ({"prior_loss_weight": "inf"}, "prior_loss_weight = inf is not a finite number"),
        ({"noise_offset": 0.1, "adaptive_noise_scale": "nan"}, "is not a finite number"),
        ({"resolution": 2**31}, "is larger than 16,384 pixels"),
        ({"resolutions": f"[64, {2**31}]"}, "is larger than 16,384 pixels"),
        ({"output_dir": '""'}, "output_dir is empty"),
        ({"output_dir": "ds/train/1_kitsu"}, "is a folder of training images"),
        ({"output_dir": "ds/train/../train/1_kitsu"}, "is a folder of training images"),
        ({"output_dir": "ds/train/1_kitsu/out"}, "ds/train, a folder of training images"),
        ({"output_dir": "ds/train"}, "ds/train, a folder of training images"),
        ({"output_dir": "ds/train/output"}, "ds/train, a folder of training images"),
        ({"output_dir": "ds/reg/1_girl/more/out"}, "ds/reg, a folder of training images"),
    ],
)
def test_plan_refuses_options_that_would_end_the_run(dsk, data, options, words):
    ended = plan(dsk, **options)
    assert ended.code == Exit.USAGE, ended.err
    assert words in ended.err and "hint: " in ended.err


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("ds/1_kitsu/out", "lies in a folder of training images"),
        ("ds/2_out", "has the name of a folder of training images"),
        ("ds/output", None),
        ("ds/output/2_out", None),
        ("train/output", None),
    ],
)
def test_concept_folders_without_a_train_folder_are_kept_apart_too(dsk, here, data, output, words):
    """An output folder beside them is usual."""
    (data / "train" / "1_kitsu").rename(data / "1_kitsu")
    (data / "train").rmdir()
    ended = plan(dsk, output_dir=output)
    assert ended.code == (Exit.DONE if words is None else Exit.USAGE)
    assert words is None or words in ended.err


def test_trial_of_an_optimizer_refuses_none_that_trains(dsk, data):
    assert plan(dsk, optimizer_args='["weight_decay=0.1"]').code == 0
    assert plan(dsk, optimizer_type="Prodigy", learning_rate=1).code == 0
    # All tensors of a LoHa are matrices.
    muon = {"optimizer_type": "torch.optim.Muon", "network_module": "networks.loha"}
    assert plan(dsk, **muon).code == 0


def unsaved(groups, lr):
    """An optimizer whose state JSON cannot hold."""
    optimizer = torch.optim.SGD(groups, lr=lr)
    optimizer.param_groups[0]["precision"] = torch.bfloat16
    return optimizer


def forgetful(groups, lr):
    """An optimizer that does not read its own state."""
    optimizer = torch.optim.Adam(groups, lr=lr)
    optimizer.register_load_state_dict_pre_hook(lambda *_: {})
    return optimizer


@pytest.mark.parametrize("optimizer", [unsaved, forgetful])
def test_an_optimizer_whose_state_cannot_be_saved_is_refused(monkeypatch, optimizer):
    """Else the run would end at its first training state."""
    monkeypatch.setattr(build_optimizer, "_load", lambda _: optimizer)
    options = TrainOptions(optimizer_type="some.Optimizer")
    with pytest.raises(ConfigError, match="has a state that cannot be saved and restored"):
        trial.check(options, 4)


def save_vae(folder: Path, **config: object) -> Path:
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    tensors = {"encoder.conv_in.weight": np.zeros((4, 3, 3, 3), np.float32)}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder / "diffusion_pytorch_model.safetensors"


def test_folder_without_a_vae_is_refused(dsk, data):
    ended = plan(dsk, vae="ds")
    assert ended.code == Exit.MODEL
    assert "ds is not a VAE: config.json is missing" in ended.err


def test_vae_of_another_family_or_cut_short_is_refused(dsk, here, data):
    file = save_vae(here / "xl", latent_channels=4, scaling_factor=0.13025)
    ended = plan(dsk, vae="xl")
    assert ended.code == Exit.MODEL
    assert "scales latents by 0.13025, but Stable Diffusion 1 by 0.18215" in ended.err
    assert plan(dsk, vae=file).code == 0  # a single file does not say its scale
    file.write_bytes(file.read_bytes()[:-10])
    assert "damaged or cut short" in plan(dsk, vae=file).err


def test_folder_and_file_of_another_model_are_no_vae(dsk, here, data):
    import numpy as np
    from safetensors.numpy import save_file

    save_vae(here / "unet", in_channels=4)
    assert "its config.json is of another model" in plan(dsk, vae="unet").err
    save_file({"x": np.zeros(2, np.float32)}, here / "lora.safetensors")
    ended = plan(dsk, vae="lora.safetensors")
    assert ended.code == Exit.MODEL and "is not a VAE" in ended.err


@pytest.mark.parametrize("kind", ["link", "file"])
def test_reg_that_is_no_folder_is_an_error(dsk, data, kind):
    reg = data / "reg"
    if kind == "link":
        reg.symlink_to("unmounted", target_is_directory=True)
    else:
        reg.write_text("")
    ended = plan(dsk)
    assert ended.code == Exit.DATASET
    assert "the run would go on without regularisation" in ended.err
    reg.rename(data / "other")
    assert plan(dsk).code == 0


def test_concept_folders_one_level_deeper_get_a_hint_that_works(dsk, data):
    deeper = data / "train" / "set"
    deeper.mkdir()
    (data / "train" / "1_kitsu").rename(deeper / "1_kitsu")
    ended = plan(dsk)
    assert ended.code == Exit.DATASET and "name ds/train/set" in ended.err
    assert find_subsets(deeper, TrainOptions(**SMALL))[0][0].folder == deeper / "1_kitsu"


def test_images_beside_an_empty_concept_folder_get_a_next_step(dsk, data):
    concept = data / "train" / "1_kitsu"
    for path in list(concept.iterdir()):
        path.rename(data / "train" / path.name)
    ended = plan(dsk)
    assert ended.code == Exit.DATASET
    assert "1_kitsu has no images; move its images into" in ended.err


def test_black_masks_are_left_out_by_name(data):
    folder = data / "train" / "1_kitsu"
    (folder / "masks").mkdir()
    Image.new("L", (64, 64), 0).save(folder / "masks" / "0.png")
    options = TrainOptions(**{**SMALL, "masked_loss": True})
    made = make_plan(find_subsets(data, options)[0], options)
    assert [failed.path.name for failed in made.failed] == ["0.png"]
    assert "is black" in made.failed[0].error
    run_checks.check_plan(options, made, run_checks.base_shapes(options))


def test_the_plan_names_the_number_of_preview_images_where_it_is_large(dsk, here, data):
    (here / "prompts.txt").write_text("kitsu\n" * 200)
    given = {"sample_prompts": "prompts.txt", "max_train_steps": 9}
    assert "preview images" not in plan(dsk, **given, sample_every_n_steps=2).err
    assert "generates 1,800 preview images, 200 at a time" in (
        plan(dsk, **given, sample_every_n_steps=1).err
    )


def test_the_plan_says_which_models_are_checked_after_their_download(dsk, here, data):
    base = {"pretrained_model_name_or_path": f"owner/base@{'a' * 40}"}
    ended = plan(dsk, **base, vae=f"owner/vae@{'b' * 40}")
    for what in ("base model: owner/base", "VAE: owner/vae"):
        assert f"{what} is not on this machine: the run downloads it, and checks it" in ended.out
    assert "downloads" not in plan(dsk).out
    assert "downloads" not in plan(dsk, pretrained_model_name_or_path="no such").out


def test_prompts_that_are_a_pipe_are_refused(dsk, here, data):
    os.mkfifo(here / "prompts.txt")
    ended = plan(dsk, sample_prompts="prompts.txt")
    assert ended.code == Exit.USAGE and "cannot read sample_prompts" in ended.err
