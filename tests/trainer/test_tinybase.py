"""The tiny base: images match their tags, stages survive a kill, and the shipped files generate."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from datasetkit.captions import tokens
from datasetkit.core.errors import ModelFileError
from trainer.families import sd
from trainer.plan import model_shapes
from trainer.tinybase import shipped
from trainer.tools.tinybase import (
    autoencoder,
    data,
    denoise,
    draw,
    judge,
    linear_init,
    model,
    resumable_training,
    text,
)
from trainer.tools.tinybase.resumable_training import TrainingStage

SEEDS = st.integers(0, 10_000).map(random.Random)


def colours(tags):
    """The pairs of hair and background: one, or none where a bald head has no colour of hair."""
    return [
        (h, b)
        for h in data.HAIR
        for b in data.BACKGROUND
        if f"{h} hair" in tags and f"{b} background" in tags
    ]


@given(SEEDS)
def test_a_training_portrait_never_has_a_held_out_pair_of_colours(rng):
    tags = data.portrait(rng, unseen=False).tags
    assert not any(data.held_out(*pair) for pair in colours(tags))


@given(SEEDS)
def test_a_held_out_portrait_has_a_pair_that_no_training_portrait_has(rng):
    tags = data.portrait(rng, unseen=True).tags
    assert all(data.held_out(*pair) for pair in colours(tags))
    assert colours(tags) or "bald" in tags


def test_each_colour_of_hair_is_seen_with_all_backgrounds_but_one_at_most():
    for hair in data.HAIR:
        assert sum(data.held_out(hair, background) for background in data.BACKGROUND) <= 1
    assert sum(data.held_out(h, b) for h in data.HAIR for b in data.BACKGROUND) == 9


def test_a_portrait_is_drawn_in_the_colours_of_its_tags():
    pytest.importorskip("dicebear")
    found = data.portrait(random.Random(3))
    image = found.draw()
    assert image.shape == (64, 64, 3)
    assert np.array_equal(image, data.portrait(random.Random(3)).draw())
    wanted = dict(found.parts)["backgroundColor"]
    assert image[1, 1].tolist() == [int(wanted[i : i + 2], 16) for i in (0, 2, 4)]


@given(SEEDS)
def test_a_caption_holds_tags_of_the_portrait_and_one_stray_word_at_most(rng):
    tags = data.portrait(rng).tags
    words = data.caption(tags, rng, empty=0, stray=0.5).split(", ")
    assert len([word for word in words if word not in tags and word]) <= 1
    assert len(set(words)) == len(words)


def test_a_caption_is_at_times_empty():
    rng = random.Random(0)
    assert {data.caption(("1girl", "smile"), rng, empty=0.5) == "" for _ in range(50)} == {
        True,
        False,
    }


def test_position_of_a_tags_end_predicts_that_tag():
    names = ("blue hair", "glasses", "smile")
    ends, numbers = text.tag_ends("glasses, qqx, blue hair", names)
    assert numbers == [1, 0]
    ids = tokens.ids("glasses, qqx, blue hair")
    asked = {place: number for place, number in enumerate(ends) if number != text.NOTHING}
    assert [tokens.ids(word)[-2] for word in ("glasses", "hair")] == [ids[place] for place in asked]
    assert list(asked.values()) == [1, 0]


def test_empty_caption_predicts_no_tag():
    assert text.tag_ends("", ("smile",)) == ([text.NOTHING] * 77, [])


@given(st.integers(0, 99), st.integers(100, 4000))
def test_longer_stage_is_the_same_until_the_rate_decays(step, steps):
    short, long = (
        TrainingStage("a", steps, 1e-3, warmup=10, fall=0.3),
        TrainingStage("a", 2 * steps, 1e-3, warmup=10, fall=0.3),
    )
    if step < 0.7 * steps:
        assert short.rate(step) == long.rate(step)
    assert 0 < short.rate(min(step, steps - 1)) <= 1


def _learn(work, steps, kill_at=None):
    torch.manual_seed(0)
    learner = nn.ModuleDict({"line": nn.Linear(3, 1)})
    plan = TrainingStage("line", steps, 1e-2, warmup=2)

    def loss(step):
        if step == kill_at:
            raise KeyboardInterrupt
        seen = torch.randn((8, 3), generator=plan.draws(step))
        return (learner["line"](seen) - seen.sum(dim=1, keepdim=True)).square().mean()

    return resumable_training.train_stage(plan, learner, loss, work)["line"].weight


def test_killed_stage_ends_like_an_uninterrupted_one(tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    expected = _learn(whole, 30)
    monkeypatch.setattr(resumable_training, "_STATE_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        _learn(parts, 30, kill_at=17)
    assert torch.equal(_learn(parts, 30), expected)


def test_average_forgets_the_initial_weights():
    update = resumable_training._ema(0.999)
    average, weights_ = [torch.full((1,), 100.0)], [torch.zeros(1)]
    for count in range(200):
        update(average, weights_, torch.tensor(count))
    assert abs(average[0].item()) < 1e-3


@given(st.integers(1, 64), st.integers(0, 100))
def test_timesteps_of_a_batch_are_evenly_spread(count, seed):
    t = denoise.timesteps(count, torch.Generator().manual_seed(seed))
    assert [int(value) * count // 1000 for value in t] == list(range(count)) or max(t) < 1000
    assert (t.diff() >= 0).all() and int(t[0]) >= 0 and int(t[-1]) <= 999


def test_scaled_latents_have_unit_deviation_and_decode_as_before():
    vae = model.parts(0)[2].eval()
    renders = np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), np.uint8)
    images = autoencoder.pixels(renders[:4])
    with torch.no_grad():
        before = vae.encode(images).latent_dist
        back = vae.decode(before.mean).sample
        autoencoder.scale_latents(vae, renders)
        after = vae.encode(images).latent_dist
        assert torch.allclose(vae.decode(after.mean).sample, back, atol=1e-4)
        scaled = vae.encode(autoencoder.pixels(renders)).latent_dist.mean * sd.LATENT_SCALE
    assert torch.allclose(scaled.std(dim=(0, 2, 3)), torch.ones(model.CHANNELS), atol=1e-3)
    assert scaled.mean(dim=(0, 2, 3)).abs().max() < 1e-3
    ratio = (after.std / before.std).mean(dim=(0, 2, 3)) / (
        after.mean.std(dim=(0, 2, 3)) / before.mean.std(dim=(0, 2, 3))
    )
    assert torch.allclose(ratio, torch.ones(model.CHANNELS), atol=1e-3)


def test_vae_starts_with_each_patchs_mean_colour():
    vae = model.parts(0)[2].eval()
    noise = np.random.default_rng(0).integers(0, 256, (8, 16, 16, 3), np.uint8)
    renders = np.stack(
        [np.asarray(Image.fromarray(n).resize((64, 64), Image.Resampling.BICUBIC)) for n in noise]
    )
    linear_init.initialize(vae, renders)
    images = autoencoder.pixels(renders)
    with torch.no_grad():
        back = vae.decode(vae.encode(images).latent_dist.mean).sample
    blocks = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(images, 4), scale_factor=4.0
    )
    assert (back - blocks).abs().mean() < 0.2 * (blocks - blocks.mean()).abs().mean()


def test_crop_of_an_image_is_a_quarter_of_it():
    images = torch.arange(64.0).expand(2, 3, 64, 64)
    made = autoencoder.part(images, torch.Generator().manual_seed(0))
    assert made.shape == (2, 3, 32, 32)
    assert (made.diff(dim=3) == 1).all()


def test_recoloured_images_keep_their_content():
    images = torch.rand((8, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    made = autoencoder.varied(images, torch.Generator().manual_seed(1))
    assert not torch.equal(made, images)
    assert torch.allclose(made.flatten(1).sort().values, images.flatten(1).sort().values)


def test_model_is_small():
    parts = model.parts(0)
    assert 2 * sum(p.numel() for part in parts for p in part.parameters()) <= 20_000_000


def test_a_seed_makes_the_same_weights():
    once, again = model.parts(5), model.parts(5)
    for a, b in zip(once, again, strict=True):
        assert all(
            torch.equal(x, y)
            for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
        )


def test_judge_expects_no_hair_colour_of_a_bald_head():
    assert judge.right("hair", ("1boy", "bald", "red background")) is None
    assert judge.right("hair", ("1girl", "red hair")) == "red hair"
    assert judge.right("glasses", ("1girl",)) == ""


def test_a_grid_shows_every_image():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.full(
        (5, 64, 64, 3), 40, np.uint8
    )
    sheet = np.asarray(draw.grid(images, 3, enlarge=1))
    assert {tuple(sheet[y, x]) for y in (36, 104) for x in (36, 104, 172)} == {
        (0, 0, 0), (40, 40, 40), (80, 80, 80), (120, 120, 120), (160, 160, 160), (255, 255, 255),
    }  # fmt: skip


# What is shipped.


def test_tiny_is_the_shipped_base_and_a_path_is_itself():
    assert shipped.located("tiny") == str(shipped.FOLDER)
    assert shipped.located("./tiny") == "./tiny"
    assert model_shapes.read("tiny") is not None


def test_shipped_files_are_complete_and_small():
    shipped.check()
    assert sum((shipped.FOLDER / name).stat().st_size for name in shipped.SHA256) <= 20_000_000


def test_changed_file_is_an_error(tmp_path, monkeypatch):
    name = next(iter(shipped.SHA256))
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"other")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(ModelFileError, match="another sha256"):
        sd.load("tiny")
    (tmp_path / name).unlink()
    with pytest.raises(ModelFileError, match="cannot be read"):
        sd.load("tiny")


@pytest.fixture(scope="module")
def base():
    return sd.load("tiny")


@pytest.mark.long
def test_base_generates_the_background_of_the_prompt(base):
    colours = ["red", "yellow", "green", "blue", "purple", "white"]
    prompts = [
        f"1girl, black hair, long hair, {colour} background, white shirt, smile"
        for colour in colours
    ]
    corners = (
        draw.draw(base, prompts, steps=12)[:, :6, :6].reshape(len(colours), -1, 3).mean(axis=1)
    )
    middles = {name: np.mean([_rgb(data.shade(shade, random.Random(n))) for n in range(20)], axis=0)
               for name, shade in data.BACKGROUND.items()}  # fmt: skip
    found = [
        min(middles, key=lambda name: float(np.abs(middles[name] - corner).sum()))
        for corner in corners
    ]
    assert sum(a == b for a, b in zip(found, colours, strict=True)) >= 5, found


def _rgb(text_):
    return [int(text_[i : i + 2], 16) for i in (0, 2, 4)]


def test_seed_generates_the_same_image_in_any_batch(base):
    alone = draw.draw(base, ["1boy, smile"], seed=1, steps=2)
    together = draw.draw(base, ["1girl", "1boy, smile"], seed=0, steps=2)
    assert np.abs(alone[0].astype(int) - together[1]).max() <= 2
