"""A run learns: the loss on a fixed grid of noise and timesteps falls, and one image can be
overfitted.
"""

import pytest
import torch

from tests.trainer import tiny
from tests.trainer.test_loop import ready
from trainer.loop import steps
from trainer.objective import losses, noise
from trainer.plan import size_conditioning

TIMESTEPS = (50, 200, 400, 600, 800, 950)
NOISES = 4


@torch.no_grad()
def grid_loss(run, image):
    """Return the mean loss of an image over all timesteps and noises of the grid, each the same at
    every call.
    """
    moments = run.encoder.moments(image, image.bucket.crop, False)
    latent = (moments.mean * run.family.LATENT_SCALE)[None].repeat(NOISES, 1, 1, 1)
    told = size_conditioning.of_sample(image, image.bucket.crop, False)
    text = run.texts.states([image.caption] * NOISES).sized(
        torch.tensor([told] * NOISES, dtype=torch.float32)
    )
    found = []
    for t in TIMESTEPS:
        eps = torch.randn(latent.shape, generator=torch.Generator().manual_seed(t))
        timesteps = torch.full((NOISES,), t)
        noisy = noise.add_noise(latent, eps, timesteps, run.process.alphas)
        predicted = run.family.predict(run.parts, noisy, timesteps, text)
        target = losses.TARGETS[run.process.prediction](latent, eps, timesteps, run.process.alphas)
        found.append(losses.mse(predicted, target, None).mean())
    return float(torch.stack(found).mean())


@pytest.mark.long
def test_24_steps_lower_the_loss_on_a_fixed_grid(data, model, tmp_path):
    options = tiny.options(
        model, tmp_path, max_train_steps=24, lr_scheduler="constant", learning_rate=0.03,
        text_encoder_lr=0.03,
    )  # fmt: skip
    run = ready(data, options)
    before = [grid_loss(run, image) for image in run.plan.images]
    assert before == [grid_loss(run, image) for image in run.plan.images]
    assert len(list(steps(run))) == 24
    after = [grid_loss(run, image) for image in run.plan.images]
    assert sum(after) < 0.95 * sum(before), (before, after)


@pytest.mark.slow
def test_one_image_can_be_overfitted(model, tmp_path):
    folder = tiny.save_images(tmp_path / "data" / "train" / "4_sks", [(128, 128)])
    options = tiny.options(
        model, tmp_path, train_batch_size=4, max_train_steps=80, learning_rate=0.03,
        lr_scheduler="constant", min_timestep=600, max_timestep=1000,
    )  # fmt: skip
    run = ready(folder.parents[1], options)
    (image,) = run.plan.images
    before = grid_loss(run, image)
    list(steps(run))
    assert grid_loss(run, image) < 0.93 * before
