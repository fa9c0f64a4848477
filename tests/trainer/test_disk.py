"""The plan's estimate of the disk space: which files are kept, and how large they are."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from datasetkit.cli import show_train
from datasetkit.verbs.shared.training_plan import plan_run
from tests.trainer import tiny, tiny_families
from trainer import random_dit, setup
from trainer.data import run_captions
from trainer.families import registry
from trainer.plan import disk, encoded_captions, model_shapes, token_limit
from trainer.plan.memory import MemoryEstimate, MemoryShare, with_captions
from trainer.plan.plan import find_subsets, make_plan


@pytest.fixture
def options(tmp_path):
    """10 epochs of two steps."""
    return tiny.options(
        tmp_path / "base", tmp_path / "out", resolution=64, max_train_epochs=10, train_batch_size=2
    )


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    tiny.save_images(folder / "train" / "1_sks", [(64, 64)] * 4)
    return folder


@pytest.mark.parametrize(
    ("changes", "loras", "states"),
    [
        ({}, 10, 4),
        ({"save_state": False}, 10, 2),
        ({"save_every_n_epochs": 0}, 1, 2),
        ({"save_every_n_epochs": 3}, 4, 4),
        ({"save_every_n_epochs": 5}, 2, 3),
        ({"save_last_n_epochs": 3}, 4, 4),
        ({"save_every_n_epochs": 0, "save_every_n_steps": 4}, 5, 4),
        ({"lora_format": "both"}, 20, 4),
        ({"max_train_steps": 1}, 1, 0),
    ],
)
def test_files_are_counted_as_they_are_kept(data, options, changes, loras, states):
    options = replace(options, **changes)
    plan = make_plan(find_subsets(data, options)[0], options)
    estimate = disk.estimate(options, plan, None)
    assert (estimate.loras, estimate.states) == (loras, states)
    assert estimate.bytes == loras * estimate.lora + states * estimate.state


def test_a_state_has_weights_and_optimizer_and_the_average(data, options):
    def state(**changes):
        changed = replace(options, **changes)
        plan = make_plan(find_subsets(data, changed)[0], changed)
        return disk.estimate(changed, plan, None).state

    parameters = state() / (4 + 8)
    assert state(ema_decay=0.99) == parameters * (4 + 8 + 4)
    assert state(optimizer_type="Lion") == parameters * (4 + 4)


def test_a_disk_that_is_too_small_is_a_warning(tmp_path, capsys):
    estimate = disk.DiskEstimate(tmp_path, 1, 2e9, 0, 0, int(1e9))
    show_train._disk(estimate)
    assert "has less space" in capsys.readouterr().err
    show_train._disk(replace(estimate, free=int(3e9)))
    assert capsys.readouterr().err == ""


def test_free_space_of_a_folder_to_come_is_that_of_the_one_above(tmp_path, monkeypatch):
    seen = []

    def usage(path):
        seen.append(path)
        return SimpleNamespace(free=7)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert disk._free(tmp_path / "not" / "there") == 7 and seen == [tmp_path]


# ---- encoded captions


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        ({"shuffle_caption": True}, 40),
        ({"shuffle_caption": True, "text_wordings": 3}, 12),
        ({"shuffle_caption": True, "text_wordings": 30}, 40),
        ({"caption_tag_dropout_rate": 0.1}, 40),
        ({}, 4),
        ({"enable_wildcard": True}, 4),
    ],
)
def test_captions_that_vary_have_a_text_for_each_wording(data, options, changes, texts):
    options = replace(options, **({"shuffle_caption": False} | changes))
    plan = make_plan(find_subsets(data, options)[0], options)
    assert encoded_captions.texts(options, plan) == texts
    encoded = set(run_captions.of_run(options, plan, ()))
    assert len(encoded) <= texts
    assert texts == 40 or len(encoded) == texts or "text_wordings" in changes


@pytest.mark.long
@pytest.mark.parametrize("family", ["sd1", "sdxl", *random_dit.BUILDERS])
def test_an_encoded_caption_is_as_large_as_the_plan_says(data, options, dit_base, tmp_path, family):
    if family == "sd1":
        base = tiny.save_small(tmp_path / "sd1")
    elif family == "sdxl":
        base = tiny_families.save_pipeline(tmp_path / "sdxl", "sdxl", "epsilon")
    else:
        base = dit_base(family)
    options = replace(
        options, pretrained_model_name_or_path=str(base), network_train_unet_only=True,
        cache_text_encoder_outputs=True, cache_text_encoder_outputs_to_disk=True,
        text_encoder_lr=0.0,
    )  # fmt: skip
    shapes = model_shapes.read(str(base))
    assert shapes is not None
    plan = make_plan(find_subsets(data, options)[0], options)
    count = token_limit.of_base(options).count
    captions = encoded_captions.estimate(options, plan, shapes, count("sks, a fox girl"))
    estimate = disk.estimate(options, plan, shapes, captions)
    parts = setup.load_parts(options)
    encode = registry.family(family).encode_text
    with torch.no_grad():
        row = encode(parts, ["sks, a fox girl"], clip_skip=1, max_tokens=75).rows()[0]
    assert estimate.texts > 0
    # The random Krea 2 has 3 of 12 layers, and more tokens behind a caption.
    size, within = (4 * row.states.nbytes, 0.06) if family == "krea2" else (row.states.nbytes, 0.03)
    assert estimate.text == pytest.approx(size, rel=within)
    assert estimate.bytes > estimate.texts * estimate.text


def z_image(options, dit_base, **changes):
    base = str(dit_base("z-image"))
    return replace(options, pretrained_model_name_or_path=base, text_encoder_lr=0.0, **changes)


@pytest.mark.parametrize("changes", [{}, {"shuffle_caption": True, "text_wordings": 2}])
def test_captions_in_main_memory_are_as_large_as_the_plan_says(
    data, options, dit_base, tmp_path, changes
):
    for n, path in enumerate(sorted(data.rglob("*.txt"))):
        path.write_text(f"sks, a, fox, girl, of, many, words, {n}\n")
    options = z_image(options, dit_base, **({"shuffle_caption": False} | changes))
    plan = make_plan(find_subsets(data, options)[0], options)
    shapes = model_shapes.read(options.pretrained_model_name_or_path)
    assert shapes is not None
    texts = list(run_captions.of_run(options, plan, ()))
    _, states = setup.load_and_encode(options, texts, tmp_path)
    assert states is not None
    kept = states._all.values()
    tokens = token_limit.of_base(options).count(plan.images[0].caption)
    captions = encoded_captions.estimate(options, plan, shapes, tokens)
    assert captions.count == len(kept) == (8 if changes else 4)
    assert sum(row.nbytes for row in kept) == pytest.approx(captions.bytes, rel=0.05)


def test_the_plan_counts_captions_in_main_memory_once_for_each_process(data, options, dit_base):
    def planned(processes=1, **changes):
        return plan_run(data, z_image(options, dit_base, **changes), processes=processes).memory

    kept = planned()
    assert kept.captions is not None and kept.captions.how.startswith("at most 40 x ")
    on_disk = planned(cache_text_encoder_outputs_to_disk=True, cache_text_encoder_outputs=True)
    assert on_disk.captions is None
    assert kept.loading == on_disk.loading + kept.captions.bytes
    assert kept.bytes == on_disk.bytes
    two = planned(processes=2)
    assert two.captions is not None and two.captions.how.endswith("x 2 processes")
    assert planned(cache_text_encoder_outputs=False).captions is None


def test_captions_in_main_memory_are_printed(capsys):
    captions = MemoryShare("encoded captions", 4.2e9, "at most 1,000 x 4.20 MB")
    shares = (MemoryShare("weights", 6e9, "6 G parameters x 1 byte"),)
    estimate = with_captions(MemoryEstimate(shares, 7e9, assumed=False), captions)
    show_train._memory(estimate, in_parts=True)
    printed = capsys.readouterr().out
    assert "4.2 GB" in printed and "1,000 x 4.20 MB" in printed and "11.2 GB" in printed
    show_train._memory(estimate, in_parts=False)
    assert "11.2 GB of main memory while loading, with the encoded" in capsys.readouterr().out


def test_captions_in_main_memory_take_no_disk(data, options, dit_base):
    options = replace(options, pretrained_model_name_or_path=str(dit_base("z-image")))
    plan = make_plan(find_subsets(data, options)[0], options)
    shapes = model_shapes.read(str(dit_base("z-image")))
    assert shapes is not None
    captions = encoded_captions.estimate(options, plan, shapes, 20)
    assert captions.count and not captions.on_disk
    assert disk.estimate(options, plan, shapes, captions).texts == 0


def test_too_many_encoded_captions_are_a_warning_that_says_what_to_do(tmp_path, capsys):
    estimate = disk.DiskEstimate(tmp_path, 1, 1e6, 0, 0, int(1e9), 1000, 4e6)
    show_train._disk(estimate)
    printed = capsys.readouterr()
    assert "1,000 encoded captions" in printed.out and "set text_wordings" in printed.err
