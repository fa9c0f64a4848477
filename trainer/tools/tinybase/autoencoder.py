"""The second stage: the VAE, which is taught by images alone, and the latents that it makes of
the portraits.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasetkit.core.files import write_atomic
from trainer.families.sd import LATENT_SCALE
from trainer.tools.tinybase.resumable_training import Loss, TrainingStage

BATCH: Final = 16
_OTHERS: Final = (
    4  # of a batch: drawings of other kinds, so that the VAE can hold what a LoRA brings
)
_SLOPES: Final = 1.0  # weight of the differences of neighbours, which keep lines sharp
# weight of the divergence, mean over the latent's numbers: latents stay smooth, and sharp enough
_KL: Final = 5e-4
_AT_ONCE: Final = 200  # images that are encoded together


def pixels(images: NDArray[np.uint8]) -> Tensor:
    """Return images (n, h, w, 3) as the VAE reads them: (n, 3, h, w), from -1 to 1."""
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def loss(
    stage: TrainingStage, vae: Any, portraits: NDArray[np.uint8], others: NDArray[np.uint8]
) -> Loss:
    """Return the loss of a step: what of its images does not come back."""

    def of_step(step: int) -> Tensor:
        draws = stage.draws(step)
        images = torch.cat(
            [_some(portraits, BATCH - _OTHERS, draws), _some(others, _OTHERS, draws)]
        )
        images = varied(images, draws)
        if step < stage.steps * (1 - stage.fall):
            images = part(images, draws)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            latent = vae.encode(images).latent_dist
            back = vae.decode(latent.sample(draws)).sample.float()
        loss: Tensor = difference(back, images) + _KL * latent.kl().mean() / latent.mean[0].numel()
        return loss

    return of_step


def _some(images: NDArray[np.uint8], count: int, draws: torch.Generator) -> Tensor:
    chosen = torch.randint(len(images), (count,), generator=draws).numpy()
    return pixels(images[np.sort(chosen)])


def varied(images: Tensor, draws: torch.Generator) -> Tensor:
    """Mirror half of the images, and give half of them other colours: the VAE should represent
    more than portraits.
    """
    varied_images = []
    for image, (mirror, recolour) in zip(
        images, torch.rand((len(images), 2), generator=draws).tolist(), strict=True
    ):
        if mirror < 0.5:
            image = image.flip(2)
        if recolour < 0.5:
            image = image[torch.randperm(3, generator=draws)]
        varied_images.append(image)
    return torch.stack(varied_images)


def part(images: Tensor, draws: torch.Generator) -> Tensor:
    """Cut a quarter out of each image: steps are four times as quick, and at first that
    counts.
    """
    side = images.shape[2] // 2
    corners = torch.randint(side + 1, (len(images), 2), generator=draws).tolist()
    return torch.stack(
        [i[:, y : y + side, x : x + side] for i, (y, x) in zip(images, corners, strict=True)]
    )


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Return the mean difference of images, and of their slopes."""
    slopes = [(a.diff(dim=side) - b.diff(dim=side)).abs().mean() for side in (2, 3)]
    return (a - b).abs().mean() + _SLOPES * torch.stack(slopes).mean()


@torch.no_grad()
def scale_latents(vae: Any, portraits: NDArray[np.uint8]) -> None:
    """Write the latents' mean and deviation into the VAE: times LATENT_SCALE each channel has mean
    0, deviation 1.
    """
    parts = [vae.encode(pixels(part)).latent_dist.mean for part in np.array_split(portraits, 20)]
    latents = torch.cat(parts)
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    into, out_of = vae.quant_conv, vae.post_quant_conv
    channels = len(mean)
    scale = 1 / (spread * LATENT_SCALE)
    into.weight[:channels] *= scale[:, None, None, None]
    into.bias[:channels] = (into.bias[:channels] - mean) * scale
    into.bias[channels:] += 2 * scale.log()  # of the variance's logarithm
    out_of.bias += out_of.weight[:, :, 0, 0] @ mean
    out_of.weight /= scale[None, :, None, None]


@torch.no_grad()
def encode(vae: Any, portraits: NDArray[np.uint8], path: Path) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each image's latent, scaled, float16 of (n, 8, 16, 16); kept
    in `path`.
    """
    if not path.is_file():
        means, spreads = [], []
        for start in range(0, len(portraits), _AT_ONCE):
            with torch.autocast("cpu", torch.bfloat16):
                latents = vae.encode(pixels(portraits[start : start + _AT_ONCE])).latent_dist
            means.append((latents.mean.float() * LATENT_SCALE).half())
            spreads.append((latents.std.float() * LATENT_SCALE).half())
        from safetensors.torch import save

        write_atomic(
            path,
            save(
                {"mean": torch.cat(means).contiguous(), "spread": torch.cat(spreads).contiguous()}
            ),
        )
    from safetensors.torch import load_file

    kept = load_file(path)
    return kept["mean"], kept["spread"]
